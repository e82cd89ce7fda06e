"""Reads the files of a run directory. All are optional: missing or damaged files read as empty.

Tables that are cut off lose their damaged rows only.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from engine.environment import read_environments
from engine.json_io import read_json_lines
from engine.run import existing_run
from settings import SUITE, SettingsError, read_recipe

Row = TypeVar("Row")

MEASURES = {
    "accuracy": "accuracy", "average_precision": "average precision", "iou": "IoU",
    "box_ap": "box AP", "box_ap50": "box AP50", "mask_ap": "mask AP", "mask_ap50": "mask AP50",
}  # fmt: skip
"""Columns of per_class.csv that are scores -> their names on the page. The other columns are counts."""
RUN_FILES = ("recipe.yaml", "metrics.jsonl", "evaluations")
"""A folder with none of these is not a run directory."""


class Item(NamedTuple):
    """A row of predictions.csv."""

    index: str
    id: str
    path: str
    classes: tuple[str, ...]
    """Its true classes; () if unknown."""
    guesses: tuple[tuple[str, float], ...]
    """(class, probability), best first; () if the outputs were NaN or infinite."""

    @property
    def is_right(self) -> bool:
        """Whether the best guess is one of its classes."""
        return bool(self.guesses) and self.guesses[0][0] in self.classes


class ClassScore(NamedTuple):
    """A row of per_class.csv."""

    name: str
    counts: tuple[int, ...]
    """Counts, such as items; pixels; objects and detections. See `EvaluationFiles.class_columns`."""
    scores: tuple[float | None, ...]
    """Scores, as fractions, the main one first; None if there is nothing to score."""


@dataclass(frozen=True)
class EvaluationFiles:
    """A folder below `evaluations/`."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def summary(self) -> dict[str, Any]:
        return _read_json(self.folder / "summary.json")

    @property
    def item(self) -> str | None:
        """The word for what is classified, such as "video"; None if the task is not classification."""
        words = (key.removesuffix("s_listed") for key in self.summary if key.endswith("s_listed"))
        return next((word for word in words if f"{word}s_read" in self.summary), None)

    @property
    def is_multi_label(self) -> bool:
        return "mean_average_precision" in self.summary

    @property
    def counts_pixels(self) -> bool:
        """Whether classes are those of pixels: counts are then large, and fractions say more."""
        return "mean_iou" in self.summary

    @property
    def class_columns(self) -> tuple[list[str], list[str]]:
        """The names of the classes' counts and scores, as in per_class.csv."""
        header = next(iter(_read_csv(self.folder / "per_class.csv")), [])[2:]
        return [name for name in header if name not in MEASURES], [name for name in header if name in MEASURES]

    @cached_property
    def classes(self) -> list[ClassScore]:
        """In order of their labels."""
        counts, scores = (len(names) for names in self.class_columns)

        def parse(row: Sequence[str]) -> ClassScore:
            return ClassScore(row[1], tuple(map(int, row[2 : 2 + counts])), tuple(map(_fraction, row[2 + counts :])))

        rows = _read_csv(self.folder / "per_class.csv")[1:]
        return _parsed((row for row in rows if len(row) == 2 + counts + scores), parse)

    @cached_property
    def items(self) -> list[Item]:
        rows = _read_csv(self.folder / "predictions.csv")[1:]
        return _parsed((row for row in rows if len(row) >= 4), self._item)

    def _item(self, row: Sequence[str]) -> Item:
        guesses = ((name, float(value)) for name, value in zip(row[4::2], row[5::2], strict=False) if value)
        several = _split_names(row[3], {row.name for row in self.classes}) if self.is_multi_label else [row[3]]
        return Item(*row[:3], tuple(filter(None, several)), tuple(guesses))

    @cached_property
    def confusion(self) -> tuple[list[str], dict[tuple[int, int], int]]:
        """Class names, and the counts of the (true, predicted) pairs of labels that occur."""
        try:
            return self._read_confusion()
        except (ValueError, KeyError):  # cut off
            return [], {}

    def _read_confusion(self) -> tuple[list[str], dict[tuple[int, int], int]]:
        rows = _read_csv(self.folder / "confusion.csv")
        if not rows:
            return [], {}
        if tuple(rows[0]) == ("true class", "predicted class", "count"):  # a list of pairs: many classes
            names = [row.name for row in self.classes]
            label_of = {name: label for label, name in enumerate(names)}
            return names, {(label_of[true], label_of[guess]): int(count) for true, guess, count in rows[1:]}
        if any(len(row) != len(rows) for row in rows):
            return [], {}
        counts = ((true, guess, text) for true, row in enumerate(rows[1:]) for guess, text in enumerate(row[1:]))
        return rows[0][1:], {(true, guess): int(text) for true, guess, text in counts if text != "0"}

    @property
    def sheet(self) -> Path | None:
        """The image of predictions beside the truth, if it was drawn."""
        path = self.folder / "predictions.png"
        return path if path.is_file() else None

    @cached_property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the items that could not be read."""
        return [(row[2], row[3]) for row in _read_csv(self.folder / "unreadable.csv")[1:] if len(row) == 4]


@dataclass(frozen=True)
class RunFiles:
    """A run directory. Use `open_run_files`."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's path below `runs/`, else its name."""
        parts = self.folder.resolve().parts
        start = len(parts) - 1 - parts[::-1].index("runs") + 1 if "runs" in parts[:-1] else len(parts) - 1
        return "/".join(parts[start:])

    @cached_property
    def recipe(self) -> dict[str, Any]:
        try:
            return read_recipe(self.folder / "recipe.yaml")
        except SettingsError:
            return {}

    @cached_property
    def recipe_text(self) -> str:
        path = self.folder / "recipe.yaml"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that have a step, an epoch and a split."""
        rows = _read_rows(self.folder / "metrics.jsonl")
        return [row for row in rows if {"step", "epoch", "split"} <= row.keys()]

    @cached_property
    def failures(self) -> list[tuple[str, str]]:
        """(path, reason) of the samples that could not be read in training."""
        rows = _read_rows(self.folder / "failures.jsonl")
        return [(str(row.get("path", "")), str(row.get("reason", ""))) for row in rows]

    @cached_property
    def environments(self) -> list[dict[str, Any]]:
        """One entry for each start of the run, oldest first."""
        try:
            starts = read_environments(self.folder / "environment.json")
        except (OSError, ValueError):
            return []
        return starts if isinstance(starts, list) and all(isinstance(start, dict) for start in starts) else []

    @property
    def places(self) -> list[Path]:
        """The folders that paths in its files may be relative to: the current one, and those of the run's starts."""
        starts = [Path(str(start["folder"])) for start in reversed(self.environments) if start.get("folder")]
        return list(dict.fromkeys([Path.cwd(), *starts, SUITE]))

    @cached_property
    def evaluations(self) -> list[EvaluationFiles]:
        """Newest first."""
        found = [path for path in self.folder.glob("evaluations/*/summary.json") if _read_json(path)]
        return [EvaluationFiles(path.parent) for path in sorted(found, key=lambda path: -path.stat().st_mtime_ns)]

    def find_evaluation(self, name: str | None) -> EvaluationFiles | None:
        """The evaluation called `name`; None: the newest, if any. Raises SettingsError if it does not exist."""
        if name is None:
            return next(iter(self.evaluations), None)
        for evaluation in self.evaluations:
            if evaluation.name == name:
                return evaluation
        names = ", ".join(evaluation.name for evaluation in self.evaluations) or "none"
        raise SettingsError(f"{self.folder} has no evaluation {name!r}; it has: {names}")


