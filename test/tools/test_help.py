"""Every script starts as a process of its own, and explains itself."""

import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*(ROOT / "tools").glob("*.py"), *(ROOT / "test").glob("test-*.py")]
    if 'if __name__ == "__main__"' in path.read_text()
)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_starts_and_explains_itself(script):
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("usage:"), done.stderr


def test_no_script_is_missed():
    assert {"tools/train.py", "tools/predict.py", "tools/show_data.py", "test/test-single-clip.py"} <= set(SCRIPTS)
