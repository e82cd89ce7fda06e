"""The classes of an evaluation, from worst to best."""

from typing import NamedTuple

from report.confusion import Confusion, Matrix
from report.run_files import EvaluationFiles

FEW = 24  # classes that stand in one table
MAX_ENDS = 10  # best and worst, of many
MAX_ALL = 2000  # in the table of all


class ClassRow(NamedTuple):
    name: str
    count: int
    score: float
    mistaken_for: str
    """The class that its items are taken for most often, with the number; "" if they never are."""


def rank_classes(evaluation: EvaluationFiles, matrix: Matrix | None) -> list[ClassRow]:
    """The classes that have items, worst first."""
    worst: dict[str, Confusion] = {}
    for confusion in matrix.confusions() if matrix else ():
        worst.setdefault(confusion.true, confusion)
    rows = [
        ClassRow(row.name, row.count, row.score, f"{worst[row.name].guess} ({worst[row.name].count})")
        if row.name in worst
        else ClassRow(row.name, row.count, row.score, "")
        for row in evaluation.classes
        if row.score is not None
    ]
    return sorted(rows, key=lambda row: (row.score, -row.count, row.name))
