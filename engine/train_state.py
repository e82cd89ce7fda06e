"""Where a run stands, as a checkpoint holds it: taken from the objects of the loop, and put back into them."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from engine.checkpoint import CheckpointError
from engine.parallel import load_model_state, load_optimizer_state, whole
from engine.placement import PlacedNetwork


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    best_score: float = float("-inf")
    best_step: int = 0
    evaluated_step: int = 0  # the last one
    num_skipped: int = 0  # steps whose numbers were not finite
    num_skipped_in_a_row: int = 0
    num_unreadable: int = 0  # training samples that had to be replaced, up to the last line of metrics.jsonl
    window: dict[str, float] = field(default_factory=dict)  # sums since that line, see Meter


def take_state(
    placed: PlacedNetwork, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, progress: Progress
) -> dict[str, Any]:
    """The state of a run as plain types and whole tensors; every rank must call it.

    Its tensors are those of the run, and change with the next update.
    """
    average = {} if placed.average is None else {"model_ema": _settled_state(placed.average.module)}
    return {
        "model": _settled_state(placed.model),
        **average,
        "optimizer": whole(optimizer.state_dict()),
        "scaler": scaler.state_dict(),
        "progress": copy.deepcopy(vars(progress)),
    }


def restore_state(
    saved: dict[str, Any], placed: PlacedNetwork, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> Progress:
    """Puts a saved state back, in place -> the progress of its run. Raises CheckpointError where it does not fit."""
    try:
        load_model_state(placed.model, saved["model"])
        if placed.average is not None:
            load_model_state(placed.average.module, saved["model_ema"])
        load_optimizer_state(optimizer, saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        return Progress(**saved["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(str(error).split("\n")[0]) from error


def _settled_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Its state dict, of which nothing changes before the next update: what a forward pass changes is copied."""
    buffers = {name for name, _ in model.named_buffers()}
    return {name: value.clone() if name in buffers else value for name, value in whole(model.state_dict()).items()}