def open_run_files(folder: Path) -> RunFiles:
    """The files of a run directory. Raises SettingsError if it is not one."""
    if not any((existing_run(folder) / name).exists() for name in RUN_FILES):
        raise SettingsError(f"{folder} is not a run directory: it has none of {', '.join(RUN_FILES)}")
    return RunFiles(folder)


def _split_names(text: str, known: Collection[str]) -> list[str]:
    """The class names in a cell, joined by "; ". As that may also be part of a name, the longest known name counts."""
    parts, names = text.split("; "), []
    while parts:
        lengths = range(len(parts), 0, -1)
        length = next((length for length in lengths if "; ".join(parts[:length]) in known), 1)
        names.append("; ".join(parts[:length]))
        del parts[:length]
    return names


def _fraction(text: str) -> float | None:
    return float(text) if text else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects in a .jsonl file."""
    try:
        return [row for row in read_json_lines(path) if isinstance(row, dict)]
    except (OSError, ValueError):
        return []


def _parsed(rows: Iterable[Sequence[str]], parse: Callable[[Sequence[str]], Row]) -> list[Row]:
    """What `parse` makes of the rows, without those whose numbers are cut off."""
    parsed = []
    for row in rows:
        with contextlib.suppress(ValueError):
            parsed.append(parse(row))
    return parsed


def _read_csv(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.reader(file))
