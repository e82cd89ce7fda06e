"""Runs the trials of a sweep, each as its own process, which trains in a run directory below the sweep's folder.

`trial.json` in that directory says how a trial ended; done and failed trials are not run again. An interrupted trial
continues from its last checkpoint. A trial's output goes to `output.txt`.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from textwrap import shorten
from typing import Any

from engine.checkpoint import read_fact, write_atomically
from engine.fingerprint import PARTS, changes
from engine.json_io import to_json
from engine.signals import EXIT_AGAIN, Stopped, StopSignals
from settings import SettingsError, differences, is_changeable, read_recipe
from tasks import find_task
from tools.common.run_scores import read_scores
from tools.sweeps.space import Trial

log = logging.getLogger(__name__)

KEEP_EVERY_SECONDS = 20
WITHOUT_DATA = ("model", "loss", "optimizer", "schedule", "train", "run")
"""Sections of a recipe that do not say what data it reads, except for `run.seed` and `model.num_classes`."""
TRAIN = Path(__file__).resolve().parent.parent / "train.py"


@dataclass
class Outcome:
    """How a trial ended."""

    command: list[str]
    """Recipe and overrides, without those that set the run directory."""
    status: str
    """done, failed or interrupted"""
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    """CPU time of all its processes."""
    score: float | None = None
    """The score of the best weights; None if nothing was scored."""
    step: int | None = None
    """The step of the best weights."""
    summary: dict[str, float] = field(default_factory=dict)
    """All scores of the evaluation of the best weights."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The settings, of recipe and command; empty if an older version wrote this."""
    fingerprint: dict[str, Any] = field(default_factory=dict)
    """That of the data, see `engine.fingerprint`; empty if nothing was scored, or an older version wrote this."""

    def say(self) -> str:
        """How it ended, in a line."""
        if self.status == "failed":
            return f"failed: {shorten(self.reason, 400, placeholder=' ...')}"
        if self.score is None:
            return self.status
        return f"validation score {self.score:.4f} at step {self.step}, {self.seconds / 60:.1f} minutes"


def run_trial(
    trial: Trial, recipe: str, fixed: Sequence[str], settings: dict[str, Any], sweep: Path, retries: bool
) -> Outcome:
    """Runs or continues a trial, unless it has ended already.

    `settings`: the trial's, as they were when the sweep began. `retries`: failed trials are run again. Raises
    SettingsError if the recipe has been edited since then, or the folder has a trial of another command, or one to be
    reused of another recipe; Stopped after a signal, even to the training alone, once the trial has saved.
    """
    folder, command = sweep / trial.name, [recipe, *fixed, *trial.overrides]
    if edited := _edited(settings, read_recipe(recipe, command[1:]), recipe):
        raise SettingsError(
            f"{recipe} has been edited ({edited}) since this command began; undo that and start it again to go on, or "
            "choose another --name"
        )
    before = read_outcome(folder)
    has_ended = before is not None and before.status in ("done", *(["failed"] if not retries else []))
    if before is not None:
        _check_same(before, command, settings, folder, has_ended)
    if has_ended:
        return before
    outcome, output = Outcome(command, "interrupted", settings=settings), folder / "output.txt"
    if before is not None:
        outcome.seconds, outcome.processor_seconds = before.seconds, before.processor_seconds
    with _alone_in(folder) as lock:
        start = output.stat().st_size if output.exists() else 0
        timed = _clock(outcome)
        try:
            status, stopped_by = _train(command, folder, lock, lambda: _write(folder, timed()))
        finally:
            _write(folder, timed())
    if status == 0:
        outcome.status = "done"
        if (best := read_scores(folder).best) is not None:
            outcome.score, outcome.step, outcome.summary = best.score, best.step, best.summary
            outcome.fingerprint = read_fact(folder / "checkpoints/best.safetensors", "fingerprint") or {}
    elif stopped_by is None and status != EXIT_AGAIN:
        outcome.status, outcome.reason = "failed", _reason(output, start, status)
    _write(folder, outcome)
    if outcome.status == "interrupted":
        raise Stopped(stopped_by or f"a signal to the training in {folder}")
    return outcome


def _check_same(before: Outcome, command: list[str], settings: dict[str, Any], folder: Path, has_ended: bool) -> None:
    """Raises SettingsError if `folder` has a trial of another command, or a trial to be reused of another recipe."""
    if before.command != command:
        raise SettingsError(
            f"{folder} holds a trial of another command ({' '.join(before.command)}); choose another --name"
        )
    is_used = has_ended or any((folder / "checkpoints").glob("*.pt"))
    recipe = command[0]
    if is_used and before.settings and (edited := _edited(before.settings, settings, recipe)):
        retry = "; --retry runs it again" if before.status == "failed" and has_ended else ""
        raise SettingsError(
            f"{folder} holds a trial of {recipe} as it was before an edit ({edited}); choose another --name{retry}"
        )


