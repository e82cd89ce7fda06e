"""The table of a comparison: means and standard deviations in Markdown and CSV, a CSV of all runs, and a plot."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.checkpoint import write_atomically
from tools.common.final_report import Result, read_result
from tools.common.output_files import write_table
from tools.comparisons.cost import Cost
from tools.comparisons.entries import Entry
from tools.sweeps.trials import Outcome, read_outcome, spread

COLUMNS = ("network", "best", "last", "runs", "minutes", "processor minutes", "parameters", "GMACs")
CSV_COLUMNS = (
    *("network", "list", "best", "best_spread", "last", "last_spread", "runs", "runs_done"),
    *("minutes", "minutes_spread", "processor_minutes", "parameters", "macs"),
)
RUN_COLUMNS = ("network", "run", "status", "reason", "list", "best", "best_step", "last", "last_step", "seconds",
               "processor_seconds")  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line of the table, from the finished runs."""

    entry: Entry
    outcomes: list[Outcome | None]
    """Of every trial; None: not started."""
    results: list[Result | None]
    """Of every trial; None: not done."""
    cost: Cost | None

    @property
    def done(self) -> list[tuple[Outcome, Result]]:
        pairs = zip(self.outcomes, self.results, strict=True)
        return [(outcome, result) for outcome, result in pairs if outcome and result and outcome.status == "done"]

    @property
    def on(self) -> str:
        """The setting of the scored list; "" until a run is done."""
        return next((result.on for _, result in self.done), "")

    @property
    def best(self) -> tuple[float, float]:
        """Mean and standard deviation of the best checkpoints."""
        return _spread([result.best.score for _, result in self.done if result.best and result.best.score is not None])

    @property
    def last(self) -> tuple[float, float]:
        """The same for the last checkpoints: of the averaged weights, if the run has them."""
        last = [result.last[-1].score for _, result in self.done if result.last]
        return _spread([score for score in last if score is not None])

    @property
    def honest(self) -> tuple[float, float]:
        """The score that ranks the lines: the best checkpoint's on a test list, else the last checkpoint's."""
        return self.best if self.on == "data.test" else self.last

    @property
    def minutes(self) -> tuple[float, float]:
        return _spread([outcome.seconds / 60 for outcome, _ in self.done])

    @property
    def processor_minutes(self) -> float:
        return _spread([outcome.processor_seconds / 60 for outcome, _ in self.done])[0]


def read_line(entry: Entry, cost: Cost | None) -> Line:
    """The line of an entry, from the folders of its runs."""
    folders = [entry.folder / trial.name for trial in entry.trials]
    return Line(entry, [*map(read_outcome, folders)], [*map(read_result, folders)], cost)


def best_first(lines: Sequence[Line]) -> list[Line]:
    """Lines by score; those without one last."""
    return sorted(lines, key=lambda line: -math.inf if math.isnan(line.honest[0]) else line.honest[0], reverse=True)


def markdown(lines: Sequence[Line]) -> list[str]:
    """The table, and below it what its numbers mean."""
    table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    table += [f"| {' | '.join(_cells(line))} |" for line in best_first(lines)]
    return [*table, "", *_notes(lines)]


def _cells(line: Line) -> tuple[str, ...]:
    cost = ("", "") if line.cost is None else (f"{line.cost.num_parameters / 1e6:.2f} M", _billions(line.cost.num_macs))
    runs = f"{len(line.done)} of {len(line.outcomes)}"
    if failed := sum(outcome is not None and outcome.status == "failed" for outcome in line.outcomes):
        runs += f", {failed} failed"
    if unscored := sum(not result.last or result.last[-1].score is None for _, result in line.done):
        runs += f", {unscored} without a score"
    times = (_number(line.minutes[0], 1), _number(line.processor_minutes, 1))
    return (f"`{line.entry.label}`", _with_spread(line.best), _with_spread(line.last), runs, *times, *cost)


