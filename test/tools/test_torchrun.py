"""tools/torchrun.py: its exit status says how the run ended (told to stop, failed, killed)."""

import os
import signal
import socket
import time

import pytest
from launching import ForkedRun

SAVES_WHEN_TOLD = """
import os, pathlib, signal, sys, time

def save(*_):
    pathlib.Path(sys.argv[1], "saved" + os.environ["RANK"]).touch()
    sys.exit(75)

signal.signal(signal.SIGUSR1, save)
pathlib.Path(sys.argv[1], "ready" + os.environ["RANK"]).touch()
time.sleep(60)
"""


def start_run(folder, program: str, *options) -> ForkedRun:
    """Two processes of `program`, which gets `folder` as its argument."""
    (folder / "program.py").write_text(program)
    words = ["tools/torchrun.py", "--standalone", "--nproc-per-node", "2", *options]
    return ForkedRun([*words, str(folder / "program.py"), str(folder)], os.environ | {"OMP_NUM_THREADS": "1"})


def test_a_run_that_is_told_to_stop_saves_and_ends_with_75(tmp_path):
    run = start_run(tmp_path, SAVES_WHEN_TOLD, "--max-restarts", "3")
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert run.is_running(), run.finish(0).stderr
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGUSR1)
    assert run.finish(40).returncode == 75
    assert all((tmp_path / f"saved{rank}").exists() for rank in (0, 1))


@pytest.mark.parametrize(
    ("program", "status"),
    [("import os; os.kill(os.getpid(), 9)", 137), pytest.param("raise SystemExit(2)", 2, marks=pytest.mark.slow)],
)
def test_a_run_that_fails_ends_with_the_status_of_the_first_failure(tmp_path, program, status):
    done = start_run(tmp_path, program).finish(60)
    assert done.returncode == status
    assert "Traceback" not in done.stderr and f"exited with status {status}" in done.stderr


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("127.0.0.1", "error: port PORT of 127.0.0.1 is in use, by another run or program"),
        ("a" * 100, "error: rendezvous: this machine cannot resolve the host 'aaa"),
        ("me@a1", "error: The hostname of the rendezvous endpoint 'me@a1:PORT' must be"),
    ],
)
def test_machines_that_cannot_meet(tmp_path, start, host, message):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        endpoint = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:{port}", "--rdzv-conf", "is_host=1"]
        arguments = ["--nnodes", 2, "--nproc-per-node", 1, *endpoint, "--local-addr", "127.0.0.1", "gone.py"]
        done = start("tools/torchrun.py", *arguments, check=False)
    assert done.returncode == 2 and done.stderr.startswith(message.replace("PORT", port)), done.stderr


@pytest.mark.slow
def test_the_same_from_the_shell(tmp_path, start):
    (tmp_path / "program.py").write_text("raise SystemExit(2)")
    done = start("tools/torchrun.py", "--standalone", tmp_path / "program.py", fork=False, check=False)
    assert done.returncode == 2 and "error: the process of rank 0 exited with status 2" in done.stderr
