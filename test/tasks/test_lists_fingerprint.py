"""A run is resumed only on the lists that it was trained on, wherever they are."""

import json
import logging
import math
import shutil

import pytest
import safetensors
import torch
from PIL import Image

from engine.distributed import Ranks
from engine.run import open_run
from engine.trainer import Trainer
from inference.trained import load_model
from settings import SettingsError, parse_settings, read_recipe
from tasks.image_classification import ImageClassification

ALONE = Ranks(0, 1, torch.device("cpu"))
RECIPE = """
    task: image_classification
    model: {name: hornet_debug_7x7}
    data: {train: HERE/train.txt, val: HERE/val.txt, root: HERE/old, class_names: HERE/names.txt, num_workers: 0,
           train_view: {size: 32}, val_view: {size: 32}}
    optimizer: {name: adamw, lr: 0.001}
    train: {num_epochs: 1, batch_size: 4, max_unreadable: 0}
    run: {dir: HERE/run, num_threads: 1}
"""


def make_task(folder, overrides=()):
    (folder / "recipe.yaml").write_text(RECIPE.replace("HERE", str(folder)))
    recipe = read_recipe(folder / "recipe.yaml", overrides)
    return ImageClassification(parse_settings(ImageClassification.Settings, recipe), ALONE)


def start(folder, *overrides, trains=False):
    """A run in `folder`, as tools/train.py starts or resumes it; trained to its end only if it `trains`."""
    task = make_task(folder, overrides)
    task.check()
    run = open_run("recipe.yaml", task.settings, task.resolved_recipe(), ALONE)
    try:
        trainer = Trainer(task, run, ALONE)
        if trains:
            trainer.train()
        return trainer
    finally:
        run.close()
        logging.getLogger().handlers[-1].close()
        del logging.getLogger().handlers[-1]  # log.txt of the run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Images of two classes, a list of 8, a table of class names, and a run on them."""
    folder, lines = tmp_path_factory.mktemp("trained"), []
    for label, name in enumerate(("cat", "dog")):
        for number in range(4):
            path = folder / "old" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (60 * number, 100 * label, 50)).save(path)
            lines.append(f"{name}{number}\t{label}\t{name}/{number}.png")
    for name in ("train.txt", "val.txt"):
        (folder / name).write_text("\n".join(lines))
    (folder / "names.txt").write_text("0 cat\n1 dog\n")
    start(folder, trains=True)
    return folder


@pytest.fixture
def files(trained, tmp_path):
    """A copy, which has moved: everything but the paths is the same."""
    return shutil.copytree(trained, tmp_path / "moved")


def rewrite(path, change):
    path.write_text("\n".join(change(path.read_text().split("\n"))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[::2], "training images: 8 before, 4 now"),
        (lambda lines: lines[::-1], "training images: 8 as before, but different ones or in a different order"),
        (lambda lines: [lines[0].replace("\t0\t", "\t1\t"), *lines[1:]], "training images: 8 as before, but"),
        (lambda lines: [lines[0].replace("0.png", "1.png"), *lines[1:]], "training images: 8 as before, but"),
    ],
)
def test_another_training_list_is_refused(files, change, message):
    rewrite(files / "train.txt", change)
    with pytest.raises(
        SettingsError, match=rf"changed since its last checkpoint:\n  {message}[\s\S]*run\.resume=false"
    ):
        start(files)
    start(files, "run.resume=false", f"model.pretrained={files}/run/checkpoints/last.pt")  # as the message advises


def test_other_names_and_weights_are_refused(files):
    (files / "names.txt").write_text("0 dog\n1 cat\n")
    with pytest.raises(SettingsError, match="class names: 2 as before, but different ones or in a different order"):
        start(files)
    (files / "names.txt").write_text("0 cat\n1 dog\n")
    (files / "weights.txt").write_text("cat0 3\n")
    with pytest.raises(SettingsError, match="sampling weights: 0 before, 8 now"):
        start(files, f"data.weights={files}/weights.txt")
    (files / "more.txt").write_text("new\t1\tdog/0.png")
    with pytest.raises(SettingsError, match="training images: 8 before, 9 now"):
        start(files, f"data.more=[{{train: {files}/more.txt, root: {files}/old}}]")


def test_data_may_move(files):
    (files / "old").rename(files / "new")
    (files / "train.txt").rename(files / "list.txt")
    rewrite(files / "list.txt", lambda lines: [line.replace("cat/", f"{files}/new/cat/") for line in lines])
    resumed = start(files, f"data.root={files}/new", f"data.train={files}/list.txt")
    assert resumed.progress.step == resumed.num_steps == 2


def test_another_validation_starts_a_new_search_for_the_best(files, caplog):
    caplog.set_level(logging.WARNING)
    rewrite(files / "val.txt", lambda lines: lines[::-1])
    assert start(files, "train.max_unreadable=0.1").progress.best_score > 0  # an order changes no score
    assert "the validation data has changed" not in caplog.text
    rewrite(files / "val.txt", lambda lines: lines[:5])
    again = start(files, "data.val_view.size=64").progress
    assert (again.best_score, again.evaluated_step) == (-math.inf, 0)
    assert "the last checkpoint (validation images: 8 before, 5 now; validation views: 1 as before, but" in caplog.text


def test_an_older_checkpoint_is_resumed_with_a_word(files, caplog):
    last = files / "run/checkpoints/last.pt"
    state = torch.load(last, weights_only=True)
    assert state.pop("fingerprint")["training"]["training images"][0] == 8
    torch.save(state, last)
    assert start(files).progress.step == 2
    assert "has a checkpoint that does not record its data" in caplog.text


def test_an_evaluation_with_other_names_says_so(files, caplog):
    weights = [files / "run/checkpoints" / name for name in ("best.safetensors", "last.pt")]
    with safetensors.safe_open(weights[0], "pt") as file:
        assert json.loads(file.metadata()["fingerprint"])["outputs"]["class names"][0] == 2
    for names, warnings in (("0 cat\n1 dog\n", 0), ("0 dog\n1 cat\n", 2)):
        (files / "names.txt").write_text(names)
        for path in weights:
            load_model(make_task(files), path, ALONE)
        assert caplog.text.count("was trained with different outputs: class names: 2 as before") == warnings


def test_a_start_from_a_classifier_of_other_names_says_so(files, caplog):
    caplog.set_level(logging.WARNING)
    for names, warnings in (("0 cat\n1 dog\n", 0), ("0 dog\n1 cat\n", 1)):
        (files / "names.txt").write_text(names)
        task = make_task(files, [f"model.pretrained={files}/run/checkpoints/best.safetensors"])
        task.load_initial_weights(task.build_model())
        assert caplog.text.count("Its last layer is matched by index") == warnings
