"""torch.export files: a network as a program that PyTorch runs without this suite."""

from collections.abc import Callable
from pathlib import Path

import torch

from engine.checkpoint import write_atomically
from inference.export.forms import quiet_loggers


def write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    def write(temporary: Path) -> None:
        with quiet_loggers(), open(temporary, "wb") as file:
            torch.export.save(program, file)

    write_atomically(path, write)


def read_program(path: str | Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network in a file of `write_program`: float32 [B, ...] to logits [B, classes]."""
    return torch.export.load(str(path)).module()
