r"""Pairs of patches of a grid: their relative positions, which of them touch, and the nearest of many.

Positions and touching depend only on the steps between two patches along each axis. So a small table for each axis
holds both, and only small grids need the table of all pairs [N, N].
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch

CACHED_VALUES = 2**20
"""Distances that are held at once on a CPU: few enough to stay in its cache."""
ROW_VALUES = 2**23
"""Distances to all patches of a large grid that a CPU holds at once; products of few rows would be slow."""
GPU_VALUES = 2**26
GROUP_SIZE = 8


def values_at_once(x: torch.Tensor) -> int:
    """How many distances to hold at once on the device of `x`."""
    return CACHED_VALUES if x.device.type == "cpu" else GPU_VALUES


def values_of_rows(x: torch.Tensor) -> int:
    """The same if each patch has so many others that even a few rows of distances do not fit the cache."""
    return ROW_VALUES if x.device.type == "cpu" else GPU_VALUES


def relative_position(shape: Sequence[int], num_channels: int) -> torch.Tensor:
    r"""The position term :math:`\rho` [N, N] of each pair of patches, float32, from -1 (the same patch) to 1.

    The authors' is -2 / C times the product of sinusoidal position embeddings of C channels. The products of sines and
    of cosines add up to cosines of differences, so with A axes and F = C / 2A frequencies it is the mean of

    .. math::
        -\cos\big(10000^{-f / F}\,(p_a - q_a)\big),  \qquad a < A, \quad f < F.
    """
    return over_axes(cosine_tables(shape, num_channels), torch.add).float()


def cosine_tables(shape: Sequence[int], num_channels: int) -> list[torch.Tensor]:
    """What each axis [S, S] adds to the relative positions, float64."""
    num_frequencies = max(num_channels // (2 * len(shape)), 1)
    return [mean_cosines(range(size), num_frequencies) / -len(shape) for size in shape]


def mean_cosines(steps: range, num_frequencies: int) -> torch.Tensor:
    """The mean over the frequencies f of cos(10000 ** (-f / F) (p - q)) for steps p, q along an axis: [S, S]."""
    frequency = 10000 ** -(torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies)
    number = torch.arange(len(steps))
    means = (steps.step * number[:, None] * frequency).cos().mean(-1)  # of patches 0, 1, ... apart
    return means[(number[:, None] - number).abs()]


def touching_tables(shape: Sequence[int]) -> list[torch.Tensor]:
    """Whether two steps [S, S] along each axis are the same or side by side.

    Two patches touch, by a side, an edge or a corner, if this holds along every axis.
    """
    steps = [torch.arange(size) for size in shape]
    return [(step[:, None] - step).abs() <= 1 for step in steps]


def position_by_rows(shape: Sequence[int], num_channels: int) -> torch.Tensor:
    """The relative positions of two rows of a grid, infinite where two patches touch: [M, 2 S - 1, M].

    The S rows have M patches each. Positions depend on steps only, so entry S - 1 + d of axis 1 is for sources d rows
    after their targets, and a row of targets has S consecutive entries.
    """
    cosines, touching = cosine_tables(shape, num_channels), touching_tables(shape)
    first = over_axes([cosines[0][:1], *cosines[1:]], torch.add).float()  # [M, N]
    first.masked_fill_(over_axes([touching[0][:1], *touching[1:]], torch.logical_and), math.inf)
    first = first.unflatten(1, (shape[0], -1))  # -> [M, S, M]
    return torch.cat([first[:, 1:].flip(1), first], dim=1)


def over_axes(tables: Sequence[torch.Tensor], combine: Callable) -> torch.Tensor:
    """Tables of each axis, combined into that of all pairs: [S, S] -> [N, N], or of fewer rows."""

    def extend(grid, table):  # [n, N] and [S, S] -> [n * S, N * S]
        return combine(grid[:, None, :, None], table[None, :, None, :]).flatten(2, 3).flatten(0, 1)

    return reduce(extend, tables)


def highest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Indices of the k highest of `values` [..., N], in any order: int64 [..., k].

    `topk` is slow for long rows on a CPU. There, the k groups with the highest maxima, which hold the k highest values,
    are found first.
    """
    num_groups = values.shape[-1] // GROUP_SIZE
    if values.device.type != "cpu" or values.shape[-1] % GROUP_SIZE or num_groups < 4 * k:
        return values.topk(k, sorted=False).indices
    groups = values.unflatten(-1, (GROUP_SIZE, num_groups))  # value i is in group i % num_groups
    best = highest(groups.amax(-2), k)  # [..., k]
    members = best[..., None, :] + num_groups * torch.arange(GROUP_SIZE, device=values.device)[:, None]
    members = members.flatten(-2)  # [..., GROUP_SIZE * k]
    return members.gather(-1, values.gather(-1, members).topk(k, sorted=False).indices)
