"""The report of an evaluation, as files that a person or a script can read.

summary.json       every number, and what was evaluated
per_class.csv      videos, accuracy of each class (average precision, where a video may have several)
confusion.csv, confusion.png    where a video has one class
predictions.csv    one line a video: its class or classes, the five best guesses and their probabilities
unreadable.csv     what could not be read, and why
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation import Evaluation
from engine.json_text import to_json
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
    predictions = evaluation.predictions
    measure, counts, scores = evaluation.class_scores()
    (folder / "summary.json").write_text(to_json({**facts, **evaluation.summary()}, indent=2) + "\n")
    _write_csv(
        folder / "per_class.csv",
        ("label", "class", f"{evaluation.item}s", measure),
        (
            (label, class_names[label], count, "" if count == 0 else f"{score:.6f}")
            for label, (count, score) in enumerate(zip(counts, scores, strict=True))
        ),
    )
    if (confusion := evaluation.item_scores.confusion) is not None:
        rows = zip(class_names, confusion.tolist(), strict=True)
        _write_csv(folder / "confusion.csv", ("true class", *class_names), ((name, *counts) for name, counts in rows))
        plot_confusion(confusion, class_names, folder / "confusion.png")
    _write_csv(
        folder / "predictions.csv",
        ("index", "id", "path", "class", *(f"{what}{n}" for n in range(1, 6) for what in ("guess", "probability"))),
        _prediction_rows(evaluation, class_names, describe),
    )
    _write_csv(
        folder / "unreadable.csv",
        ("index", "id", "path", "reason"),
        ((f["index"], describe(f["index"])[0], f["path"], f["reason"]) for f in predictions.failures),
    )


def _prediction_rows(evaluation: Evaluation, class_names: Sequence[str], describe: Callable) -> Iterator[tuple]:
    predictions = evaluation.predictions
    best = np.argsort(-predictions.probabilities, axis=1, kind="stable")[:, :5]
    for row, item in enumerate(predictions.index.tolist()):
        pairs = [(class_names[guess], f"{predictions.probabilities[row, guess]:.6f}") for guess in best[row]]
        classes = "; ".join(class_names[label] for label in evaluation.labels_of(row))
        yield (item, *describe(item), classes, *chain.from_iterable(pairs))


def _write_csv(path: Path, header: Sequence[str], rows: Any) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def summary_lines(evaluation: Evaluation) -> list[str]:
    """The summary as aligned lines of text, accuracies in percent."""
    summary, item, view = evaluation.summary(), evaluation.item, evaluation.view
    scores = {name.replace("_top", " top-").replace("_", " "): score for name, score in evaluation.accuracies().items()}
    width = max(20, *map(len, scores))
    lines = [f"  {name:<{width}} {100 * score:6.2f} %" for name, score in scores.items()]
    lines.append(f"  {'loss':<{width}} {summary['loss']:8.4f}")
    lines.append(
        f"  {'coverage':<{width}} {100 * summary['coverage']:6.2f} %  ({summary[f'{item}s_read']:,} of "
        f"{summary[f'{item}s_listed']:,} {item}s read, {summary[f'{item}s_scored']:,} with a label)"
    )
    speed, per_item = summary[f"{view}s_per_second"], summary[f"{view}s_per_{item}"]
    lines.append(f"  {'speed':<{width}} {speed:6.1f} {view}s/s  ({per_item} per {item})")
    return lines
