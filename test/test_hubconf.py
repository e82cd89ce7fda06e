"""torch.hub finds every model in the clone, and builds what `create_model` builds."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import hubconf
from detectors import small_options
from models import AUTHORS_NAMES, WeightsError, create_model, list_models
from pretrained import PretrainedConfig, write_pretrained

ENTRIES = {name: value for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
"""As torch.hub finds them."""


def load(name: str, *arguments, **options):
    return torch.hub.load(str(ROOT), name, *arguments, source="local", **options)


def test_every_model_is_there_and_nothing_else():
    assert sorted(ENTRIES) == sorted([*list_models(), *AUTHORS_NAMES, "from_pretrained", "segmentor", "detector"])


def test_every_entry_explains_itself():
    for name, entry in ENTRIES.items():
        assert "Args:\n" in entry.__doc__ and "num_classes: " in entry.__doc__, name
    assert "3 x 8 x 224 x 224, 33.7 M parameters. Kinetics-400, 8 frames" in hubconf.glore_resnet50_3d.__doc__


@pytest.mark.parametrize("name", list_models("*debug*"))
def test_a_model_is_that_of_create_model(name):
    found, expected = load(name, num_classes=5).state_dict(), create_model(name, num_classes=5).state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}


def test_the_authors_names_work():
    with torch.device("meta"):
        assert hubconf.eat_progress3_patch16_224(num_classes=5).model_name == "eat_tiny"


def test_weights_come_from_a_file(tmp_path):
    expected = create_model("glore_resnet_debug_3d", num_classes=5, dropout=0.5)
    torch.save(expected.state_dict(), tmp_path / "weights.pth")
    found = load("glore_resnet_debug_3d", num_classes=5, dropout=0.5, weights=tmp_path / "weights.pth")
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())


def test_a_folder_is_enough(tmp_path):
    expected = create_model("eat_debug", num_classes=5)
    write_pretrained(tmp_path, expected, PretrainedConfig(architecture="eat_debug", num_classes=5), "", {})
    found = load("from_pretrained", str(tmp_path))
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())
    for source in (tmp_path, tmp_path / "model.safetensors"):
        found = load("eat_debug", num_classes=5, weights=source)
        assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())


def test_another_projects_module_of_the_same_name_is_reported(tmp_path):
    (tmp_path / "models.py").write_text("")
    code = f"import torch, models; torch.hub.load({str(ROOT)!r}, 'eat_debug', source='local')"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 1
    assert (
        f"ImportError: {tmp_path / 'models.py'} is already imported as 'models', a name that {ROOT} needs"
        in done.stderr
    )


def test_every_module_that_networks_need_is_checked():
    code = f"""
import sys, torch
from pathlib import Path

for entry, backbone in (("segmentor", "eat_debug"), ("detector", "hornet_debug_gf")):
    torch.hub.load({str(ROOT)!r}, entry, backbone, source="local", num_classes=2)
for name, module in sys.modules.items():
    parents = Path(getattr(module, "__file__", None) or "/a/b").parents
    if "." not in name and Path({str(ROOT)!r}) in (parents[0], parents[1]):
        print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd="/", text=True, capture_output=True, check=True)
    only_for_files = {"inert_pickle"}
    assert set(done.stdout.split()) - {"glore3d", "eurgraph"} == set(hubconf._OWN_NAMES) - only_for_files


def test_an_unknown_option_is_reported():
    with pytest.raises(ValueError, match="no option of glore_resnet_debug_3d is called 'dropot'; did you mean 'drop"):
        load("glore_resnet_debug_3d", dropot=0.5)
    with pytest.raises(ValueError, match=r"glore_resnet_debug_3d has no weights to download: .* weights=FILE"):
        load("glore_resnet_debug_3d", pretrained=True)
    load("eat_debug", pretrained=False)


@pytest.mark.parametrize("entry", ["segmentor", "detector"])
def test_networks_for_scenes_take_files_of_their_own_and_of_backbones(entry, tmp_path):
    options = {"channels": 16} if entry == "segmentor" else {"head_options": small_options("mask_rcnn")}
    model = load(entry, "hornet_debug_7x7", num_classes=3, **options)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = load(entry, "hornet_debug_7x7", num_classes=3, weights=tmp_path / "weights.pth", **options).state_dict()
    assert all(torch.equal(value, found[key]) for key, value in model.state_dict().items())
    torch.save(create_model("hornet_debug_7x7", num_classes=5).state_dict(), tmp_path / "classifier.pth")
    started = load(entry, "hornet_debug_7x7", num_classes=3, pretrained=tmp_path / "classifier.pth", **options)
    stem = "downsample_layers.0.0.weight"
    expected = torch.load(tmp_path / "classifier.pth", weights_only=True)[stem]
    assert torch.equal(started.state_dict()[f"backbone.{stem}"], expected)
    with pytest.raises(WeightsError, match="contains a backbone or a classifier"):
        load(entry, "hornet_debug_7x7", num_classes=3, weights=tmp_path / "classifier.pth", **options)
    load(entry, "hornet_debug_7x7", num_classes=3, pretrained=False, **options)
    with pytest.raises(ValueError, match="pretrained=True: there are no weights to download; use pretrained=FILE"):
        load(entry, "hornet_debug_7x7", num_classes=3, pretrained=True, **options)
    with pytest.raises(ValueError, match="head is called 'upernett'"):
        load(entry, "hornet_debug_7x7", num_classes=3, head="upernett")
