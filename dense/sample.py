"""Samples the anchors or proposals of an image for the losses: a fixed number, with a limit on the positive ones."""

from typing import NamedTuple

import torch

from dense.assign import BACKGROUND


class SampleRule(NamedTuple):
    """How many boxes of an image are sampled."""

    number: int
    """Boxes altogether."""
    positive_fraction: float
    """The fraction of them that may be examples of objects; if there are fewer, background takes their place."""


def sample(
    assigned: torch.Tensor, rule: SampleRule, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws without replacement from the result [N] of `dense.assign.assign`.

    Args:
        generator: a CPU generator; None: torch's own. The samples are the same on every device.

    Returns:
        The indices of the positive boxes, and those of the negative ones, each increasing.
    """
    positive = _draw((assigned >= 0).nonzero().flatten(), int(rule.number * rule.positive_fraction), generator)
    negative = _draw((assigned == BACKGROUND).nonzero().flatten(), rule.number - len(positive), generator)
    return positive, negative


def _draw(indices: torch.Tensor, number: int, generator: torch.Generator | None) -> torch.Tensor:
    if len(indices) <= number:
        return indices
    chosen = torch.randperm(len(indices), generator=generator, device="cpu")[:number].sort().values
    return indices[chosen.to(indices.device)]
