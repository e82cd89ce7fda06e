"""A file of weights is enough: it carries its recipe and the names of its classes."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from inference import Predictor, load_trained
from settings import SettingsError
from weight_reader import WeightsError


@pytest.mark.parametrize("name", ["best.safetensors", "last.pt"])
def test_a_file_alone_is_enough(brief_run, tmp_path, name):
    alone = shutil.copy(brief_run / "checkpoints" / name, tmp_path)
    of_run = load_trained(brief_run, device="cpu")
    trained = load_trained(alone, device="cpu")
    assert trained.task.class_names == of_run.task.class_names and "turn_clockwise" in trained.task.class_names
    assert trained.weights == Path(alone) and not trained.model.training
    clip = torch.rand(1, 3, 4, 32, 32)
    with torch.inference_mode():
        assert torch.equal(trained.model(clip), of_run.model(clip))
    assert trained.task.settings.run.dir is None  # nothing of the machine it was trained on
    changed = load_trained(alone, ["evaluation.num_clips=3"], device="cpu")
    assert changed.task.protocol == "3x1"


def test_a_folder_holds_the_weights_as_the_hub_lays_them_out(brief_run, tmp_path):
    shutil.copy(brief_run / "checkpoints/best.safetensors", tmp_path / "model.safetensors")
    assert load_trained(tmp_path, device="cpu").weights == tmp_path / "model.safetensors"


def test_a_file_in_a_run_directory_finds_its_recipe_there(brief_run, tmp_path):
    folder = shutil.copytree(brief_run, tmp_path / "run")
    best = folder / "checkpoints/best.safetensors"
    safetensors.torch.save_file(safetensors.torch.load_file(best), best)  # without what it says of itself
    assert load_trained(best, device="cpu").task.protocol == "1x1"


def test_errors_name_the_file_and_the_next_step(brief_run, tmp_path):
    with pytest.raises(SettingsError, match=r"there is no file .*gone\.pt; give a file"):
        load_trained(tmp_path / "gone.pt")
    near = brief_run.with_name(f"{brief_run.name}x")
    with pytest.raises(SettingsError, match=rf"there is no such folder; did you mean '{brief_run.name}'"):
        load_trained(run_dir=near)
    with pytest.raises(SettingsError, match=r"is not a run directory: it has no recipe\.yaml"):
        load_trained(run_dir=tmp_path)
    torch.save({"w": torch.ones(1)}, tmp_path / "authors.pth")
    with pytest.raises(SettingsError, match=r"authors\.pth carries no recipe.*name one with -c"):
        load_trained(tmp_path / "authors.pth")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((brief_run / "checkpoints/best.safetensors").read_bytes()[:-100])
    with pytest.raises((SettingsError, WeightsError), match=r"cut\.safetensors"):
        load_trained(cut)
    with pytest.raises(SettingsError, match="unknown setting"):
        load_trained(brief_run / "checkpoints/last.pt", ["evaluation.clips=3"])


@pytest.mark.parametrize(
    ("load", "options"), [(load_trained, {}), (Predictor, {}), (Predictor, {"acceleration": "off"})]
)
def test_a_string_of_overrides_is_named(load, options):
    with pytest.raises(SettingsError, match=r"overrides is the string 'a\.b=2'; put it in a list: \['a\.b=2'\]"):
        load("gone.pt", "a.b=2", **options)
