"""The files of a segmentation report.

per_class.csv      pixels, IoU and accuracy of each class
images.csv         mean IoU and accuracy of each image, worst first
confusion.csv      the confusion matrix of pixels
unreadable.csv     the images that could not be read, and why
predictions/       a PNG with the predicted class of each pixel, per image, if the recipe asks for them
confusion.png      a plot of the confusion matrix, written last
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from evaluators.confusion_plot import plot_confusion
from evaluators.segmentation import SegmentationEvaluation, score_pairs
from evaluators.tables import share_cell, write_csv

log = logging.getLogger(__name__)


def write_report(folder: Path, evaluation: SegmentationEvaluation) -> None:
    """Writes the report's files into `folder`. A plot that fails only logs a warning: the scores are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    names, scores = evaluation.class_names, evaluation.scores
    columns = zip(range(len(names)), names, scores.pixels.tolist(), scores.iou, scores.accuracy, strict=True)
    write_csv(
        folder / "per_class.csv",
        ("label", "class", "pixels", "iou", "accuracy"),
        (
            (label, name, pixels, share_cell(iou), share_cell(accuracy))
            for label, name, pixels, iou, accuracy in columns
        ),
    )
    write_csv(folder / "images.csv", ("index", "id", "path", "mean_iou", "pixel_accuracy"), _image_rows(evaluation))
    write_csv(
        folder / "confusion.csv",
        ("true class", *names),
        ((name, *counts) for name, counts in zip(names, scores.confusion.tolist(), strict=True)),
    )
    evaluation.write_unreadable(folder)
    if "png" in evaluation.gathered.rows:
        _write_predictions(folder / "predictions", evaluation)
    try:
        plot_confusion(scores.confusion, names, folder / "confusion.png")
    except Exception as error:
        log.warning("cannot draw %s: %s; confusion.csv has its values", folder / "confusion.png", error)


def _image_rows(evaluation: SegmentationEvaluation) -> Iterator[tuple]:
    rows, num_classes = evaluation.gathered.rows, len(evaluation.class_names)
    if not rows:
        return
    scored = [
        (row, score_pairs(pairs, num_classes)) for row, pairs in zip(rows["index"].tolist(), rows["pairs"], strict=True)
    ]
    scored.sort(key=lambda entry: entry[1].mean_iou if entry[1].pixels.any() else float("inf"))
    for row, scores in scored:
        yield row, *evaluation.items[row], share_cell(scores.mean_iou), share_cell(scores.pixel_accuracy)


def _write_predictions(folder: Path, evaluation: SegmentationEvaluation) -> None:
    """Files are named after the index in the list and the id, so that no two images share one."""
    folder.mkdir(exist_ok=True)
    rows = evaluation.gathered.rows
    for row, png in zip(rows["index"].tolist(), rows["png"], strict=True):
        name = Path(evaluation.items[row][0]).name
        (folder / f"{row:06d}_{name}.png").write_bytes(png.tobytes())
