"""The anchors or proposals of an image that the losses see: a fixed number, with a limit on how many are positive."""

from typing import NamedTuple

import torch

from dense.assign import BACKGROUND


class SampleRule(NamedTuple):
    """How many boxes of an image are drawn."""

    number: int
    """Boxes altogether."""
    positive_fraction: float
    """The part of them that may be examples of objects; where there are fewer, background takes their place."""


def sample(
    assigned: torch.Tensor, rule: SampleRule, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws without replacement from the result [N] of `dense.assign.assign`.

    Args:
        generator: of the CPU, like torch's own, which is used without it: the draws are the same on every device.

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
