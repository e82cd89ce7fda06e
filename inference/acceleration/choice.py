"""Which method runs a network fastest on this machine: measured once, and kept beside the methods' files."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engine.checkpoint import CheckpointError, write_atomically
from engine.environment import package_version, processor_name
from inference.acceleration.methods import METHODS, Source
from inference.export.compare import (
    BATCH_SIZES,
    TOLERANCE,
    Agreement,
    Forward,
    compare_speed,
    max_differences,
    measure_agreement,
)
from inference.export.views import FileViews
from settings import UserError
from tasks.classification_settings import AccelerationMethod

log = logging.getLogger(__name__)

FILE = "choice.json"
WORTH_IT = 1.05
"""A method must be at least this many times as fast as eager mode to be used."""
MOST_CHANGED = 0.01
"""An inexact method is used only if at most this fraction of the compared files changes its most probable class."""
REPEATS = 3
PACKAGES = ("torch", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Measured:
    """Measurements of a method against eager mode."""

    difference: float
    """Largest difference of the logits for one random input, as a fraction of the largest absolute logit."""
    times_as_fast: float
    milliseconds: float
    """For a batch of the choice's size."""
    agreement: float | None = None
    """Fraction of files with the same most probable class; None: not compared (the method is exact, or no files)."""
    num_files: int = 0

    def __str__(self) -> str:
        text = f"{self.times_as_fast:.2f} times as fast as PyTorch's eager mode"
        if self.agreement is not None:
            return f"{text}, the same class for {100 * self.agreement:.1f} % of {self.num_files} files"
        return f"{text}, logits within {self.difference:.1e} of the largest"


@dataclass(frozen=True)
class Choice:
    """The outcome: a method, or eager mode."""

    method: AccelerationMethod | None
    measured: dict[AccelerationMethod, Measured]
    conditions: dict[str, Any]
    """The conditions it holds under: processor, threads, packages, batch size, methods tried."""

    def __str__(self) -> str:
        if self.method is None:
            tried = "; ".join(f"{name}: {found}" for name, found in self.measured.items())
            return f"PyTorch's eager mode{tried and f' ({tried})'}"
        return f"{self.method}, {self.measured[self.method]}"


def conditions(methods: Sequence[AccelerationMethod], batch_size: int) -> dict[str, Any]:
    """What a choice depends on besides the network."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "packages": versions(),
        "batch_size": batch_size,
        "methods": list(methods),
    }


def versions() -> dict[str, str | None]:
    """Versions of the packages that make and run the files; None: not installed."""
    return {name: package_version(name) for name in PACKAGES}


def choose(
    source: Source,
    eager: Forward,
    methods: Sequence[AccelerationMethod],
    batch_size: int,
    compared: Callable[[], Iterable[FileViews]] | None,
    multi_label: bool,
) -> Choice:
    """The fastest usable method, by measurement; under the same conditions, by the earlier measurement.

    A method that fails, has different outputs or changes too many predictions is left out, with a warning.

    Args:
        source: the network.
        eager: the same in eager mode, in the precision of its recipe.
        methods: those to try.
        batch_size: for which their speed is measured.
        compared: gives the files whose predictions are compared; None: there are none.
        multi_label: whether a file may have several classes.
    """
    here = conditions(methods, batch_size)
    path = source.folder / FILE
    known = _read(path)
    if known is not None and known.conditions == here:
        if known.method is None or _is_same(source, eager, known):
            return known
        log.warning("acceleration: %s has files of a network that computes something else; made anew", source.folder)
        source.clear()
    forwards: dict[AccelerationMethod, Forward] = {}
    for name in methods:
        with _left_out(name):
            forwards[name] = source.open(name)
    differences = _differences(source, eager, forwards)
    agreements = _agreements(eager, forwards, compared, multi_label)
    speeds = compare_speed(eager, forwards, source.shape, batch_size, REPEATS)
    measured = {}
    for name in forwards:
        milliseconds, ratio = speeds[name]
        agreement = agreements.get(name)
        measured[name] = Measured(
            differences[name],
            ratio,
            milliseconds,
            *((agreement.top1_agreement, agreement.num_files) if agreement else ()),
        )
    best = max(measured, key=lambda name: measured[name].times_as_fast, default=None)
    if best is not None and measured[best].times_as_fast < WORTH_IT:
        best = None
    choice = Choice(best, measured, here)
    try:
        write_atomically(path, lambda temporary: temporary.write_text(json.dumps(asdict(choice), indent=1) + "\n"))
    except CheckpointError as error:
        log.warning("acceleration: the next start measures anew: %s", error)
    return choice


def _is_same(source: Source, eager: Forward, known: Choice) -> bool:
    """Whether the kept file of a choice still matches the network, whose code may have changed since."""
    with _left_out(known.method):
        found = max_differences(eager, source.open(known.method), source.shape, (1,))[1]
        return abs(found - known.measured[known.method].difference) <= TOLERANCE
    return False


@contextmanager
def _left_out(name: AccelerationMethod) -> Iterator[None]:
    """Context in which an error becomes a warning that the method is not used."""
    try:
        yield
    except UserError as error:
        log.warning("acceleration: %s is left out: %s", name, error)
    except Exception as error:  # of any kind: each runtime has its own
        log.warning("acceleration: %s is left out: %s: %s", name, type(error).__name__, error)


def _differences(
    source: Source, eager: Forward, forwards: dict[AccelerationMethod, Forward]
) -> dict[AccelerationMethod, float]:
    """The difference of each for one random input. Removes those that fail, or should be exact but are not."""
    differences = {}
    for name in list(forwards):
        with _left_out(name):
            is_exact = METHODS[name].is_exact
            found = max_differences(eager, forwards[name], source.shape, BATCH_SIZES if is_exact else (1,))
            largest = max(found.values())
            if is_exact and not largest <= TOLERANCE:
                raise UserError(f"its logits differ by {largest:.1e} of the largest, more than {TOLERANCE:g}")
            differences[name] = found[1]
        if name not in differences:
            del forwards[name]
    return differences


def _agreements(
    eager: Forward,
    forwards: dict[AccelerationMethod, Forward],
    compared: Callable[[], Iterable[FileViews]] | None,
    multi_label: bool,
) -> dict[AccelerationMethod, Agreement]:
    """The agreement of each inexact method. Removes those that change too many predictions."""
    rounded = {name: forward for name, forward in forwards.items() if not METHODS[name].is_exact}
    found = {}
    if rounded and compared is not None:
        found = measure_agreement(eager, rounded, compared(), multi_label)
    for name in rounded:
        if name not in found:
            log.warning("acceleration: predictions of %s are not compared: no files of data.val can be read", name)
        elif (changed := found[name].num_changed) > round(MOST_CHANGED * found[name].num_files):
            del forwards[name]
            log.warning(
                "acceleration: %s is left out: %d of %d files change their class, more than %g %%",
                *(name, changed, found[name].num_files, 100 * MOST_CHANGED),
            )
    return found


def _read(path: Path) -> Choice | None:
    """The choice in a file; None if there is none, or it is damaged."""
    try:
        plain = json.loads(path.read_text())
        measured = {name: Measured(**facts) for name, facts in plain["measured"].items()}
        return Choice(plain["method"], measured, plain["conditions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
