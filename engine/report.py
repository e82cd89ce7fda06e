"""The report of an evaluation, as files that a person or a script can read.

summary.json       every number, and what was evaluated
per_class.csv      videos, accuracy of each class         confusion.csv, confusion.png
predictions.csv    one line a video: its label, the five best guesses and their probabilities
unreadable.csv     what could not be read, and why
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation import Evaluation
from engine.plots import plot_confusion


def write_report(
    folder: Path,
    evaluation: Evaluation,
    class_names: Sequence[str],
    describe: Callable[[int], tuple[str, str]],
    facts: dict[str, Any],
) -> None:
    """Writes the report into `folder`; `describe(index)` gives an item's (id, path), `facts` go into summary.json."""
    folder.mkdir(parents=True, exist_ok=True)
    predictions, scores = evaluation.predictions, evaluation.item_scores
    summary = {**facts, **evaluation.summary()}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _write_csv(
        folder / "per_class.csv",
        ("label", "class", "videos", "accuracy"),
        (
            (label, class_names[label], count, "" if count == 0 else f"{accuracy:.6f}")
            for label, (count, accuracy) in enumerate(
                zip(scores.per_class_count, scores.per_class_accuracy, strict=True)
            )
        ),
    )
    rows = zip(class_names, scores.confusion.tolist(), strict=True)
    _write_csv(folder / "confusion.csv", ("true class", *class_names), ((name, *counts) for name, counts in rows))
    plot_confusion(scores.confusion, class_names, folder / "confusion.png")
    _write_csv(
        folder / "predictions.csv",
        ("index", "id", "path", "label", *(f"{what}{n}" for n in range(1, 6) for what in ("guess", "probability"))),
        _prediction_rows(predictions.index, predictions.label, predictions.probabilities, describe),
    )
    _write_csv(
        folder / "unreadable.csv",
        ("index", "id", "path", "reason"),
        ((f["index"], describe(f["index"])[0], f["path"], f["reason"]) for f in predictions.failures),
    )


def _prediction_rows(index: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, describe: Callable):
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    for item, label, guesses, row in zip(index.tolist(), labels.tolist(), best, probabilities, strict=True):
        pairs = [cell for guess in guesses for cell in (int(guess), f"{row[guess]:.6f}")]
        yield (item, *describe(item), label, *pairs)


def _write_csv(path: Path, header: Sequence[str], rows: Any) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def summary_lines(evaluation: Evaluation) -> list[str]:
    """The summary as aligned lines of text, accuracies in percent."""
    summary = evaluation.summary()
    percent = {
        "clip top-1": summary["clip_top1"],
        "clip top-5": summary["clip_top5"],
        "video top-1": summary["video_top1"],
        "video top-5": summary["video_top5"],
        "mean class accuracy": summary["mean_class_accuracy"],
    }
    lines = [f"  {name:<20} {100 * value:6.2f} %" for name, value in percent.items()]
    lines.append(f"  {'loss':<20} {summary['loss']:8.4f}")
    lines.append(
        f"  {'coverage':<20} {100 * summary['coverage']:6.2f} %  ({summary['videos_read']:,} of "
        f"{summary['videos_listed']:,} videos read, {summary['videos_scored']:,} with a label)"
    )
    lines.append(
        f"  {'speed':<20} {summary['clips_per_second']:6.1f} clips/s  ({summary['clips_per_video']} per video)"
    )
    return lines
