"""What many tests share: a small set of motion videos, and a way to start the suite's scripts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets.synthetic.motion_shapes import make_motion_shapes

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def motion_videos(tmp_path_factory) -> Path:
    """24 training and 9 validation videos of 8 motions: train.txt, val.txt, train/, val/, mapping_table.txt."""
    folder = tmp_path_factory.mktemp("videos") / "motion"
    return make_motion_shapes(folder, num_train=24, num_val=9, size=40, num_frames=20)


@pytest.fixture
def recipe(motion_videos, tmp_path) -> Path:
    """A recipe that trains the debug network on the motion videos for 18 steps, in seconds."""
    return write_recipe(tmp_path / "recipe.yaml", motion_videos)


def write_recipe(path: Path, videos: Path) -> Path:
    path.write_text(f"""
        task: clip_classification
        model: {{name: glore_resnet_debug_3d}}
        data:
          train: {videos}/train.txt
          val: {videos}/val.txt
          class_names: {videos}/mapping_table.txt
          num_frames: 4
          frame_interval: 3
          train_view: {{short_side: [36, 44], crop: 32, flip: false}}
          val_view: {{short_side: 36, crop: 32}}
          num_workers: 1
        optimizer: {{lr: 0.05, weight_decay: 0.0001, no_decay: ['\\.bias$'], lr_multipliers: {{conv_m2: 0.5}}}}
        schedule: {{name: cosine, warmup_steps: 3}}
        train: {{num_epochs: 3, batch_size: 4, checkpoint_every_steps: 2, log_every_steps: 1, precise_bn_batches: 2}}
        evaluation: {{clips_per_forward: 4}}
    """)
    return path


@pytest.fixture(scope="session")
def start():
    """start(script, *arguments, processes=1): runs a script of the suite to its end -> subprocess.CompletedProcess."""

    def run(script, *arguments, processes=1, num_threads=1, timeout=300, check=True) -> subprocess.CompletedProcess:
        line = command(script, *arguments, processes=processes)
        where = {"cwd": ROOT, "env": os.environ | {"OMP_NUM_THREADS": str(num_threads)}}
        done = subprocess.run(line, **where, text=True, capture_output=True, timeout=timeout)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def command(script: str, *arguments, processes: int = 1) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(torchrun if processes > 1 else []), script, *map(str, arguments)]
