"""The report of a classification: files for people and scripts, and lines for the terminal.

per_class.csv      number of items and accuracy of each class (average precision if items have several classes)
confusion.csv      the confusion matrix; above 2,000 classes a list of the pairs that occur, and no plot
predictions.csv    a row per item: its class or classes, the five best guesses (fewer classes: all) and their
                   probabilities
unreadable.csv     the items that could not be read, and why
confusion.png      a plot of the confusion matrix, written last; matrix and plot only if every item has a single class

An item whose outputs are NaN or infinite has no guesses in predictions.csv, and is not in the confusion matrix.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.class_scores import NO_GUESS, ClassScores
from evaluators.confusion_plot import plot_confusion
from evaluators.tables import write_csv

if TYPE_CHECKING:
    from evaluators.classification import ClassificationEvaluation

log = logging.getLogger(__name__)

MAX_MATRIX_CLASSES = 2000
NUM_GUESSES = 5


def write_report(folder: Path, evaluation: "ClassificationEvaluation") -> None:
    """Writes the report's files into `folder`. A plot that fails only logs a warning: the scores are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    naming, (measure, counts, scores) = evaluation.naming, evaluation.class_scores()
    write_csv(
        folder / "per_class.csv",
        ("label", "class", f"{naming.item}s", measure),
        (
            (label, naming.class_names[label], count, "" if count == 0 else f"{score:.6f}")
            for label, (count, score) in enumerate(zip(counts, scores, strict=True))
        ),
    )
    has_matrix = isinstance(evaluation.item_scores, ClassScores)
    if has_matrix:
        _write_confusion(folder, evaluation.item_scores, naming.class_names)
    num_guesses = min(NUM_GUESSES, evaluation.predictions.num_classes)
    columns = (f"{name}{n}" for n in range(1, num_guesses + 1) for name in ("guess", "probability"))
    write_csv(folder / "predictions.csv", ("index", "id", "path", "class", *columns), _prediction_rows(evaluation))
    write_csv(
        folder / "unreadable.csv",
        ("index", "id", "path", "reason"),
        ((f["index"], naming.describe(f["index"])[0], f["path"], f["reason"]) for f in evaluation.failures),
    )
    if has_matrix and evaluation.item_scores.num_classes <= MAX_MATRIX_CLASSES:
        path = folder / "confusion.png"
        try:
            plot_confusion(evaluation.item_scores.confusion, naming.class_names, path)
        except Exception as error:
            log.warning("cannot draw %s: %s; confusion.csv has its values", path, error)


def _write_confusion(folder: Path, scores: ClassScores, class_names: Sequence[str]) -> None:
    if scores.num_classes > MAX_MATRIX_CLASSES:
        pairs = zip(*(column.tolist() for column in scores.guessed_pairs()), strict=True)
        rows = ((class_names[true], class_names[guess], count) for (true, guess), count in pairs)
        write_csv(folder / "confusion.csv", ("true class", "predicted class", "count"), rows)
        return
    rows = zip(class_names, scores.confusion.tolist(), strict=True)
    write_csv(folder / "confusion.csv", ("true class", *class_names), ((name, *counts) for name, counts in rows))


def _prediction_rows(evaluation: "ClassificationEvaluation") -> Iterator[tuple]:
    predictions, naming = evaluation.predictions, evaluation.naming
    columns = (predictions.index, predictions.guesses[:, :NUM_GUESSES], predictions.probabilities[:, :NUM_GUESSES])
    for row, (item, guesses, probabilities) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        pairs = [
            ("", "") if guess == NO_GUESS else (naming.class_names[guess], f"{probability:.6f}")
            for guess, probability in zip(guesses, probabilities, strict=True)
        ]
        classes = "; ".join(naming.class_names[label] for label in evaluation.labels_of(row))
        yield (item, *naming.describe(item), classes, *chain.from_iterable(pairs))


def summary_lines(evaluation: "ClassificationEvaluation") -> list[str]:
    """The summary as aligned lines of text, with accuracies in percent."""
    summary, item, view = evaluation.summary(), evaluation.naming.item, evaluation.naming.view
    scores = {name.replace("_top", " top-").replace("_", " "): score for name, score in evaluation.accuracies().items()}
    width = max(20, *map(len, scores))
    lines = [f"  {name:<{width}} {100 * score:6.2f} %" for name, score in scores.items()]
    lines.append(f"  {'loss':<{width}} {summary['loss']:8.4f}")
    lines.append(
        f"  {'coverage':<{width}} {100 * summary['coverage']:6.2f} %  ({summary[f'{item}s_read']:,} of "
        f"{summary[f'{item}s_listed']:,} {item}s read, {summary[f'{item}s_scored']:,} with a label)"
    )
    if problem := evaluation.predictions.say_non_finite(evaluation.max_non_finite):
        lines.append(
            f"  {'not finite':<{width}} {problem}; they count as wrong, and predictions.csv has no guess for them"
        )
    speed, per_item = summary[f"{view}s_per_second"], summary[f"{view}s_per_{item}"]
    lines.append(f"  {'speed':<{width}} {speed:6.1f} {view}s/s  ({per_item} per {item})")
    return lines
