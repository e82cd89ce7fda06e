"""The linear classifier on features: its optimum, what chooses its penalty, folds without leaks, and bad input."""

import csv
import json

import numpy as np
import pytest
import torch

from datasets.file_list import FileList
from datasets.folds import assign_folds
from inference import linear_probe
from inference.linear_probe import LabeledFeatures, LinearClassifier, choose_l2, read_labeled, score_fold, score_list
from settings import SettingsError
from tools import probe_features

NAMES = ["fight", "none", "other"]


@pytest.fixture
def few_penalties(monkeypatch):
    monkeypatch.setattr(linear_probe, "L2", (0.1, 1.0))


def clusters(num_files, seed, noise=1.0, dim=6):
    """Features around a center for each class, of one scale each, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_files) % 3
    centers = np.random.default_rng(0).normal(size=(3, dim))
    return (centers[labels] + noise * rng.normal(size=(num_files, dim))) * 10.0 ** np.arange(dim), labels


def labeled(num_files, seed, noise=1.0):
    x, labels = clusters(num_files, seed, noise)
    ids = [f"id{i}" for i in range(num_files)]
    files = FileList(ids, labels.tolist(), [f"{name}.mp4" for name in ids], NAMES)
    about = {"model": "a", "weights_sha256": "b", "layer": "pooled", "class_names": NAMES}
    return LabeledFeatures(torch.from_numpy(x), files, about)


def write_features(folder, x, labels, num_unreadable=0, first=0, **about):
    """A folder as tools/extract_features.py writes it, of one shard. A file may have a tuple of labels.

    `first`: the number in the name of the first file.
    """
    folder.mkdir()
    texts = {"id": [f"id{i}" for i in range(len(x))], "path": [f"{first + i}.mp4" for i in range(len(x))]}
    texts["failures"] = [{"path": "x.mp4", "reason": "empty", "index": len(x) + i} for i in range(num_unreadable)]
    files = FileList(texts["id"], labels, texts["path"])
    if files.has_several:
        texts["labels"] = [files.labels_of(row) for row in range(len(x))]
    columns = {"features": x.astype(np.float32), "index": np.arange(len(x)), "label": files.labels}
    np.savez(folder / "features-00000-of-00001.npz", texts=json.dumps(texts), **columns)
    facts = {"model": "a", "weights_sha256": "b", "layer": "pooled", "class_names": NAMES} | about
    facts |= {"num_files": len(x) + num_unreadable, "item": "video"}
    (folder / "features.json").write_text(json.dumps({**facts, "format": "npz", "num_shards": 1}))
    return str(folder)


def test_it_is_at_the_minimum_of_its_loss():
    x, labels = clusters(60, seed=1)
    x, y = torch.from_numpy(x), torch.from_numpy(labels)
    fitted = LinearClassifier(x, y, 4, l2=0.3)  # the fourth class has no file
    standardized = (x - x.mean(0)) / x.std(0, correction=0)
    excess = (standardized @ fitted.weight.T + fitted.bias).softmax(1) - torch.nn.functional.one_hot(y, 4)
    torch.testing.assert_close(excess.T @ standardized / 60, -0.3 * fitted.weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(excess[:, :3].mean(0), torch.zeros(3, dtype=x.dtype), atol=1e-5, rtol=0)


def test_a_constant_feature_is_of_no_use_and_no_harm():
    data = labeled(60, seed=1)
    x = torch.cat([data.x, torch.full((60, 1), 7.0, dtype=torch.float64)], 1)
    with_constant, without = (LinearClassifier(each, data.y, 3, l2=0.1) for each in (x, data.x))
    torch.testing.assert_close(with_constant.logits(x), without.logits(data.x), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("noise", "chosen"), [(0.1, 0.01), (100.0, 1000.0)])
def test_clear_features_need_no_penalty_and_noise_a_large_one(noise, chosen):
    data = labeled(90, seed=2, noise=noise)
    assert choose_l2(data.x, data.y, data.divide(3), 3) == chosen


def test_scored_files_have_no_part_in_their_classifier(few_penalties, monkeypatch):
    data = labeled(60, seed=3)
    folds = data.divide(5)
    assert np.array_equal(folds, assign_folds(data.files, 5, 0))
    seen = []
    original = LinearClassifier.__init__
    monkeypatch.setattr(
        linear_probe.LinearClassifier,
        "__init__",
        lambda self, x, *rest: (seen.append({tuple(row) for row in x.tolist()}), original(self, x, *rest))[1],
    )
    score = score_fold(data, folds, 2)
    scored = {tuple(row) for row in data.x[torch.from_numpy(folds == 2)].tolist()}
    assert [file.id for file in score.files] == [f"id{row}" for row in np.flatnonzero(folds == 2)]
    assert len(seen) == 4 * len(linear_probe.L2) + 1 and not any(rows & scored for rows in seen)
    assert len(seen[-1]) == 60 - len(scored)


def test_a_list_scored_by_another_equals_a_fold_scored_by_the_rest(few_penalties):
    data = labeled(60, seed=4)
    folds = data.divide(4)
    rest, test = (
        LabeledFeatures(data.x[torch.from_numpy(rows)], data.files.subset(np.flatnonzero(rows)), data.about)
        for rows in (folds != 1, folds == 1)
    )
    one, other = score_fold(data, folds, 1), score_list(rest, folds[folds != 1], test)
    assert np.array_equal(one.probabilities, other.probabilities) and one.accuracy == other.accuracy > 0.5
    assert one.accuracy == (one.probabilities.argmax(1) == test.y.numpy()).mean()


def test_the_script_scores_folds_and_lists(few_penalties, tmp_path, capsys):
    folder = write_features(tmp_path / "a", *clusters(60, 5, 0.3))
    test = write_features(tmp_path / "b", *clusters(60, 6, 0.3), num_unreadable=2, first=60)
    (tmp_path / "groups.txt").write_text("".join(f"id{i} {i // 6}\n" for i in range(60)))
    table = tmp_path / "guesses.csv"
    probe_features.main([folder, "--folds", "3", "--groups", str(tmp_path / "groups.txt"), "--csv", str(table)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{folder}: features of 60 of 60 videos"
    assert lines[1].split() == ["fold", "files", "accuracy", "l2"]
    assert lines[5].endswith("(mean ± standard deviation of 3 folds)")
    rows = list(csv.DictReader(table.open()))
    by_fold = [[row for row in rows if row["fold"] == fold] for fold in "012"]
    for line, part in zip(lines[2:5], by_fold, strict=True):
        accuracy = 100 * np.mean([row["class"] == row["guess"] for row in part])
        assert line.split()[1:4] == [str(len(part)), f"{accuracy:.1f}", "%"]
    groups = [{int(row["path"].removesuffix(".mp4")) // 6 for row in part} for part in by_fold]
    assert sum(map(len, groups)) == 10 == len(set.union(*groups))
    probe_features.main([folder, "--folds", "3", "--test", test])
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == f"{test}: features of 60 of 62 videos; those in failures.csv could not be read"
    assert [line.split()[:2] for line in lines[3:]] == [["test", "60"]]


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.zeros((4, 2, 5)), [0, 1, 0, 1], r"has features \[2, 5\] for each file; .* extract with --level video"),
        (np.zeros((4, 5)), [0, -1, 0, -1], r"2 of 4 files in .* have no label; extract with data\.val=LIST"),
        (np.zeros((4, 5)), [(0, 1), 1, (2, 0), 1], r"2 of 4 files in .* have several labels; .* needs one each: "),
        (np.zeros((4, 5)), [0, 1, 0, 1], r"4 files or groups cannot be divided into 5 folds; set fewer"),
    ],
)
def test_features_that_cannot_be_scored(tmp_path, x, labels, message):
    with pytest.raises(SettingsError, match=message):
        probe_features.main([write_features(tmp_path / "features", x, labels)])


def test_features_of_different_networks_are_not_compared(tmp_path):
    first = write_features(tmp_path / "a", *clusters(30, 0))
    second = write_features(tmp_path / "b", *clusters(30, 0), layer="conv4")
    with pytest.raises(SettingsError, match=r"different networks \(layer: pooled and conv4\); extract both"):
        probe_features.main([first, "--test", second])
    assert read_labeled(second).about["layer"] == "conv4"


def test_training_files_that_are_scored_are_named(few_penalties, tmp_path, capsys):
    trained = write_features(tmp_path / "a", *clusters(30, 0))
    with pytest.raises(SettingsError, match="all scored files are among those of training; extract"):
        probe_features.main([trained, "--folds", "3", "--test", trained])
    some = write_features(tmp_path / "b", *clusters(30, 1), first=25)
    probe_features.main([trained, "--folds", "3", "--test", some])
    assert "5 of 30 scored files are among those of training, so the score is too high" in capsys.readouterr().err


def test_too_few_folds_are_refused(capsys):
    with pytest.raises(SystemExit):
        probe_features.main(["features", "--folds", "2"])
    assert "got --folds 2; expected at least 3" in capsys.readouterr().err
