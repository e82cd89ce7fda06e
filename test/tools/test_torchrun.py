"""How a run ended, by its exit status: told to stop, failed, killed."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

SAVES_WHEN_TOLD = """
import os, pathlib, signal, sys, time

def save(*_):
    pathlib.Path(sys.argv[1], "saved" + os.environ["RANK"]).touch()
    sys.exit(75)

signal.signal(signal.SIGUSR1, save)
pathlib.Path(sys.argv[1], "ready" + os.environ["RANK"]).touch()
time.sleep(60)
"""


def start_run(folder, program: str, *options) -> subprocess.Popen:
    """Two processes of `program`, which gets `folder` as its argument."""
    (folder / "program.py").write_text(program)
    line = [sys.executable, "tools/torchrun.py", "--standalone", "--nproc-per-node", "2", *options]
    line += [str(folder / "program.py"), str(folder)]
    return subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_run_that_is_told_to_stop_saves_and_says_so(tmp_path):
    run = start_run(tmp_path, SAVES_WHEN_TOLD, "--max-restarts", "3")
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.1)
    run.send_signal(signal.SIGUSR1)
    assert run.wait(40) == 75
    assert all((tmp_path / f"saved{rank}").exists() for rank in (0, 1))


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("import os; os.kill(os.getpid(), 9)", 137),
        pytest.param("raise SystemExit(2)", 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_fails_ends_with_the_status_of_the_first(tmp_path, program, status):
    run = start_run(tmp_path, program)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == status
    assert "Traceback" not in said and f"exited with status {status}" in said
