"""The results of a sweep: lines for the terminal, results.csv, and index.html."""

import csv
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from engine.checkpoint import write_atomically
from tools.sweeps.page import draw_axis, render
from tools.sweeps.space import REPEATS, Axis, Trial
from tools.sweeps.trials import Outcome, spread

LONGEST_NOTE = 80  # characters of a reason in the terminal; results.csv has all of them


@dataclass(frozen=True)
class Row:
    """A trial and how it ended; `outcome` is None if it has not been started."""

    trial: Trial
    outcome: Outcome | None

    @property
    def status(self) -> str:
        return "waiting" if self.outcome is None else self.outcome.status

    @property
    def score(self) -> float | None:
        return self.outcome.score if self.outcome else None

    @property
    def minutes(self) -> float:
        return self.outcome.seconds / 60 if self.outcome else 0.0


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Rows by score; those without a score last."""
    return sorted(rows, key=lambda row: -math.inf if row.score is None else row.score, reverse=True)


def averages(rows: Sequence[Row]) -> list[tuple[dict[str, str], int, float, float]]:
    """Per combination of settings other than `REPEATS`: settings, trials with a score, mean and deviation; best first.

    Empty if the sweep repeats nothing.
    """
    if not any(key in REPEATS for key in rows[0].trial.values):
        return []
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        if row.score is not None:
            settings = tuple((key, value) for key, value in row.trial.values.items() if key not in REPEATS)
            groups.setdefault(settings, []).append(row.score)
    found = [(dict(settings), len(scores), *spread(scores)) for settings, scores in groups.items()]
    return sorted(found, key=lambda group: -group[2])


def table_lines(rows: Sequence[Row]) -> list[str]:
    """The table as aligned text, best score first, then the averages over folds and seeds."""
    header = [*rows[0].trial.values, "score", "step", "minutes", ""]
    cells = [[*row.trial.values.values(), *_numbers(row), shorten(_note(row), LONGEST_NOTE, placeholder=" ...")]
             for row in best_first(rows)]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
             for line in (header, *cells)]  # fmt: skip
    for settings, count, mean, deviation in averages(rows):
        which = f"{shlex.join(f'{key}={value}' for key, value in settings.items())}: " if settings else ""
        lines.append(f"{which}score {mean:.4f} ± {deviation:.4f} (mean ± standard deviation of {count} trials)")
    return lines


def _numbers(row: Row) -> list[str]:
    if row.score is None:
        return ["", "", f"{row.minutes:.1f}" if row.outcome else ""]
    return [f"{row.score:.4f}", str(row.outcome.step), f"{row.minutes:.1f}"]


def _note(row: Row) -> str:
    if row.status == "done":
        return ""
    return (row.outcome.reason if row.outcome else "") or row.status


def write_results(folder: Path, recipe: str, fixed: Sequence[str], axes: Sequence[Axis], rows: Sequence[Row]) -> None:
    """Writes results.csv, in the order of the trials, and index.html, best first."""
    write_atomically(folder / "results.csv", lambda path: path.write_text(_csv(rows), encoding="utf-8"))
    plots = [draw_axis(axis, [(row.trial.values[axis.key], row.score) for row in rows if row.score is not None])
             for axis in axes]  # fmt: skip
    page = render(
        title=folder.name,
        recipe=recipe,
        fixed=shlex.join(fixed),
        keys=list(rows[0].trial.values),
        rows=[(row, _numbers(row), _note(row)) for row in best_first(rows)],
        averages=averages(rows),
        plots=[plot for plot in plots if plot],
    )
    write_atomically(folder / "index.html", lambda path: path.write_text(page, encoding="utf-8"))


def _csv(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows if row.outcome for name in row.outcome.summary))
    text = io.StringIO()
    writer = csv.writer(text)
    header = ("trial", *rows[0].trial.values, "status", "reason", "score", "step", "seconds", *names)
    writer.writerow(header)
    for row in rows:
        outcome = row.outcome or Outcome([], "waiting")
        numbers = (outcome.score, outcome.step, round(outcome.seconds, 1))
        summary = (outcome.summary.get(name) for name in names)
        writer.writerow((row.trial.name, *row.trial.values.values(), row.status, outcome.reason, *numbers, *summary))
    return text.getvalue()
