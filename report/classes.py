"""The classes of an evaluation, from worst to best."""

from typing import NamedTuple

from report.charts import percent
from report.confusion import Confusion, Matrix
from report.run_files import EvaluationFiles

FEW = 24  # classes that fit in one table
MAX_ENDS = 10  # best and worst, if there are many
MAX_ALL = 2000  # in the table of all


class ClassRow(NamedTuple):
    name: str
    counts: tuple[int, ...]
    scores: tuple[float | None, ...]
    """The first one is known."""
    mistaken_for: str
    """The class that it is most often mistaken for, with the number or fraction of pixels; "" if none."""


def rank_classes(evaluation: EvaluationFiles, matrix: Matrix | None) -> list[ClassRow]:
    """The classes that have a score, worst first."""
    worst: dict[str, Confusion] = {}
    for confusion in matrix.confusions() if matrix else ():
        worst.setdefault(confusion.true, confusion)
    scored = [row for row in evaluation.classes if row.scores and row.scores[0] is not None]
    rows = [ClassRow(*row, _describe(worst.get(row.name), evaluation.counts_pixels)) for row in scored]
    return sorted(rows, key=lambda row: (row.scores[0], *(-count for count in row.counts), row.name))


def _describe(confusion: Confusion | None, as_share: bool) -> str:
    if confusion is None:
        return ""
    return f"{confusion.guess} ({percent(confusion.share) if as_share else confusion.count})"
