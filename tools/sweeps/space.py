"""The trials of a sweep: every combination of the values on the command line, or random draws from them.

optimizer.lr=0.1                one value: the same in every trial
optimizer.lr=0.01,0.1           these values; commas in brackets or quotes do not separate
optimizer.lr=1e-4..1e-1:log     a range, for random draws; also 0..0.3 (uniform) and 10..50:int (whole numbers)
"""

import hashlib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from settings import SettingsError, parse_yaml

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(?::(\w+))?")
SCALES = ("uniform", "log", "int")
REPEATS = ("data.fold", "run.seed")
"""Settings that repeat an experiment: scores are averaged over them, and random trials have each of their values."""
LONGEST_NAME = 80


@dataclass(frozen=True)
class Axis:
    """A setting that varies between trials: `values` to choose from, or a range."""

    key: str
    values: tuple[str, ...] = ()
    lowest: float = 0.0
    highest: float = 0.0
    scale: str = ""
    """One of `SCALES`; "" for `values`."""

    def draw(self, rng: np.random.Generator) -> str:
        """A random value, as text for an override."""
        if self.scale == "":
            return self.values[int(rng.integers(len(self.values)))]
        if self.scale == "int":
            return str(int(rng.integers(int(self.lowest), int(self.highest), endpoint=True)))
        if self.scale == "log":
            return f"{math.exp(rng.uniform(math.log(self.lowest), math.log(self.highest))):.4g}"
        return f"{rng.uniform(self.lowest, self.highest):.4g}"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its own settings (key -> text of the value), and the name of its folder."""

    values: dict[str, str]
    name: str

    @property
    def overrides(self) -> list[str]:
        return [f"{key}={value}" for key, value in self.values.items()]


def read_space(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The overrides that are the same in every trial, and the settings that vary.

    Raises SettingsError for an invalid range and for a setting that is given twice.
    """
    fixed, axes = [], []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"{override!r} does not have the form key=value or key=value,value")
        if any(other.key == key for other in axes) or any(other.startswith(f"{key}=") for other in fixed):
            raise SettingsError(f"{key} is given twice; give all its values at once: {key}=A,B")
        if match := RANGE.fullmatch(text.strip()):
            axes.append(_range(override, key, *match.groups()))
        elif len(values := split_values(text)) > 1:
            parsed = [(isinstance(value, bool), value) for value in (parse_yaml(text, key) for text in values)]
            if twice := [value for number, value in enumerate(values) if parsed[number] in parsed[:number]]:
                raise SettingsError(f"{key} has the value {twice[0]} twice")
            axes.append(Axis(key, tuple(values)))
        else:
            fixed.append(override)
    return fixed, axes


def _range(override: str, key: str, lowest: str, highest: str, scale: str | None) -> Axis:
    axis = Axis(key, lowest=float(lowest), highest=float(highest), scale=scale or "uniform")
    if axis.scale not in SCALES:
        raise SettingsError(f"{override}: no scale is called {scale!r}; choose one of {', '.join(SCALES)}")
    if not axis.lowest < axis.highest:
        raise SettingsError(f"{override}: a range goes from a smaller to a larger number")
    if axis.scale == "log" and axis.lowest <= 0:
        raise SettingsError(f"{override}: a logarithmic range starts above 0")
    if axis.scale == "int" and not (axis.lowest.is_integer() and axis.highest.is_integer()):
        raise SettingsError(f"{override}: a range of whole numbers starts and ends at whole numbers")
    return axis


def split_values(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes. Raises SettingsError for an empty value."""
    values, start, depth, quote = [], 0, 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            values.append(text[start:at])
            start = at + 1
    values = [value.strip() for value in [*values, text[start:]]]
    if len(values) > 1 and "" in values:
        raise SettingsError(f"{text!r} has an empty value between its commas; write null for none")
    return values


def grid(axes: Sequence[Axis]) -> list[Trial]:
    """Every combination of values; the last setting changes fastest. Raises SettingsError if an axis is a range."""
    for axis in axes:
        if axis.scale:
            raise SettingsError(f"{axis.key} is a range, which only random trials can draw from: add --random N")
    return _named([dict(zip([axis.key for axis in axes], values, strict=True))
                   for values in itertools.product(*(axis.values for axis in axes))])  # fmt: skip


def draw(axes: Sequence[Axis], count: int, seed: int) -> list[Trial]:
    """`count` random draws without repetitions; each is a trial, or one for each combination of `REPEATS`.

    Draw n depends on n and the seed: a larger count adds to a smaller one. Raises SettingsError if there are too few
    different trials.
    """
    if ranges := [axis.key for axis in axes if axis.key in REPEATS and axis.scale]:
        raise SettingsError(f"{ranges[0]} repeats every trial and is not drawn; list its values: {ranges[0]}=0,1,2")
    repeats = [trial.values for trial in grid([axis for axis in axes if axis.key in REPEATS])]
    drawn: dict[tuple[str, ...], dict[str, str]] = {}
    for number in range(100 * count):
        rng = np.random.default_rng((seed, number))
        values = {axis.key: axis.draw(rng) for axis in axes if axis.key not in REPEATS}
        drawn.setdefault(tuple(values.values()), values)
        if len(drawn) == count:
            return _named([values | repeat for values in drawn.values() for repeat in repeats])
    raise SettingsError(f"found only {len(drawn)} different trials; lower --random, or leave it out for all of them")


def _named(trials: list[dict[str, str]]) -> list[Trial]:
    keys = list(trials[0]) if trials else []
    leaves = [key.rpartition(".")[2] for key in keys]
    short = {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)}
    named = []
    for values in trials:
        text = ",".join(f"{short[key]}={value}" for key, value in values.items())
        named.append(Trial(values, folder_name(text)))
    return named


def folder_name(text: str) -> str:
    """The name of a folder for settings: their text, as far as file names allow."""
    name = re.sub(r"[^\w.,=+-]", "_", text)
    if name == text and len(name) <= LONGEST_NAME:
        return name
    # Two texts may differ only in what was replaced.
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def as_number(text: str) -> float | None:
    """The value of a setting as a number; None if it is not a number."""
    value = parse_yaml(text, "value")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
