"""The demo as `./run_local.sh` runs it: it learns the motions, and from the motion alone."""

import argparse
import json

import pytest
import torch

from datasets.video import EvenSampling
from engine.ranks import Ranks
from tools.runs import find_run, find_weights, load_model


@pytest.fixture(scope="module")
def demo(tmp_path_factory, start):
    folder = tmp_path_factory.mktemp("demo")
    videos = folder / "videos"
    start(
        *("tools/train.py", "-c", "configs/demo/glore_motion.yaml", f"run.dir={folder / 'run'}", f"data.root={videos}"),
        *(
            f"data.train={videos}/train.txt",
            f"data.val={videos}/val.txt",
            f"data.class_names={videos}/mapping_table.txt",
        ),
        num_threads=2,
        timeout=1500,
    )
    return folder / "run"


class FrozenSampling(EvenSampling):
    """The clip's middle frame, repeated."""

    def __call__(self, num_video_frames: int, clip: int = 0) -> list[int]:
        moving = super().__call__(num_video_frames, clip)
        return [moving[len(moving) // 2]] * len(moving)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_learns_the_motions_and_nothing_else(demo, monkeypatch):
    summary = json.loads((demo / "evaluations/1x1/summary.json").read_text())
    assert summary["clip_top1"] >= 0.9 and summary["coverage"] == 1 and summary["videos_listed"] == 163

    ranks = Ranks(0, 1, torch.device("cpu"))
    task_class, settings, _ = find_run(argparse.Namespace(config=None, run_dir=demo), [])
    task = task_class(settings, ranks)
    model = load_model(task, find_weights(demo, None), ranks)
    assert task.evaluate(model).view_top1 == summary["clip_top1"]
    monkeypatch.setattr("tasks.clip_classification.EvenSampling", FrozenSampling)
    assert task.evaluate(model).view_top1 <= 0.25  # chance is 0.125, its standard deviation on 163 videos 0.026
