"""What tests share: motion videos, a short recipe, a way to start scripts; and how they run beside one another."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Before NumPy and torch are imported, here and in the processes that tests start:
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # they end where a process forks; a product then waits for ever
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to other processes

import capabilities
import pytest
import torch
from launching import ROOT, fork_server, run_script

from datasets.synthetic.motion_shapes import make_motion_shapes

__all__ = ["ROOT", "write_recipe"]

LONGEST = ("test/test_demo.py", "test/test_faults.py", "test/test_two_hosts.py")
"""Files that take minutes. Workers start with them, so that none is left with one when the others are done."""

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    capabilities.promised()  # an unknown name stops the tests before they start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    capabilities.check_needs(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Among the workers of pytest-xdist, nothing runs beside a test that is marked `alone`."""
    with contextlib.ExitStack() as stack:
        if hasattr(item.config, "workerinput"):
            folder = Path(item.config.option.basetemp).parent  # all workers share it
            alone = item.get_closest_marker("alone") is not None
            with _locked(folder / "door.lock", fcntl.LOCK_EX):  # who waits to be alone lets nobody else in
                stack.enter_context(_locked(folder / "room.lock", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        return (yield)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with open(path, "a") as file:
        fcntl.flock(file, kind)
        yield


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
        run: {{device: cpu}}
    """)
    return path


@pytest.fixture(scope="session")
def brief_run(motion_videos, tmp_path_factory) -> Path:
    """A run of the debug network after two steps, which tests read and do not change.

    Its validation list has 9 videos in videos/val; the fifth of the list is broken.
    """
    from tools import train

    folder = tmp_path_factory.mktemp("brief")
    videos = shutil.copytree(motion_videos, folder / "videos")
    broken = videos / (videos / "val.txt").read_text().splitlines()[4].split("\t")[2]
    broken.write_bytes(broken.read_bytes()[:300])
    recipe = write_recipe(folder / "recipe.yaml", videos)
    options = ["train.num_samples=8", "train.num_epochs=null", "model.options={dropout: 0.1}"]
    train.main(["-c", str(recipe), f"run.dir={folder / 'run'}", *options])
    return folder / "run"


@pytest.fixture
def forked_contestants(monkeypatch) -> None:
    """The processes of benchmarks need not import everything again.

    They are forks of the server for scripts, not of the tests: these may have used a GPU or threads of autograd.
    """
    fork_server()
    monkeypatch.setattr("tools.benchmarks.timing.START_METHOD", "forkserver")


@pytest.fixture(scope="session")
def start():
    """start(script, *arguments, processes=1, fork=True, ...): `launching.run_script`."""
    return run_script
