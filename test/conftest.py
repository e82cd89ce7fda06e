"""What many tests share: a small set of motion videos, and a way to start the suite's scripts."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets.motion_shapes import make_motion_shapes

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def motion_videos(tmp_path_factory) -> Path:
    """24 training and 9 validation videos of 8 motions: train.txt, val.txt, train/, val/, mapping_table.txt."""
    folder = tmp_path_factory.mktemp("videos") / "motion"
    return make_motion_shapes(folder, num_train=24, num_val=9, size=40, num_frames=20)


@pytest.fixture(scope="session")
def start():
    """start(script, *arguments, processes=1): runs a script of the suite to its end -> subprocess.CompletedProcess."""

    def run(script: str, *arguments, processes: int = 1, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(command(script, *arguments, processes=processes), **OPTIONS, timeout=300)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


OPTIONS = {"cwd": ROOT, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True, "capture_output": True}


def command(script: str, *arguments, processes: int = 1) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(torchrun if processes > 1 else []), script, *map(str, arguments)]
