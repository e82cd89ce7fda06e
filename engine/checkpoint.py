"""Checkpoints that are whole or not there: plain types, written beside, synced, renamed.

`last.pt` holds all that a run needs to go on; `previous.pt` is the one before, used when the newest cannot be read;
`step-00001000.pt` are older ones that the recipe wants kept. `best.safetensors` holds the weights with the best score
alone. Learning rates and random numbers are functions of the step, so the step is all that is kept of them.

A thread copies a run's state to the CPU's memory while the next step computes its gradient, then writes it; what goes
wrong there is raised in the run's own thread, at the next step.
"""

import contextlib
import logging
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from settings import UserError

log = logging.getLogger(__name__)


class CheckpointError(UserError, RuntimeError):
    """A checkpoint, or another file of the run directory, that cannot be written or read."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write(temporary)`, syncs that file to disk and renames it to `path`: one sees the old file or the new one.

    Raises CheckpointError where the disk is full or not writable; what was at `path` is untouched then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:  # torch and safetensors wrap a full disk
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> CheckpointError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_sentence(error)
    return CheckpointError(
        f"cannot write {path}: {reason}. What was written before is untouched; make room (`df -h {path.parent}`) and "
        "start again to continue"
    )


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote, on the CPU; never runs code from the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} does not exist") from None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or no checkpoint: {_first_sentence(error)}") from error


def _first_sentence(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0] or type(error).__name__


class CopyOnCpu:
    """A copy of nested dicts and lists, with tensors of its own on the CPU: what changes later does not change it.

    Its memory is used again for the next state of the same shapes, so only the first copy has to ask for it.
    """

    def __init__(self):
        self._tensors: dict[tuple, torch.Tensor] = {}
        self._devices: set[torch.device] = set()

    def of(self, state: Any) -> Any:
        copy = self.start(state)
        self.finish()
        return copy

    def start(self, state: Any) -> Any:
        """The same, but copies from a GPU are only enqueued, before all work that follows there, until `finish`."""
        return self._copy(state, ())

    def finish(self) -> None:
        for device in self._devices:
            torch.cuda.synchronize(device)

    def _copy(self, value: Any, place: tuple) -> Any:
        if isinstance(value, torch.Tensor):
            mine = self._tensors.get(place)
            if mine is None or (mine.shape, mine.dtype) != (value.shape, value.dtype):
                mine = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
                self._tensors[place] = mine
            if value.is_cuda:
                self._devices.add(value.device)
            return mine.copy_(value.detach(), non_blocking=True)
        if isinstance(value, dict):
            return {name: self._copy(inner, (*place, name)) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(inner, (*place, number)) for number, inner in enumerate(value)]
        return value


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: where they are.
        num_kept: how many of the newest stay, `last.pt` and `previous.pt` among them.
        keep_every_steps: checkpoints of multiples of it stay for good; None: of none.
    """

    def __init__(self, folder: Path, num_kept: int = 2, keep_every_steps: int | None = None):
        self.last = folder / "last.pt"
        self.previous = folder / "previous.pt"
        self.best = folder / "best.safetensors"
        self.num_kept, self.keep_every_steps = num_kept, keep_every_steps
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: list[Future] = []
        self._state, self._best_weights = CopyOnCpu(), CopyOnCpu()
        self._copied = threading.Event()
        self._copied.set()

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Writes `state` as the newest checkpoint, that of `step`, and keeps the ones before."""
        for leftover in self.last.parent.glob(".*.partial"):  # of a process that was killed while it wrote
            leftover.unlink()
        fresh = self.last.with_name("next.pt")
        write_checkpoint(fresh, state)
        if self.last.exists() and self.num_kept > 1:
            os.replace(self.last, self.previous)
        os.replace(fresh, self.last)
        self._keep(step)

    def write_best(self, weights: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_atomically(self.best, lambda temporary: safetensors.torch.save_file(weights, temporary, metadata=facts))

    def start_writing(self, step: int, state: dict[str, Any]) -> None:
        """`write`, in the background, which copies `state` first: nothing in it may change before `wait_for_copy`.

        Waits for what is still being written.
        """
        self.wait()
        self._copied.clear()
        self._writing.append(self._writer.submit(self._copy_and_write, step, state))

    def _copy_and_write(self, step: int, state: dict[str, Any]) -> None:
        try:
            copy = self._state.start(state)
        finally:
            self._copied.set()
        self._state.finish()
        self.write(step, copy)

    def wait_for_copy(self) -> None:
        """Waits until the state that is being written may change."""
        self._copied.wait()

    def start_writing_best(self, weights: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
        """`write_best`, in the background."""
        self.wait()
        self._writing.append(self._writer.submit(self.write_best, self._best_weights.of(weights), facts))

    def check(self) -> None:
        """Raises CheckpointError where something that was written in the background could not be."""
        while self._writing and self._writing[0].done():
            self._writing.pop(0).result()

    def wait(self) -> None:
        """Waits until everything is written; raises CheckpointError as `check` does."""
        while self._writing:
            self._writing.pop(0).result()

    def _keep(self, step: int) -> None:
        """Gives `last.pt` a second name where it shall outlive `previous.pt`; removes what has had its time."""

        def is_for_good(number: int) -> bool:
            return self.keep_every_steps is not None and number % self.keep_every_steps == 0

        if self.num_kept > 2 or is_for_good(step):
            kept = self.last.with_name(f"step-{step:08d}.pt")
            kept.unlink(missing_ok=True)
            try:
                os.link(self.last, kept)
            except OSError:  # a file system without hard links
                write_atomically(kept, lambda temporary: shutil.copyfile(self.last, temporary))
        for path in self._kept()[self.num_kept if self.num_kept > 2 else 0 :]:
            if not is_for_good(_step_of(path)):
                path.unlink()

    def _kept(self) -> list[Path]:
        """The checkpoints with a step in their name, the newest first."""
        return sorted(self.last.parent.glob("step-????????.pt"), reverse=True)

    def read_newest(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None where the run has none yet.

        A damaged file is reported and the one before is used; raises CheckpointError if none of several can be read.
        """
        # next.pt is whole whenever it exists: a run was killed between the renames.
        candidates = (self.last.with_name("next.pt"), self.last, self.previous, *self._kept())
        found = [path for path in candidates if path.exists()]
        damage: list[CheckpointError] = []
        for path in found:
            try:
                return read_checkpoint(path)
            except CheckpointError as error:
                log.warning("%s; trying the one before", error)
                damage.append(error)
        if damage:
            raise CheckpointError(f"{damage[0]}; no older one is left. Remove {self.last.parent} to start from scratch")
        return None


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
