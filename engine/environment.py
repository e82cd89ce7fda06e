"""What a run runs on: code, packages, machines. `environment.json` gets one entry per start of the run."""

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.allocator import allocator
from settings import SUITE

if TYPE_CHECKING:
    from engine.distributed import Ranks

PACKAGES = ("torch", "torchvision", "torch-geometric", "timm", "numpy", "av", "decord", "torchcodec", "safetensors")
LAUNCHER = "SUITE_LAUNCHER"
"""Environment variable in which tools/torchrun.py names itself, with a new name at each start."""
START_ONLY = ("started", "launch", "command", "folder")
"""Entries that differ between any two starts."""


def describe_environment(ranks: "Ranks", seed: int) -> dict[str, Any]:
    """The environment of this start, as plain types. Every rank must call it."""
    import torch  # imported here: tools that only read environments start without it

    device = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else processor_name()
    here = {"host": socket.gethostname(), "device": device, "commit": _git("rev-parse", "HEAD"), "launch": _launcher()}
    per_rank = ranks.broadcast(ranks.gather(here))
    commits = {facts.pop("commit") for facts in per_rank}
    launchers = [facts.pop("launch") for facts in per_rank]
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "launch": {
            "launchers": sorted({launcher.name for launcher in launchers}),
            "restarted_by": sorted({launcher.name for launcher in launchers if launcher.restarts}),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "slurm_restarts": _count("SLURM_RESTART_COUNT"),
        },
        "command": sys.argv,
        "folder": os.getcwd(),  # what relative paths of the recipe are relative to
        "commit": commits.pop() if len(commits) == 1 else sorted(map(str, commits)),  # a list if machines differ
        "uncommitted_changes": None if changes is None else changes.splitlines(),
        "seed": seed,
        "num_ranks": ranks.num_ranks,
        "ranks": per_rank,
        "num_threads": torch.get_num_threads(),
        "allocator": allocator(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cuda": torch.version.cuda if ranks.device.type == "cuda" else None,
        "packages": {name: package_version(name) for name in PACKAGES}
        | {"torch": torch.__version__},  # names the build, too
    }


class _Launcher(NamedTuple):
    """The process that started this one."""

    name: str
    restarts: bool
    """Whether it may have started this rank, or another, before."""


def _launcher() -> _Launcher:
    if name := os.environ.get(LAUNCHER):
        return _Launcher(name, True)
    return _Launcher(f"{socket.gethostname()}, process {os.getppid()}", _count("TORCHELASTIC_RESTART_COUNT") > 0)


def is_restart(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether the start `now` is a restart of the start `before`, by torchrun after a failure or by SLURM's requeue.

    Both are environments. One launcher in common is enough: each machine has its own, and some machines may have been
    replaced. Within a SLURM job, a start is a restart if the job was requeued in between.
    """
    now, before = now["launch"], before.get("launch")
    if not isinstance(before, dict):  # written by an older version, or missing
        return False
    is_requeued = now["slurm_job"] is not None and now["slurm_job"] == before["slurm_job"]
    is_requeued = is_requeued and now["slurm_restarts"] > before["slurm_restarts"]
    return is_requeued or not set(now["restarted_by"]).isdisjoint(before["launchers"])


def _count(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else 0


def add_environment(path: Path, environment: dict[str, Any]) -> None:
    """Appends an entry to the list in the file `path`."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps([*read_environments(path), environment], indent=2) + "\n")
    os.replace(temporary, path)


def read_environments(path: Path) -> list[dict[str, Any]]:
    """The entries of the file `path`, oldest start first; [] if the file does not exist."""
    return json.loads(path.read_text()) if path.exists() else []


def _git(*arguments: str) -> str | None:
    """Output of a git command in this repository; None without git or outside a clone."""
    try:
        done = subprocess.run(["git", *arguments], cwd=SUITE, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None


def package_version(package: str) -> str | None:
    """The version of an installed package; None: it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """The CPU model and the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        named = (line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line)
        name = next(named, name)
    return f"{name or platform.machine()}, {cores} cores"
