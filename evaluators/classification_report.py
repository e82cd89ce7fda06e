"""The report of an evaluation, as files that a person or a script can read.

summary.json       every number, and what was evaluated
per_class.csv      videos, accuracy of each class (average precision, where a video may have several)
confusion.csv      how often each class was taken for which; of many classes the pairs that occur, and no picture
confusion.png      both only where a video has one class
predictions.csv    one line a video: its class or classes, the five best guesses and their probabilities
unreadable.csv     what could not be read, and why
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from engine.json_io import to_json
from engine.plots import plot_confusion
from evaluators.class_scores import ClassScores
from evaluators.classification import NUM_GUESSES, Evaluation

MOST_CLASSES_OF_A_MATRIX = 2000


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
    if isinstance(evaluation.item_scores, ClassScores):
        _write_confusion(folder, evaluation.item_scores, class_names)
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


def _write_confusion(folder: Path, scores: ClassScores, class_names: Sequence[str]) -> None:
    if scores.num_classes > MOST_CLASSES_OF_A_MATRIX:
        pairs = zip(scores.pairs.tolist(), scores.counts.tolist(), strict=True)
        rows = ((class_names[true], class_names[guess], count) for (true, guess), count in pairs)
        _write_csv(folder / "confusion.csv", ("true class", "predicted class", "count"), rows)
        return
    confusion = scores.confusion
    rows = zip(class_names, confusion.tolist(), strict=True)
    _write_csv(folder / "confusion.csv", ("true class", *class_names), ((name, *counts) for name, counts in rows))
    plot_confusion(confusion, class_names, folder / "confusion.png")


def _prediction_rows(evaluation: Evaluation, class_names: Sequence[str], describe: Callable) -> Iterator[tuple]:
    predictions = evaluation.predictions
    columns = (predictions.index, predictions.guesses[:, :NUM_GUESSES], predictions.probabilities[:, :NUM_GUESSES])
    for row, (item, guesses, probabilities) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        guessed = zip(guesses, probabilities, strict=True)
        pairs = [(class_names[guess], f"{probability:.6f}") for guess, probability in guessed]
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
