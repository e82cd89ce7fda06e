"""Multigrid training: clip shapes vary by step, and a run that starts midway sees the same clips."""

import pytest
import torch
from run_files import lines

from datasets.video import ClipShape
from engine.distributed import Ranks
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tools import train

ON = ["data.multigrid={long_cycles: 1}", "data.num_workers=0"]


def make_task(recipe, *overrides, rank=0, num_ranks=1):
    settings = read_recipe(str(recipe), [*ON, *overrides])
    task_class = find_task(settings, str(recipe))
    return task_class(
        parse_settings(task_class.Settings, settings, str(recipe)), Ranks(rank, num_ranks, torch.device("cpu"))
    )


@pytest.mark.parametrize("overrides", [[], ["data.repeats=2", "data.sampling=segments"]])
def test_clips_depend_only_on_their_number(recipe, overrides):
    """18 steps of 4 samples: 14 steps of the cycle, then 4 with full-size clips."""
    whole = [batch["clip"] for batch in make_task(recipe, *overrides).train_batches(0, 18, 4, "train")]
    shapes = [(clip.shape[2], clip.shape[4]) for clip in whole]
    assert shapes == [tuple(make_task(recipe).multigrid.at(step)) for step in range(18)]
    assert set(shapes[14:]) == {(4, 32)} and shapes[:3] == [(1, 16), (1, 16), (1, 16)] and len(set(shapes)) > 4
    later = make_task(recipe, "data.num_workers=1", *overrides).train_batches(5, 2, 4, "train")
    assert all(torch.equal(batch["clip"], clip) for batch, clip in zip(later, whole[5:7], strict=True))
    halves = [next(iter(make_task(recipe, *overrides, rank=r, num_ranks=2).train_batches(11, 1, 2, "train")))
              for r in (0, 1)]  # fmt: skip
    assert torch.equal(torch.cat([half["clip"] for half in halves]), whole[11])
    (batch,) = make_task(recipe).train_batches(0, 1, 4, "precise_bn")
    assert batch["clip"].shape == (4, 3, 4, 32, 32)


def test_small_clips_cover_as_much_of_a_video_or_less(recipe):
    sampling, view = make_task(recipe).grid(ClipShape(1, 32))
    full, _ = make_task(recipe).grid(ClipShape(4, 32))
    assert full.speed == (1, 1) and sampling.speed == (1, 4)
    _, small = make_task(recipe).grid(ClipShape(4, 16))
    assert small.settings.short_side == (18, 44) and small.settings.crop == 16 and view.settings.short_side == (36, 44)


@pytest.mark.slow
def test_a_run_trains_with_multigrid(recipe, tmp_path, capfd):
    run = tmp_path / "run"
    full = ["data.num_frames=8", "data.train_view={short_side: [64, 70], crop: 64}", "data.val_view.crop=64"]
    full.append("data.val_view.short_side=64")
    train.main(["-c", str(recipe), *ON, *full, f"run.dir={run}", "train.num_epochs=1"])
    assert [line["step"] for line in lines(run)] == list(range(1, 7))
    assert "multigrid: clips of 2 x 32" in capfd.readouterr().err


def test_clips_too_small_for_the_network_are_reported(recipe):
    with pytest.raises(
        SettingsError,
        match=r"data\.multigrid: the network does not take clips of 1 x 16 x 16: the network takes .* at least",
    ):
        make_task(recipe).check()
