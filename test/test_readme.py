"""The README's steps for own videos, and its examples of a model, a data set and a task, run as they stand there."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
import torch
import yaml
from conftest import ROOT
from launching import shell_environment
from run_files import lines

import backbones
import datasets
import models
import tasks
from datasets.synthetic.image_shapes import make_image_shapes
from models import Model, create_model
from tools import train


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The section's blocks by the file that they name in their first line; the new ones can be imported."""
    section = (ROOT / "README.md").read_text().split("## Adding a model, a data set, a task")[1].split("\n## ")[0]
    found = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", section, re.DOTALL))
    for room in (backbones, datasets, tasks):
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path / room.__name__)])
    for name, text in found.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return found


def test_the_model(files, tmp_path, monkeypatch):
    for table in ("IMAGE_MODELS", "MODELS"):
        monkeypatch.setattr(models, table, dict(getattr(models, table)))
    exec(files["models.py"], vars(models))
    models.MODELS |= models.IMAGE_MODELS
    model = create_model("tiny_conv", num_classes=6)
    assert isinstance(model, Model)
    maps = model.forward_pyramid(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 16, 16, 24), (1, 32, 8, 12)]
    full = create_model("tiny_conv")
    assert sum(p.numel() for p in full.parameters()) == models.MODELS["tiny_conv"].num_parameters

    folder = make_image_shapes(tmp_path / "shapes", num_train=12, num_val=6)
    recipe = yaml.safe_load((ROOT / "configs/demo/eurnet_shapes.yaml").read_text())
    recipe["model"]["name"] = "tiny_conv"
    recipe["data"] |= {"make": None, "root": str(folder), "train": f"{folder}/train.txt", "val": f"{folder}/val.txt"}
    recipe["data"] |= {"class_names": f"{folder}/mapping_table.txt", "num_workers": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    train.main(
        ["-c", str(tmp_path / "recipe.yaml"), "train.num_epochs=1", "train.batch_size=4", f"run.dir={tmp_path}/run"]
    )
    assert json.loads((tmp_path / "run/evaluations/centre/summary.json").read_text())["images_read"] == 6


def test_the_data_set_and_the_task(files, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    exec(files["tasks/__init__.py"], vars(tasks))
    train.main(["-c", str(tmp_path / "configs/waves.yaml"), f"run.dir={tmp_path}/run", "train.log_every_steps=1"])
    summary = json.loads((tmp_path / "run/evaluations/val/summary.json").read_text())
    scores = [line["mean_absolute_error"] for line in lines(tmp_path / "run", "val")]
    assert summary["mean_absolute_error"] == min(scores) < 0.4  # guessing the mean gives 1.25
    assert (tmp_path / "run/checkpoints/best.safetensors").exists()
    assert (
        f"{summary['mean_absolute_error']:.4g}</strong> mean absolute error"
        in (tmp_path / "run/report.html").read_text()
    )


@pytest.mark.slow
def test_the_three_steps_for_own_videos_in_a_folder_and_a_suite_with_spaces(motion_videos, tmp_path):
    """As the README writes them, but with the recipe for laptops, small clips and one epoch."""
    section = (ROOT / "README.md").read_text().split("## Your own videos")[1].split("\n## ")[0]
    commands = re.findall(r"^ +(\./run_local\.sh .*)$", section, re.MULTILINE)
    assert [shlex.split(command)[1] for command in commands[:2]] == ["configs/own_videos.yaml", "tools/predict.py"]
    suite, here = tmp_path / "the suite", tmp_path / "my project"
    left_out = shutil.ignore_patterns(".*", "runs", "data", "pictures", "docs", "test", "__pycache__")
    shutil.copytree(ROOT, suite, ignore=left_out)
    for split in ("train", "val"):
        shutil.copytree(motion_videos / split, here / "my_videos" / split)
    shutil.copy(next(motion_videos.glob("val/left/*.mp4")), here / "new_video.mp4")

    def type_in(command, *settings):
        line = [suite / "run_local.sh", *shlex.split(command.replace("own_videos.yaml", "own_videos_small.yaml"))[1:]]
        environment = shell_environment(OMP_NUM_THREADS="1")
        done = subprocess.run(
            [*line, *settings], cwd=here, env=environment, text=True, capture_output=True, timeout=500
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    small = ("data.train_view.crop=32", "data.val_view.crop=32", "data.num_frames=2", "data.num_workers=0")
    output = type_in(commands[0], *small, "train.num_epochs=1", "run.device=cpu")
    assert f"'{suite}/run_local.sh' tools/predict.py VIDEO" in output  # what to type next, in this folder
    classes = {folder.name for folder in (here / "my_videos/train").iterdir()}
    output = type_in(commands[1])
    assert "new_video.mp4" in output and any(name in output for name in classes)
    assert sorted(path.name for path in here.iterdir()) == ["my_videos", "new_video.mp4", "runs"]
    assert (here / "runs/own_videos_small/evaluations/1x1/summary.json").exists()
    assert not (suite / "runs").exists()
