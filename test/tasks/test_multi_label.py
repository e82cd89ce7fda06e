"""Videos with two classes each, a motion and a kind of motion: training, scores, predictions and pictures."""

import csv
import json

import numpy as np
import pytest
import torch
from run_files import lines

from datasets.mixing import Mixer, MixSettings
from engine.distributed import Ranks
from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tasks.multi_label import multi_label_step
from tools import predict, train

ALONE = Ranks(0, 1, torch.device("cpu"))
KINDS = ("sideways", "upright", "in size", "in turn")  # one kind per pair of motions: 0 and 1, 2 and 3, ...


@pytest.fixture
def recipe(recipe, motion_videos, tmp_path):
    """The recipe of the motion videos, with lists that give every video but the last a second class."""
    for name in ("train", "val"):
        rows = [line.split("\t") for line in (motion_videos / f"{name}.txt").read_text().splitlines()]
        labels = [f"{label},{8 + int(label) // 2}" for _, label, _ in rows]
        labels[-1] = labels[-1].split(",")[0]
        lines = [f"{row[0]}\t{label}\t{motion_videos / row[2]}\n" for row, label in zip(rows, labels, strict=True)]
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    table = (motion_videos / "mapping_table.txt").read_text().rstrip("\n").split("\n")
    table += [f"{8 + number}\t{kind}" for number, kind in enumerate(KINDS)]
    (tmp_path / "table.txt").write_text("\n".join(table))
    text = recipe.read_text().replace(f"{motion_videos}/mapping_table", f"{tmp_path}/table")
    recipe.write_text(text.replace(f"{motion_videos}/", f"{tmp_path}/").replace("num_workers: 1", "num_workers: 0"))
    return recipe


def make_task(recipe, *overrides):
    settings = read_recipe(str(recipe), ["loss.multi_label=true", *overrides])
    task_class = find_task(settings, str(recipe))
    return task_class(parse_settings(task_class.Settings, settings, str(recipe)), ALONE)


@pytest.mark.slow
def test_a_run_trains_evaluates_and_predicts(recipe, tmp_path, capfd):
    run = tmp_path / "run"
    train.main(["-c", str(recipe), "loss.multi_label=true", f"run.dir={run}", "train.num_epochs=1"])
    summary = json.loads((run / "evaluations/1x1/summary.json").read_text())
    (logged,) = lines(run, "val")
    assert 0 < summary["mean_average_precision"] == logged["mean_average_precision"] < 1
    assert f"mean average precision {100 * summary['mean_average_precision']:.2f} %" in capfd.readouterr().err
    rows = list(csv.DictReader((run / "evaluations/1x1/per_class.csv").open()))
    assert [row["class"] for row in rows][8:] == list(KINDS) and sum(int(row["videos"]) for row in rows) == 17
    scores = [float(row["average_precision"]) for row in rows if row["average_precision"]]
    assert np.mean(scores) == pytest.approx(summary["mean_average_precision"], abs=1e-6)
    assert not (run / "evaluations/1x1/confusion.csv").exists() and (run / "curves.png").exists()

    guesses = tmp_path / "guesses.csv"
    video = str(make_task(recipe).val_files[0].path)
    predict.main(["--run-dir", str(run), "--top", "12", "--above", "0", "--csv", str(guesses), video])
    (row,) = csv.DictReader(guesses.open())
    shown = [float(row[f"probability{n}"]) for n in range(1, 13)]
    assert len(shown) == 12 and shown == sorted(shown, reverse=True)
    guesses = tmp_path / "likely.csv"
    limit = (shown[3] + shown[4]) / 2
    predict.main(["--run-dir", str(run), "--top", "12", "--above", str(limit), "--csv", str(guesses), video])
    (row,) = csv.DictReader(guesses.open())
    assert row["probability4"] and not row["probability5"]


def test_targets_are_the_classes_of_the_videos(recipe):
    task = make_task(recipe)
    (batch,) = task.train_batches(0, 1, 24, "train")
    _, targets = task.training_input(batch)
    for row, target in zip(batch["index"].tolist(), targets, strict=True):
        assert tuple(target.nonzero()[:, 0].tolist()) == task.train_files.labels_of(row)
    assert targets.shape == (24, 12) and targets.sum() == 47


def test_the_loss_by_hand(recipe):
    logits, targets = torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss, sums = multi_label_step(logits, targets, is_mixed=False)
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = -(targets.numpy() * np.log(p) + (1 - targets.numpy()) * np.log(1 - p)).mean()
    assert loss.item() == pytest.approx(expected) and sums["loss"] == 2 * loss and sums["top1"] == 1
    assert "top1" not in multi_label_step(logits, targets, is_mixed=True)[1]


@pytest.mark.parametrize("options", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "mode": "elem"}])
def test_labels_are_mixed_like_their_clips(options):
    """One-hot multi-label targets mix to the same targets as single labels."""
    settings, x = MixSettings(**options), torch.rand(4, 3, 2, 16, 16)
    labels = torch.tensor([0, 1, 2, 1])
    results = []
    for targets in (labels, torch.nn.functional.one_hot(labels, 5).float()):
        np.random.seed(3)
        results.append(Mixer(settings, 5, 0.0)(x.clone(), targets))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1].float(), results[1][1], atol=1e-6, rtol=0)


def test_pictures_show_all_classes(recipe):
    task = make_task(recipe, "data.mix={mixup: 0.8}")
    sample = task.training_pictures(1)[0]
    first, second = sample.lines[0].split(": ")[1].split(", ")
    assert int(first.split()[0]) < 8 <= int(second.split()[0]) and " + " in sample.lines[1]
    assert [count.sum() for count in task.sample_counts()[1].values()] == [47, 17]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.multi_label=false"], r"data\.train: .* has several labels; .* loss\.multi_label=true"),
        (["loss.label_smoothing=0.1"], "label_smoothing has no effect with multi_label"),
        (["data.class_balance=1"], r"data\.class_balance needs a single class per video"),
        (["model.num_classes=9", "data.class_names=null"], r"has label \d+, but the network has 9 classes"),
    ],
)
def test_bad_settings_are_explained(recipe, overrides, message):
    with pytest.raises(SettingsError, match=message):
        make_task(recipe, *overrides).train_files  # noqa: B018