def _notes(lines: Sequence[Line]) -> Iterator[str]:
    results = [result for line in lines for _, result in line.done]
    scores = _names_of_scores(results)
    for on, source in sorted({(result.on, result.source) for result in results}):
        choices = [result.choice for result in results if (result.on, result.source) == (on, source)]
        if on == "data.test":
            yield f"Scored on {on} ({source}), which chose nothing; data.val chose the best checkpoint of a run."
        elif not all(choice.startswith("nothing") for choice in choices):
            yield f"Scored on {on} ({source}), which chose the best checkpoint: a validation score, not a test."
        else:
            yield f"Scored on {on} ({source}) once, after the last step: nothing was chosen."
    if results:
        yield (
            f"Score: {', '.join(scores)}; mean ± standard deviation of the runs. Minutes: mean of a run with its "
            "evaluations, and those of processors. GMACs: one input, without FFTs and sums over edges."
        )


def _names_of_scores(results: Sequence[Result]) -> list[str]:
    """The name of the score that ranks checkpoints; several if the runs differ in it.

    Other scores may equal it by chance in one run, but hardly in all.
    """
    equal = [_numbers_equal_to_score(result) for result in results]
    everywhere = [name for name in (equal[0] if equal else []) if all(name in names for names in equal)]
    return everywhere[:1] or sorted({names[0] for names in equal})


def _numbers_equal_to_score(result: Result) -> list[str]:
    score = result.best or (result.last or [None])[-1]
    names = [name for name, value in (score.summary if score else {}).items() if value == score.score]
    return names or ["score of the task"]


def write_tables(folder: Path, lines: Sequence[Line]) -> None:
    """Writes table.md, table.csv (a row per line) and runs.csv (a row per run)."""
    text = "\n".join(markdown(lines)) + "\n"
    write_atomically(folder / "table.md", lambda path: path.write_text(text, encoding="utf-8"))
    write_table(folder / "table.csv", CSV_COLUMNS, map(_csv_row, best_first(lines)))
    write_table(folder / "runs.csv", RUN_COLUMNS, (row for line in lines for row in _run_rows(line)))


def write_plot(folder: Path, lines: Sequence[Line]) -> None:
    """Draws plot.png of the lines that have a score, if there are any."""
    if any(line.done for line in lines):
        from tools.comparisons.plot import draw_plot  # imports matplotlib, which takes a second

        image = io.BytesIO()
        draw_plot(image, [line for line in lines if line.done])
        write_atomically(folder / "plot.png", lambda path: path.write_bytes(image.getvalue()))


def _csv_row(line: Line) -> tuple[Any, ...]:
    cost = (None, None) if line.cost is None else line.cost
    counts = len(line.outcomes), len(line.done)
    numbers = (*line.best, *line.last, *counts, *line.minutes, line.processor_minutes)
    return (line.entry.label, line.on, *map(_or_empty, numbers), *cost)


def _run_rows(line: Line) -> Iterator[tuple[Any, ...]]:
    for trial, outcome, result in zip(line.entry.trials, line.outcomes, line.results, strict=True):
        outcome = outcome or Outcome([], "waiting")
        scores: tuple[Any, ...] = ("",) * 5
        if result is not None:
            best, last = result.best, result.last[-1] if result.last else None
            scores = (result.on, *_score_and_step(best), *_score_and_step(last))
        times = (round(outcome.seconds, 1), round(outcome.processor_seconds, 1))
        yield line.entry.label, trial.name, outcome.status, outcome.reason, *scores, *times


def _score_and_step(score: Any) -> tuple[Any, Any]:
    return ("", "") if score is None else (score.score, score.step)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; NaN without values."""
    return spread(values) if values else (math.nan, math.nan)


def _with_spread(pair: tuple[float, float]) -> str:
    mean, deviation = pair
    return _number(mean, 4) + (f" ± {deviation:.4f}" if not math.isnan(deviation) else "")


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _billions(number: float) -> str:
    return f"{number / 1e9:.3g}"


def _or_empty(value: float) -> Any:
    return "" if math.isnan(value) else value
