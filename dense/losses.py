r"""Losses of detectors, as sums over all values; the heads normalize them as in their papers.

All are computed at least in float32, even under mixed precision.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from dense.boxes import EPSILON, box_area, in_full_precision


def smooth_l1(prediction: torch.Tensor, target: torch.Tensor, beta: float = 0.0) -> torch.Tensor:
    r"""Sum of :math:`|d|`, but :math:`d^2 / 2 \beta` + constant where :math:`|d| < \beta`; arXiv 1504.08083, eq. 3.

    The constant joins the two: the linear part is :math:`|d| - \beta / 2`. With beta 0 this is L1.
    """
    prediction = in_full_precision(prediction)
    return F.smooth_l1_loss(prediction, target.to(prediction.dtype), reduction="sum", beta=beta)


def binary_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum of -log p of the target over all values; logits and targets (0 or 1) have the same shape."""
    logits = in_full_precision(logits)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="sum")


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of -log softmax at the labels [N] over the rows of logits [N, K]."""
    return F.cross_entropy(in_full_precision(logits), labels, reduction="sum")


def sigmoid_focal(logits: torch.Tensor, target: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    r"""Sum of :math:`-\alpha_t (1 - p_t)^\gamma \log p_t`: arXiv 1708.02002, equation 5.

    :math:`p_t` is the probability of the target, and :math:`\alpha_t` is alpha where the target is 1 and 1 - alpha
    where it is 0.
    """
    logits = in_full_precision(logits)
    target = target.to(logits.dtype)
    p = logits.sigmoid()
    missing = p * (1 - target) + (1 - p) * target  # 1 - p_t
    weight = (alpha * target + (1 - alpha) * (1 - target)) * missing**gamma
    return (weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum()


def giou(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    r"""Sum of :math:`1 - I / U + (C - U) / C` over pairs of boxes [N, 4]: arXiv 1902.09630, algorithm 1.

    I and U are the areas of intersection and union, C that of the smallest box around both.
    """
    target = target.to(prediction.dtype)
    inner_left_top = torch.maximum(prediction[:, :2], target[:, :2])
    inner_right_bottom = torch.minimum(prediction[:, 2:], target[:, 2:])
    outer_left_top = torch.minimum(prediction[:, :2], target[:, :2])
    outer_right_bottom = torch.maximum(prediction[:, 2:], target[:, 2:])
    shared = _area((inner_right_bottom - inner_left_top).clamp(min=0))
    around = _area((outer_right_bottom - outer_left_top).clamp(min=0)).clamp(min=EPSILON)
    union = (box_area(prediction) + box_area(target) - shared).clamp(min=EPSILON)
    return (1 - shared / union + (around - union) / around).sum()


def _area(sides: torch.Tensor) -> torch.Tensor:
    return sides[:, 0] * sides[:, 1]


def connected_zero(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """A loss of 0 that depends on all parameters: they get a gradient of 0 if a head had nothing to learn from.

    Distributed training waits for the gradient of every parameter.
    """
    return torch.stack([0 * parameter.sum() for parameter in parameters]).sum()