def read_outcome(folder: Path) -> Outcome | None:
    """How the trial in a folder ended; None if it has not been started."""
    path = folder / "trial.json"
    if not path.exists():
        return None
    known = {each.name for each in fields(Outcome)}  # another version may have written more
    return Outcome(**{name: value for name, value in json.loads(path.read_text()).items() if name in known})


def changed_data(trials: Iterable[tuple[str, Outcome | None]]) -> list[str]:
    """Warnings about trials, by name, whose settings name the same data but that read different data."""
    first: dict[str, tuple[str, Outcome]] = {}
    found = []
    for name, outcome in trials:
        if outcome is None or not outcome.fingerprint:
            continue
        settings = outcome.settings
        of_data = {section: values for section, values in settings.items() if section not in WITHOUT_DATA}
        own = (of_data, settings.get("run", {}).get("seed"), settings.get("model", {}).get("num_classes"))
        before, earlier = first.setdefault(to_json(own), (name, outcome))
        differing = [change for part in PARTS for change in changes(earlier.fingerprint, outcome.fingerprint, part)]
        if differing:
            found.append(
                f"{name} and {before} have the same data settings, but a list or table has changed in between "
                f"({'; '.join(differing)}, where before is {before}): their scores cannot be compared. Delete the "
                "folder of one to run it again, or choose another --name"
            )
    return found


def _write(folder: Path, outcome: Outcome) -> None:
    write_atomically(folder / "trial.json", lambda path: path.write_text(to_json(asdict(outcome), indent=2) + "\n"))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Context in which no other process trains in `folder`; yields the open lock, which the training process inherits.

    If a command is killed, the next one thus waits for the training it left behind. Raises SettingsError if the folder
    cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_WRONLY)
    except OSError as error:
        raise SettingsError(f"cannot write {folder}: {error.strerror}; choose another --name") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: waiting for the training that another command left here", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _clock(outcome: Outcome) -> Callable[[], Outcome]:
    """A function that adds the time since this call to that of the outcome, and returns the outcome."""
    seconds, processor_seconds = outcome.seconds, outcome.processor_seconds
    start, start_of_children = time.monotonic(), _time_of_children()

    def timed() -> Outcome:
        outcome.seconds = seconds + time.monotonic() - start
        outcome.processor_seconds = processor_seconds + _time_of_children() - start_of_children
        return outcome

    return timed


def _time_of_children() -> float:
    """CPU seconds that ended child processes have used, including their own children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _train(command: Sequence[str], folder: Path, lock: int, keep: Callable[[], None]) -> tuple[int, str | None]:
    """Trains in `folder` -> exit status, and the signal that this process was stopped by, if any.

    Calls `keep` now and then: what it writes remains if this process is killed.
    """
    recipe, *overrides = command
    line = [sys.executable, str(TRAIN), "-c", recipe, *overrides, f"run.dir={json.dumps(str(folder))}"]
    keep()
    kept = time.monotonic()
    with open(folder / "output.txt", "a") as output, StopSignals() as stop:
        process = subprocess.Popen(
            line, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, pass_fds=(lock,)
        )
        try:
            asked = False
            while process.poll() is None:
                if stop.name is not None and not asked:
                    process.terminate()  # it saves and ends
                    asked = True
                if time.monotonic() >= kept + KEEP_EVERY_SECONDS:
                    keep()
                    kept = time.monotonic()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        return process.returncode, stop.name


def _edited(old: dict[str, Any], new: dict[str, Any], recipe: str) -> str:
    """The settings in which two recipes differ, except those that a run may change: "optimizer.lr, data.train"."""
    schema = find_task(new, recipe).Settings
    # as trial.json gives them back
    old, new = (json.loads(json.dumps(settings, default=str)) for settings in (old, new))
    return ", ".join(key for key in differences(old, new) if not is_changeable(schema, key))


def _reason(output: Path, start: int, status: int) -> str:
    """What went wrong, in a line: the suite's error in the output from `start` on, or a traceback's last line."""
    text = output.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [at for at, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        return " ".join(lines[errors[-1] :]).removeprefix("error: ")
    ending = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{ending}: {lines[-1]}" if lines and status > 0 else ending


def spread(scores: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample: divided by n - 1) of scores; the deviation of one score is NaN."""
    mean = sum(scores) / len(scores)
    if len(scores) < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
