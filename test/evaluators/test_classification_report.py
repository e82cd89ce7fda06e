"""The files of a report agree with the scores."""

import csv
import dataclasses

import numpy as np
import pytest

from evaluators.class_scores import NO_GUESS, NO_RANK
from evaluators.classification import Naming, Predictions, evaluate_predictions


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
        Naming("video", "clip", ("a", "b, or so", "c"), lambda i: (f"id{i}", f"v/{i}.mp4")),
    )


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files(evaluation, tmp_path):
    evaluation.write(tmp_path)
    summary = evaluation.summary()
    assert summary["video_top1"] == pytest.approx(2 / 3) and summary["coverage"] == 0.75
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
    text = "\n".join(evaluation.lines())
    assert "video top-1           66.67 %" in text and "75.00 %  (3 of 4 videos read, 3 with a label)" in text


def test_a_plot_that_fails_costs_no_file(evaluation, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("Expected end of text")

    monkeypatch.setattr("evaluators.classification_report.plot_confusion", fail)
    evaluation.write(tmp_path)
    assert len(rows(tmp_path / "predictions.csv")) == 3 and len(rows(tmp_path / "unreadable.csv")) == 1
    assert f"cannot draw {tmp_path / 'confusion.png'}: Expected end of text" in caplog.text


def test_an_item_with_non_finite_outputs_has_no_guess(evaluation, tmp_path, monkeypatch):
    predictions = evaluation.predictions
    predictions.guesses[1], predictions.probabilities[1], predictions.label_rank[1] = NO_GUESS, np.nan, NO_RANK
    evaluation = evaluate_predictions(predictions, evaluation.naming)
    evaluation.write(tmp_path)
    assert [row["guess1"] for row in rows(tmp_path / "predictions.csv")] == ["a", "", "b, or so"]
    assert [row["accuracy"] for row in rows(tmp_path / "per_class.csv")] == ["0.500000", "0.000000", ""]
    assert [row["b, or so"] for row in rows(tmp_path / "confusion.csv")] == ["1", "0", "0"]
    monkeypatch.setattr("evaluators.classification_report.MAX_MATRIX_CLASSES", 2)
    evaluation.write(tmp_path)
    found = [(row["true class"], row["predicted class"]) for row in rows(tmp_path / "confusion.csv")]
    assert found == [("a", "a"), ("a", "b, or so")]


def test_a_path_that_is_not_valid_utf8(evaluation, tmp_path):
    naming = dataclasses.replace(evaluation.naming, describe=lambda i: (str(i), "caf\udce9.mp4"))
    evaluate_predictions(evaluation.predictions, naming).write(tmp_path)
    assert rows(tmp_path / "predictions.csv")[0]["path"] == "caf\\udce9.mp4"


def test_with_many_classes_the_confusion_matrix_is_a_list_of_pairs(evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluators.classification_report.MAX_MATRIX_CLASSES", 2)
    evaluation.write(tmp_path)
    found = [(row["true class"], row["predicted class"], row["count"]) for row in rows(tmp_path / "confusion.csv")]
    assert found == [("a", "a", "1"), ("a", "b, or so", "1"), ("b, or so", "b, or so", "1")]
    assert not (tmp_path / "confusion.png").exists()
