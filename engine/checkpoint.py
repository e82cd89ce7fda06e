"""Atomic checkpoints of plain types: written to a temporary file, synced, renamed.

`last.pt` holds everything a run needs to resume. `previous.pt` is the checkpoint before it, the fallback if `last.pt`
cannot be read. Files such as `step-00001000.pt` are older checkpoints that the recipe keeps. `best.safetensors` holds
only the weights with the best score. Learning rates and random numbers are functions of the step, so only the step is
saved.

A background thread copies the run's state to CPU memory while the next step computes its gradient, then writes the
copy. An error in that thread is raised in the main thread at the next step.
"""

import contextlib
import errno
import json
import logging
import os
import pickle
import re
import shlex
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
    """A checkpoint or another file in the run directory cannot be written or read."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write(temporary)`, syncs that file to disk and renames it to `path`. Readers see the old file or the new.

    Raises CheckpointError if the disk is full or read-only; the old file at `path` is left untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        if temporary.stat().st_mode != mode:  # safetensors makes files that only their owner can read
            temporary.chmod(mode)
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
    number = _errno(error)
    reason = os.strerror(number) if number else _first_sentence(error)
    remedy = f"free some space (`df -h {shlex.quote(str(path.parent))}`)"
    if number not in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = f"make {path.parent} writable"
    return CheckpointError(
        f"cannot write {path}: {reason}. Earlier files are untouched; {remedy} and run the same command again to resume"
    )


def _errno(error: BaseException | None) -> int | None:
    """The system's error number behind an error of torch or safetensors; None if there is none."""
    if error is None or (isinstance(error, OSError) and error.errno):
        return error and error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors is written in Rust
    return int(found[1]) if found else _errno(error.__cause__ or error.__context__)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a path, torch does not say why it cannot write
            torch.save(state, file)

    write_atomically(path, write)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `write_checkpoint` wrote, onto the CPU. Never runs code from the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} does not exist") from None
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or not a checkpoint: {_first_sentence(error)}") from error


def read_fact(weights: Path, name: str) -> Any:
    """The metadata of a weight file under `name`, such as "recipe", without reading the weights.

    None if the file has no such metadata, or is not from this suite.
    """
    try:
        if weights.suffix == ".safetensors":
            with safetensors.safe_open(weights, "pt") as file:
                return _parsed((file.metadata() or {}).get(name, "null"))
        saved = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError):
        return None  # missing, damaged, or another format, such as an older torch.save
    return saved.get(name) if isinstance(saved, dict) else None


def _parsed(fact: str) -> Any:
    try:
        return json.loads(fact)
    except json.JSONDecodeError:
        return fact  # a word


def _first_sentence(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0] or type(error).__name__


