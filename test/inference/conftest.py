"""A trained run, which tests of its uses read and do not change."""

from pathlib import Path

import pytest
from conftest import write_recipe

from tools import train


@pytest.fixture(scope="session")
def trained_run(motion_videos, tmp_path_factory) -> Path:
    """The directory of a run of two steps, whose network has an option of its own (dropout)."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder / "recipe.yaml", motion_videos)
    options = ["train.num_samples=8", "train.num_epochs=null", "model.options={dropout: 0.1}"]
    train.main(["-c", str(recipe), f"run.dir={folder / 'run'}", *options])
    return folder / "run"
