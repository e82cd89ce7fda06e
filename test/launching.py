"""Starts the suite's scripts for the tests: as processes of their own, or forked from one that has them all imported.

A Python that imports the suite needs about six seconds of a core before it does anything. `multiprocessing`'s fork
server pays that once: a forked script is there in milliseconds. It is still a process with a session, an environment
and files for its output of its own, and under torchrun the agent and its restarts are torchrun's: only the start of a
rank is a fork. What a fork cannot show, because it inherits it (imports, hash seed, the shell's part), is shown by the
tests that pass `fork=False`.
"""

import atexit
import contextlib
import functools
import multiprocessing
import os
import random
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

ROOT = Path(__file__).resolve().parent.parent
PRELOADED = (
    "pytest",  # the main module of the tests, which multiprocessing imports in every process
    "launching",
    "tools.train",
    "tools.evaluate",
    "tools.predict",
    "tasks.clip_classification",
    "tasks.image_classification",
    "torch_geometric.nn",
    "matplotlib.pyplot",
    "torch.utils.tensorboard",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.state_dict",
)
HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGCHLD)


def python_words(script: str | Path, *arguments, processes: int = 1, restarts: int = 0) -> list[str]:
    """The words after `python` that run a script; torchrun starts several processes, and one that may be restarted."""
    words = [str(script), *map(str, arguments)]
    if processes == 1 and not restarts:
        return words
    options = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    return ["-m", "torch.distributed.run", *options, *words]


def run_script(
    script: str | Path,
    *arguments,
    processes: int = 1,
    restarts: int = 0,
    num_threads: int = 1,
    environment: dict[str, str] | None = None,
    max_file_bytes: int | None = None,
    timeout: float = 300,
    check: bool = True,
    fork: bool = True,
    cwd: str | Path = ROOT,
) -> subprocess.CompletedProcess:
    """Runs a script of the suite to its end; `check`: it must end with 0."""
    words = python_words(script, *arguments, processes=processes, restarts=restarts)
    environment = os.environ | {"OMP_NUM_THREADS": str(num_threads)} | (environment or {})
    if fork:
        done = ForkedRun(words, environment, max_file_bytes, cwd).finish(timeout)
    else:
        assert max_file_bytes is None, "only forked scripts can be limited"
        line = [sys.executable, *words]
        done = subprocess.run(line, cwd=cwd, env=environment, text=True, capture_output=True, timeout=timeout)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def shell_environment(**changes: str) -> dict[str, str]:
    """The environment for a shell script of the suite that should find this Python; outside SLURM."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | changes


class ForkedRun:
    """A script that runs in a forked process, in a session of its own."""

    def __init__(
        self, words: list[str], environment: dict[str, str], max_file_bytes: int | None = None, cwd: str | Path = ROOT
    ):
        self.folder = tempfile.TemporaryDirectory()
        self.outputs = [str(Path(self.folder.name, name)) for name in ("stdout", "stderr")]
        arguments = (words, environment, self.outputs, max_file_bytes, cwd)
        self.process = fork_server().Process(target=become_script, args=arguments)
        self.process.start()
        self.pid = self.process.pid

    def finish(self, timeout: float) -> subprocess.CompletedProcess:
        """Waits for the end; raises subprocess.TimeoutExpired, and leaves nothing running, where it does not come."""
        try:
            self.process.join(timeout)
            if self.process.exitcode is None:
                raise subprocess.TimeoutExpired(self.process.name, timeout, *self._read())
        finally:
            if self.process.exitcode is None:
                self.process.terminate()  # torchrun passes it on to its ranks
                self.process.join(15)
                self.kill()
        return subprocess.CompletedProcess(self.process.name, self.process.exitcode, *self._read())

    def is_running(self) -> bool:
        return self.process.exitcode is None

    def kill(self) -> None:
        """SIGKILL to the process and to all that it started, but for ranks, which have sessions of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join()

    def _read(self) -> list[str]:
        return [Path(path).read_text() if os.path.exists(path) else "" for path in self.outputs]


def kill_training(arguments: Sequence, folder: Path, num_lines: int) -> None:
    """Starts a training run in `folder`, and kills it and its workers when it has written `num_lines` of metrics."""
    run = ForkedRun(python_words("tools/train.py", *arguments), os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline, metrics = time.monotonic() + 200, folder / "metrics.jsonl"
        while not metrics.exists() or len(metrics.read_text().splitlines()) < num_lines:
            assert run.is_running() and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        run.kill()


@functools.cache
def fork_server() -> multiprocessing.context.BaseContext:
    """The context of the fork server, which starts with the first run and ends with the tests."""
    context = multiprocessing.get_context("forkserver")
    forkserver._forkserver._stop()  # a dataloader of an earlier test may have started one, which has nothing imported
    context.set_forkserver_preload(list(PRELOADED))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "test"), *filter(None, [os.environ.get("PYTHONPATH")])])
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with mock.patch.dict(os.environ, one_thread | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": paths}):
        forkserver.ensure_running()
    return context


def become_script(
    words: list[str],
    environment: dict[str, str],
    outputs: list[str] | None = None,
    max_file_bytes: int | None = None,
    cwd: str | Path | None = None,
) -> None:
    """Turns this freshly forked process into `python *words`."""
    os.setsid()
    for number in HANDLED_SIGNALS:  # an agent's handlers are not those of its ranks
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, path in enumerate(outputs or (), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    os.environ.clear()
    os.environ.update(environment)
    if cwd is not None:
        os.chdir(cwd)
    random.seed()  # a new process has new seeds: a test of equal runs must not owe them to the fork
    np.random.seed()
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", 1)))
    status = _run_to_its_end(words[1:] if words[0] == "-u" else words)
    atexit._run_exitfuncs()  # a forked process leaves them out, and the suite's stop its data workers
    sys.exit(status)


def _run_to_its_end(words: list[str]) -> int | str | None:
    """Runs `python *words` and returns its exit status.

    What it raised is gone by then, with all objects of its frames, as in a Python that ends: a loader among them has
    stopped its workers, for which multiprocessing would wait.
    """
    SubprocessHandler._popen = _fork_rank
    try:
        if words[:2] == ["-m", "torch.distributed.run"]:
            torch.distributed.run.main(words[2:])
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        return end.code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _fork_rank(handler: SubprocessHandler, line: tuple[str, ...], environment: dict[str, str]) -> "_Rank":
    """In torchrun: forks where it would start `line`, a Python and its words."""
    process = multiprocessing.get_context("fork").Process(target=become_script, args=(list(line[1:]), environment))
    process.start()
    while os.getpgid(process.pid) != process.pid:  # torchrun signals to its group, which is there after setsid
        time.sleep(0.001)
    return _Rank(process)


class _Rank:
    """As much of `subprocess.Popen` as torchrun uses."""

    def __init__(self, process: multiprocessing.Process):
        self.pid, self._process = process.pid, process

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self._process.exitcode
