"""The sections of a run's page. Each appears if the files that it shows exist."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from report.cards import MAX_CARDS, mistake_cards
from report.classes import FEW, MAX_ALL, MAX_ENDS, rank_classes
from report.confusion import MAX_CONFUSIONS, read_matrix
from report.curves import best_rows, draw_curves
from report.run_files import MEASURES, EvaluationFiles, RunFiles
from report.thumbnails import read_picture
from report.verdict import judge, numbers_of

MAX_FILES = 100  # unreadable files listed


@dataclass(frozen=True)
class Section:
    """A part of a page: its anchor, title, template below templates/, and what the template needs."""

    id: str
    title: str
    template: str
    data: Mapping[str, Any] = field(default_factory=dict)


def sections_of(run: RunFiles, evaluation: EvaluationFiles | None) -> Iterator[Section]:
    """The sections of a run with one of its evaluations, in page order."""
    if run.metrics:
        data = {"charts": draw_curves({"": run.metrics}), "rows": best_rows(run.metrics)}
        yield Section("curves", "Training curves", "curves", data)
    if evaluation is not None:
        yield from _evaluation_sections(evaluation, run.places)
    yield from _file_sections(run, evaluation)
    if run.evaluations:
        rows = [(other, judge(other)) for other in run.evaluations]
        yield Section("evaluations", "All evaluations", "evaluations", {"rows": rows, "shown": evaluation})
    if run.recipe_text:
        yield Section("recipe", "Recipe", "recipe", {"text": run.recipe_text})
    if run.environments:
        data = {"rows": list(flatten(run.environments[-1])), "num_starts": len(run.environments)}
        yield Section("environment", "Environment", "environment", data)


def _evaluation_sections(evaluation: EvaluationFiles, places: Sequence[Path]) -> Iterator[Section]:
    matrix = read_matrix(evaluation)
    if matrix:
        data = {"matrix": matrix, "confusions": matrix.confusions(), "max_confusions": MAX_CONFUSIONS}
        yield Section("confusion", "Confusion matrix", "confusion", {**data, "of_pixels": evaluation.counts_pixels})
    rows = rank_classes(evaluation, matrix)
    if rows:
        few = len(rows) <= FEW
        counts, scores = evaluation.class_columns
        data = {"rows": rows, "few": few, "ends": MAX_ENDS, "max_all": MAX_ALL, "has_confusions": matrix is not None}
        title = "Classes, worst first" if few else "Worst and best classes"
        columns = {"counts": counts, "measures": [MEASURES[name] for name in scores]}
        yield Section("classes", title, "classes", data | columns)
    if evaluation.sheet and not evaluation.items:
        picture = read_picture(evaluation.sheet)
        yield Section("predictions", "Predictions", "predictions", {"picture": picture, "item": evaluation.item})
    if evaluation.items:
        count, cards = mistake_cards(evaluation, places)
        data = {"count": count, "cards": cards, "max_cards": MAX_CARDS, "item": evaluation.item}
        yield Section("mistakes", "Most confident mistakes", "mistakes", data)
    if evaluation.item is None:
        numbers = numbers_of(evaluation.summary)
        yield Section("numbers", "Scores", "numbers", {"numbers": numbers})


def _file_sections(run: RunFiles, evaluation: EvaluationFiles | None) -> Iterator[Section]:
    lists = [("evaluation", evaluation.unreadable if evaluation else []), ("training", run.failures)]
    lists = [(where, files) for where, files in lists if files]
    if lists or (evaluation and evaluation.item):
        yield Section("unreadable", "Unreadable files", "unreadable", {"lists": lists, "max_files": MAX_FILES})


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested dicts and lists as (dotted key, plain value) pairs; an empty one is itself."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    pairs = list(pairs)
    if not pairs:
        yield prefix, values
    elif isinstance(values, list) and not any(isinstance(value, dict | list) for value in values):
        yield prefix, " ".join(map(str, values))
    else:
        for key, value in pairs:
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
