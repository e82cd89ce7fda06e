"""The state of a run for a checkpoint: collected from the training objects, and restored into them."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from engine.checkpoint import CheckpointError
from engine.own_code import score_of
from engine.parallel import full_tensors, load_model_state, load_optimizer_state
from engine.placement import PlacedNetwork
from engine.task import Evaluation


class Rank(NamedTuple):
    """What ranks weights: their score, then what breaks a tie. Larger is better."""

    score: float
    tie_break: float

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Rank":
        """The rank of an evaluation; a tie-break of NaN loses every tie."""
        tie_break = evaluation.tie_break
        return cls(score_of(evaluation), -math.inf if math.isnan(tie_break) else tie_break)


NOT_SCORED = Rank(-math.inf, -math.inf)


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    best_score: float = -math.inf
    best_tie_break: float = -math.inf  # of the weights with the best score
    best_step: int = 0
    num_without_gain: int = 0  # evaluations since the last gain
    evaluated_step: int = 0  # step of the last evaluation
    num_skipped: int = 0  # steps with a non-finite loss or gradient
    num_skipped_in_a_row: int = 0
    num_unreadable: int = 0  # unreadable training samples, up to the last line of metrics.jsonl
    window: dict[str, float] = field(default_factory=dict)  # sums since that line, see Meter

    def is_best(self, rank: Rank) -> bool:
        """Whether weights of this rank replace the best so far. Full ties go to the later step.

        Weights that could not be scored (-inf, NaN) never do.
        """
        return rank.score > -math.inf and rank >= self._best

    def is_gain(self, rank: Rank) -> bool:
        """Whether this rank is above the best so far."""
        return rank.score > -math.inf and rank > self._best

    def set_best(self, rank: Rank, step: int) -> None:
        self.best_score, self.best_tie_break, self.best_step = *rank, step

    def forget_best(self) -> None:
        """Starts a new search for the best score: earlier scores no longer count."""
        self.set_best(NOT_SCORED, 0)
        self.num_without_gain = self.evaluated_step = 0

    @property
    def _best(self) -> Rank:
        return Rank(self.best_score, self.best_tie_break)


def take_state(
    placed: PlacedNetwork, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, progress: Progress
) -> dict[str, Any]:
    """The state of a run as plain types and full tensors. Every rank must call it.

    Parameters and optimizer state are not copied: the next update changes them.
    """
    average = {} if placed.average is None else {"model_ema": _state_with_cloned_buffers(placed.average.module)}
    return {
        "model": _state_with_cloned_buffers(placed.model),
        **average,
        "optimizer": full_tensors(optimizer.state_dict()),
        "scaler": scaler.state_dict(),
        "progress": copy.deepcopy(vars(progress)),
    }


def restore_state(
    saved: dict[str, Any], placed: PlacedNetwork, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> Progress:
    """Restores a saved state, in place -> the progress of its run. Raises CheckpointError if it does not fit."""
    try:
        load_model_state(placed.model, saved["model"])
        if placed.average is not None:
            load_model_state(placed.average.module, saved["model_ema"])
        load_optimizer_state(optimizer, saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        return Progress(**saved["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(str(error).split("\n")[0]) from error


def _state_with_cloned_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict that stays valid until the next update: forward passes change only buffers, so those are cloned."""
    buffers = {name for name, _ in model.named_buffers()}
    state = full_tensors(model.state_dict())
    return {name: value.clone() if name in buffers else value for name, value in state.items()}
