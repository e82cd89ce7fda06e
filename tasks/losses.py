"""Losses of classification beyond plain cross entropy."""

import torch
import torch.nn.functional as F
from pydantic import Field

from engine.settings import Settings


class LossSettings(Settings):
    """What is minimized."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the label that all classes get alike")


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Mean cross entropy of `logits` [B, C] with labels [B], smoothed, or with shares of the classes [B, C]."""
    if target.dim() == 2:
        return F.cross_entropy(logits, target)
    return F.cross_entropy(logits, target, label_smoothing=label_smoothing)
