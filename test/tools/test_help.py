"""Every script explains itself at once: it reads its arguments before it imports anything that takes long."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*(ROOT / "tools").glob("*.py"), *(ROOT / "test").glob("test-*.py")]
    if 'if __name__ == "__main__"' in path.read_text() and path.name != "torchrun.py"  # its options are torch's
)
PROGRAM = """
import contextlib, io, json, os, runpy, sys
import settings  # what every script needs: each starts as a fork of this process

for script in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv = [script, "--help"]
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
            runpy.run_path(script, run_name="__main__")
        heavy = {"torch", "numpy", "av", "PIL", "matplotlib", "tqdm"} & set(sys.modules)
        print(json.dumps([script, output.getvalue()[:6], sorted(heavy), len(sys.modules)]), flush=True)
        os._exit(0)
    os.wait()
"""
MOST_MODULES = 330
"""Python, pydantic and YAML are about 260. torch alone brings more than a thousand."""


@pytest.fixture(scope="module")
def started():
    """Script -> the start of what it prints for --help, the heavy libraries it imported, its number of modules."""
    words = [sys.executable, "-c", PROGRAM, *SCRIPTS]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {script: facts for script, *facts in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_explains_itself_before_it_imports_anything_heavy(started, script):
    output, heavy, num_modules = started[script]
    assert output == "usage:" and heavy == [] and num_modules <= MOST_MODULES


def test_no_script_is_missed():
    assert {"tools/train.py", "tools/predict.py", "tools/show_data.py", "test/test-single-clip.py"} <= set(SCRIPTS)
