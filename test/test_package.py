"""What `pip install .` installs: the packages `glore3d` and `eurgraph`, which stand by themselves."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT
from test_house import imports_of

import eurgraph
import glore3d

PACKAGES = ("glore3d", "eurgraph")
INSTALLED = {"einops", "numpy", "timm", "torch", "torch_geometric", "torchvision"}
IN_A_PROJECT = """
import torch
from glore3d import GloReUnit
unit = GloReUnit(num_in=64, num_mid=16, dim=2)
assert unit(torch.zeros(2, 64, 14, 14)).shape == (2, 64, 14, 14)

from eurgraph.conv import GRMPConv
layer = GRMPConv(8, 16, num_relations=2)
assert layer(torch.zeros(3, 8), torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 1])).shape == (3, 16)

import glore3d, eurgraph
from importlib.metadata import version
from importlib.util import find_spec
assert glore3d.__version__ == eurgraph.__version__ == version("video-graph-reasoning")
assert find_spec("settings") is None and find_spec("models") is None
print(glore3d.__file__, eurgraph.__file__)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_itself_and_installed_libraries_only(package):
    found = {name for path in (ROOT / package).glob("*.py") for name in imports_of(ast.parse(path.read_text()))}
    roots = {name.partition(".")[0] for name in found}
    assert roots - sys.stdlib_module_names - {package} <= INSTALLED


def test_both_have_one_version():
    assert glore3d.__version__ == eurgraph.__version__


@pytest.mark.slow
@pytest.mark.needs("setuptools")
def test_a_wheel_holds_todays_packages_and_works_without_the_clone(tmp_path):
    source, target = tmp_path / "clone", tmp_path / "installed"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "settings.py", "models.py"):
        shutil.copy(ROOT / name, source)
    stale = {"build/lib/glore3d/removed.py": "", "video_graph_reasoning.egg-info/PKG-INFO": "Version: 0.0.1\n"}
    stale |= {"build/lib/eurgraph/conv.py": "raise ImportError\n"}
    for name, text in stale.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    os.utime(source / "build/lib/eurgraph/conv.py", (4e9, 4e9))  # newer than the source

    offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip")
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    found = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    expected = [str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).glob("*.py")]
    assert wheel.name.startswith(f"video_graph_reasoning-{glore3d.__version__}-") and sorted(found) == sorted(expected)

    subprocess.run([*pip, "install", *offline, "--target", target, wheel], check=True)
    (tmp_path / "project").mkdir()
    line = [sys.executable, "-W", "ignore", "-c", IN_A_PROJECT]
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run(line, cwd=tmp_path / "project", env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(target / package / "__init__.py") for package in PACKAGES]