class CopyOnCpu:
    """Copies nested dicts and lists of tensors to the CPU. Later changes to the originals do not reach the copy.

    The buffers are reused for the next state with the same shapes, so only the first copy allocates memory.
    """

    def __init__(self):
        self._tensors: dict[tuple, torch.Tensor] = {}
        self._devices: set[torch.device] = set()

    def of(self, state: Any) -> Any:
        copy = self.start(state)
        self.finish()
        return copy

    def start(self, state: Any) -> Any:
        """Like `of`, but only enqueues copies from a GPU, ahead of all later work on it. `finish` waits for them."""
        return self._copy(state, ())

    def finish(self) -> None:
        for device in self._devices:
            torch.cuda.synchronize(device)

    def _copy(self, value: Any, path: tuple) -> Any:
        if isinstance(value, torch.Tensor):
            buffer = self._tensors.get(path)
            if buffer is None or (buffer.shape, buffer.dtype) != (value.shape, value.dtype):
                buffer = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
                self._tensors[path] = buffer
            if value.is_cuda:
                self._devices.add(value.device)
            return buffer.copy_(value.detach(), non_blocking=True)
        if isinstance(value, dict):
            return {name: self._copy(inner, (*path, name)) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(inner, (*path, number)) for number, inner in enumerate(value)]
        return value


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: the folder that holds them.
        num_kept: how many of the newest checkpoints to keep, counting `last.pt` and `previous.pt`.
        keep_every_steps: never delete checkpoints at multiples of this step; None: delete all old ones.
    """

    def __init__(self, folder: Path, num_kept: int = 2, keep_every_steps: int | None = None):
        self.last = folder / "last.pt"
        self.previous = folder / "previous.pt"
        self.best = folder / "best.safetensors"
        self.num_kept, self.keep_every_steps = num_kept, keep_every_steps
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: list[Future] = []
        self._state, self._best_weights = CopyOnCpu(), CopyOnCpu()
        self._copied = threading.Event()
        self._copied.set()

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Writes `state` as the newest checkpoint, taken at `step`, and rotates the older ones.

        Raises CheckpointError if the disk is full or read-only.
        """
        try:
            for leftover in self.last.parent.glob(".*.partial"):  # left by a process killed during a write
                leftover.unlink()
            fresh = self.last.with_name("next.pt")
            write_checkpoint(fresh, state)
            if self.last.exists() and self.num_kept > 1:
                os.replace(self.last, self.previous)
            os.replace(fresh, self.last)
            self._rotate(step)
        except OSError as error:
            raise cannot_write(self.last, error) from error

    def write_best(self, weights: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_atomically(self.best, lambda temporary: safetensors.torch.save_file(weights, temporary, metadata=facts))

    def start_writing(self, step: int, state: dict[str, Any]) -> None:
        """Runs `write` in the background, on a copy. Do not change `state` until `wait_for_copy` returns.

        Waits for earlier writes to finish first.
        """
        self.wait()
        self._copied.clear()
        self._pending.append(self._writer.submit(self._copy_and_write, step, state))

    def _copy_and_write(self, step: int, state: dict[str, Any]) -> None:
        try:
            copy = self._state.start(state)
        finally:
            self._copied.set()
        self._state.finish()
        self.write(step, copy)

    def wait_for_copy(self) -> None:
        """Waits until the state passed to `start_writing` is copied and may change."""
        self._copied.wait()

    def start_writing_best(self, weights: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
        """Runs `write_best` in the background."""
        self.wait()
        self._pending.append(self._writer.submit(self.write_best, self._best_weights.of(weights), facts))

    def check(self) -> None:
        """Raises CheckpointError if a background write has failed."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def wait(self) -> None:
        """Waits for all background writes; raises CheckpointError like `check`."""
        while self._pending:
            self._pending.pop(0).result()

    def close(self) -> None:
        """Finishes pending writes."""
        self._writer.shutdown()

    def _rotate(self, step: int) -> None:
        """Links `last.pt` as `step-*.pt` if it must outlive `previous.pt`, then deletes expired checkpoints."""

        def is_permanent(number: int) -> bool:
            return self.keep_every_steps is not None and number % self.keep_every_steps == 0

        if self.num_kept > 2 or is_permanent(step):
            kept = self.last.with_name(f"step-{step:08d}.pt")
            kept.unlink(missing_ok=True)
            try:
                os.link(self.last, kept)
            except OSError:  # a file system without hard links
                write_atomically(kept, lambda temporary: shutil.copyfile(self.last, temporary))
        for path in self._numbered()[self.num_kept if self.num_kept > 2 else 0 :]:
            if not is_permanent(_step_of(path)):
                path.unlink()

    def _numbered(self) -> list[Path]:
        """The checkpoints with a step in their name, newest first."""
        return sorted(self.last.parent.glob("step-????????.pt"), reverse=True)

    def read_newest(self) -> dict[str, Any] | None:
        """The newest readable state, or None if the run has no checkpoint yet.

        Logs a damaged file and falls back to the one before. Raises CheckpointError if every file is damaged.
        """
        # next.pt exists if a run was killed between the renames. It is always complete.
        candidates = (self.last.with_name("next.pt"), self.last, self.previous, *self._numbered())
        found = [path for path in candidates if path.exists()]
        damage: list[CheckpointError] = []
        for path in found:
            try:
                return read_checkpoint(path)
            except CheckpointError as error:
                log.warning("%s; trying the one before", error)
                damage.append(error)
        if damage:
            raise CheckpointError(
                f"{damage[0]}; no older checkpoint is left. Remove {self.last.parent} to start from scratch"
            )
        return None


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
