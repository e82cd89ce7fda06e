"""Scores of segmentation: equal to a count over all pixels, on any number of ranks."""

import numpy as np
import pytest
import torch

from evaluators.gather import Gathered
from evaluators.segmentation import NO_CLASS, SegmentationEvaluation, count_pairs, rows_of_images, score_pairs

NUM_CLASSES = 5
SIZES = [(7, 9), (16, 3), (1, 1), (20, 20)]


def draw(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Labels with ignored pixels, without class 4, and predictions that are right half of the time, never class 3."""
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(0, 4, size, generator=generator) for size in SIZES]
    guesses = [
        torch.where(torch.rand(size, generator=generator) < 0.5, label, torch.randint(0, 3, size, generator=generator))
        for label, size in zip(labels, SIZES, strict=True)
    ]
    guesses = [guess.where(guess != 3, 0) for guess in guesses]
    labels = [label.where(torch.rand(label.shape, generator=generator) > 0.2, 255) for label in labels]
    return labels, guesses


def evaluation(labels, guesses, max_non_finite: float = 0.0, **columns) -> SegmentationEvaluation:
    rows = rows_of_images(torch.arange(len(labels)), labels, guesses, NUM_CLASSES) | columns
    gathered = Gathered(rows, [], len(labels), seconds=2.0)
    items = [(f"image_{number}", f"/data/image_{number}.jpg") for number in range(len(labels))]
    return SegmentationEvaluation(gathered, [f"class {k}" for k in range(NUM_CLASSES)], items, max_non_finite)


def test_scores_are_those_of_all_pixels_together():
    labels, guesses = draw(0)
    label, guess = (torch.cat([x.flatten() for x in maps]) for maps in (labels, guesses))
    label, guess = label[label != 255], guess[label != 255]
    iou = [((label == k) & (guess == k)).sum().item() / ((label == k) | (guess == k)).sum().item() for k in range(4)]
    accuracy = [((label == k) & (guess == k)).sum().item() / (label == k).sum().item() for k in range(4)]
    scores = evaluation(labels, guesses).scores
    assert scores.iou[:4].tolist() == iou and scores.accuracy[:4].tolist() == accuracy
    assert np.isnan(scores.iou[4]) and scores.iou[3] == 0
    summary = evaluation(labels, guesses).summary()
    assert summary["mean_iou"] == np.mean(iou) and summary["mean_accuracy"] == np.mean(accuracy)
    assert summary["pixel_accuracy"] == (label == guess).double().mean().item()


def test_pairs_hold_every_counted_pixel_once():
    label = torch.tensor([[0, 0, 1], [255, 2, 2]], dtype=torch.uint8)
    guess = torch.tensor([[0, 1, 1], [0, 2, NO_CLASS]])
    assert count_pairs(label, guess, 3).tolist() == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [2, -1, 1], [2, 2, 1]]
    assert count_pairs(torch.full((2, 2), 255), torch.zeros(2, 2), 3).shape == (0, 3)


def test_pixels_without_a_prediction_count_as_wrong():
    scores = score_pairs(np.array([[0, NO_CLASS, 6], [0, 0, 4], [1, 1, 10]]), num_classes=2)
    assert scores.iou.tolist() == [0.4, 1.0] and scores.pixel_accuracy == 0.7


def test_too_many_outputs_that_are_not_finite_leave_no_score():
    labels, guesses = draw(1)
    guesses[3] = torch.full(SIZES[3], NO_CLASS)
    assert evaluation(labels, guesses, max_non_finite=0.25).score == evaluation(labels, guesses, 1.0).scores.mean_iou
    broken = evaluation(labels, guesses, max_non_finite=0.2)
    assert np.isnan(broken.score)
    assert "NaN or infinite outputs for 1 of 4, more than evaluation.max_non_finite=0.2" in broken.headline()


def test_without_labels_there_is_no_score():
    labels = [torch.full((4, 4), 255)]
    assert evaluation(labels, [torch.zeros(4, 4)]).score == float("-inf")
    assert evaluation([], []).score == float("-inf")


def test_the_report_has_a_row_per_class_and_image_worst_first(tmp_path):
    labels, guesses = draw(0)
    png = [np.frombuffer(f"png {number}".encode(), dtype=np.uint8) for number in range(len(labels))]
    result = evaluation(labels, guesses, png=png)
    result.write(tmp_path)
    rows = (tmp_path / "per_class.csv").read_text().splitlines()
    assert rows[0] == "label,class,pixels,iou,accuracy" and rows[5].startswith("4,class 4,0,,")
    images = [line.split(",") for line in (tmp_path / "images.csv").read_text().splitlines()[1:]]
    shares = [float(row[3]) for row in images if row[3]]
    assert shares == sorted(shares) and {row[1] for row in images} == {f"image_{n}" for n in range(4)}
    assert (tmp_path / "predictions/000002_image_2.png").read_bytes() == b"png 2"
    assert (tmp_path / "confusion.png").stat().st_size > 0


@pytest.mark.parametrize("name", ["mean_iou", "coverage"])
def test_lines_show_percent(name):
    assert any(name.replace("_", " ") in line and "%" in line for line in evaluation(*draw(0)).lines())


def test_classes_that_no_mean_counts_are_named():
    assert "  without a pixel      1 of 5 classes: class 4" in evaluation(*draw(0)).lines()
