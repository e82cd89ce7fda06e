"""Checkpoints that are whole or not there: plain types, written beside, synced, renamed.

`last.pt` holds all that a run needs to go on; `previous.pt` is the one before, used when the newest cannot be read.
`best.safetensors` holds the weights with the best score alone. Learning rates and random numbers are functions of the
step, so the step is all that is kept of them.
"""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read."""


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
        temporary.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_sentence(error)
        raise CheckpointError(
            f"cannot write {path}: {reason}. What was written before is untouched; make room (`df -h {path.parent}`) "
            "and start again to continue"
        ) from error


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


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, folder: Path):
        self.last = folder / "last.pt"
        self.previous = folder / "previous.pt"
        self.best = folder / "best.safetensors"

    def write(self, state: dict[str, Any]) -> None:
        """Writes `state` as the newest checkpoint and keeps the one before."""
        for leftover in self.last.parent.glob(".*.partial"):  # of a process that was killed while it wrote
            leftover.unlink()
        fresh = self.last.with_name("next.pt")
        write_checkpoint(fresh, state)
        if self.last.exists():
            os.replace(self.last, self.previous)
        os.replace(fresh, self.last)

    def write_best(self, weights: dict[str, torch.Tensor], facts: dict[str, str]) -> None:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_atomically(self.best, lambda temporary: safetensors.torch.save_file(weights, temporary, metadata=facts))

    def read_newest(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None where the run has none yet.

        A damaged file is reported and the one before is used; raises CheckpointError if none of several can be read.
        """
        # next.pt is whole whenever it exists: a run was killed between the renames.
        found = [path for path in (self.last.with_name("next.pt"), self.last, self.previous) if path.exists()]
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
