"""The files of a report agree with each other and with the scores."""

import csv
import json

import numpy as np
import pytest

from evaluators.classification import Predictions, evaluate_predictions
from evaluators.classification_report import summary_lines, write_report


@pytest.fixture
def evaluation():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.4, 0.3]])
    zeros = np.zeros(3)
    return evaluate_predictions(
        Predictions(
            index=np.array([0, 2, 3]),
            label=np.array([0, 1, 0]),
            guesses=np.argsort(-probabilities, axis=1, kind="stable"),
            probabilities=-np.sort(-probabilities, axis=1),
            label_rank=np.array([0, 0, 1]),
            view_loss=zeros,
            view_top1=np.array([1.0, 1.0, 0.0]),
            view_top5=zeros + 1,
            failures=[{"index": 1, "path": "v/1.mp4", "reason": "no frame, at all"}],
            num_items=4,
            num_views=1,
            num_classes=3,
            seconds=2.0,
        ),
        item="video",
        view="clip",
    )


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files(evaluation, tmp_path):
    write_report(tmp_path, evaluation, ("a", "b, or so", "c"), lambda i: (f"id{i}", f"v/{i}.mp4"), {"weights": "w"})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["weights"] == "w" and summary["video_top1"] == pytest.approx(2 / 3) and summary["coverage"] == 0.75
    assert summary["clips_per_second"] == 1.5
    assert [(row["class"], row["videos"], row["accuracy"]) for row in rows(tmp_path / "per_class.csv")] == [
        ("a", "2", "0.500000"),
        ("b, or so", "1", "1.000000"),
        ("c", "0", ""),
    ]
    first = rows(tmp_path / "predictions.csv")[0]
    assert (first["id"], first["path"], first["class"], first["guess1"]) == ("id0", "v/0.mp4", "a", "a")
    assert float(first["probability1"]) == 0.7
    assert rows(tmp_path / "unreadable.csv") == [
        {"index": "1", "id": "id1", "path": "v/1.mp4", "reason": "no frame, at all"}
    ]
    assert rows(tmp_path / "confusion.csv")[0] == {"true class": "a", "a": "1", "b, or so": "1", "c": "0"}
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_lines(evaluation):
    text = "\n".join(summary_lines(evaluation))
    assert "video top-1           66.67 %" in text and "75.00 %  (3 of 4 videos read, 3 with a label)" in text


def test_of_many_classes_the_pairs_that_occur_are_listed(evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluators.classification_report.MOST_CLASSES_OF_A_MATRIX", 2)
    write_report(tmp_path, evaluation, ("a", "b", "c"), lambda i: (f"id{i}", f"v/{i}.mp4"), {})
    found = [(row["true class"], row["predicted class"], row["count"]) for row in rows(tmp_path / "confusion.csv")]
    assert found == [("a", "a", "1"), ("a", "b", "1"), ("b", "b", "1")]
    assert not (tmp_path / "confusion.png").exists()
