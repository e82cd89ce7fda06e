"""The medium range on maps of any size: the nearest patches in a window, among those an even number of steps away.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (sections 5.2 and 5.3)
Authors' code: https://github.com/hirl-team/EurNet-Image (branches det and seg, layers/graph_construction.py)

Done differently here: distances are computed only among the patches of one window and parity, some rows at a time,
whereas theirs fill a matrix of all pairs of patches of the map; windows cover the whole map, unless the authors' are
requested.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.grid import MediumRange, full_precision
from eurgraph.nearest import mean_cosines, values_at_once

DILATION = 2
WINDOWS = ("tiled", "authors")
FAR = 1e5
"""The authors' distance between patches that are not candidates of each other, and what they add if two touch."""
TIER = 8.0
"""More than the difference of any two distances, which are between -1 and 5."""


class Lattice(NamedTuple):
    """Patches of a map in every `step`-th row and column of a window."""

    rows: range
    columns: range

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    @property
    def size(self) -> int:
        return len(self.rows) * len(self.columns)

    def by_parity(self) -> list["Lattice"]:
        """The lattices of twice the step that make up this one."""
        corners = product(range(DILATION), repeat=2)
        parts = [Lattice(self.rows[row::DILATION], self.columns[column::DILATION]) for row, column in corners]
        return [part for part in parts if part.size]

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """[B, H, W, C] -> [B, n, C]."""
        rows, columns = (slice(part.start, part.stop, part.step) for part in self)
        return x[:, rows, columns].flatten(1, 2)

    def places(self, device: torch.device) -> torch.Tensor:
        """Row and column of each patch: int64 [n, 2]."""
        rows, columns = (torch.arange(part.start, part.stop, part.step, device=device) for part in self)
        return torch.cartesian_prod(rows, columns)


def tiled_windows(height: int, width: int, length: int) -> list[Lattice]:
    """Windows of at most `length` x `length` patches that cover the map, as equal as they can be."""

    def cut(size: int) -> list[range]:
        number = math.ceil(size / length)
        return [range(i * size // number, (i + 1) * size // number) for i in range(number)]

    return [Lattice(rows, columns) for rows in cut(height) for columns in cut(width)]


def diagonal_windows(height: int, width: int, length: int) -> list[Lattice]:
    """The authors' windows: with the map's proportions and longer side `length`, only along the map's diagonal."""
    if height > width:
        rows, columns = length, math.ceil(length * width / height)
    else:
        rows, columns = math.ceil(length * height / width), length
    starts = zip(range(0, height, rows), range(0, width, columns), strict=False)
    return [Lattice(range(height)[y : y + rows], range(width)[x : x + columns]) for y, x in starts]


class WindowedNearestPatches(nn.Module):
    r"""Finds the medium range: for each patch, the k most similar others of its window and parity.

    Patches are candidates of each other if they lie in one window, and an even number of rows and of columns apart;
    their distance is that of `eurgraph.grid.NearestPatches`. In a window so small that a patch has fewer than k
    candidates, other patches follow: with `windows="tiled"` the nearest of the window that do not touch the patch,
    then those that do, then the patch itself.

    With `windows="authors"` the graph is that of the released detectors and segmentors. Their windows lie only on the
    diagonal of the map, and the patches that follow do not depend on features: the patch itself, then the first of the
    map, row by row, that do not touch it. A patch outside the windows has only the latter. (The order among their equal
    distances is not specified; taking the first of the map is our reading.) On maps shorter than `window_length`, both
    kinds of windows are the whole map, and differ only where a parity has at most k patches.

    Args:
        num_channels: channels of the features; they determine the number of frequencies in the position term.
        num_neighbors: k. On maps or windows of fewer patches, all of them are neighbors.
        window_length: the longer side of a window, in patches.
        windows: `tiled` covers the map; `authors`, see above.

    Shapes: [B, H, W, C] of any H and W to a MediumRange whose index is [B, H * W, k].

    Raises:
        ValueError: an option has an invalid value.
    """

    def __init__(self, num_channels: int, num_neighbors: int, window_length: int = 144, windows: str = "tiled"):
        super().__init__()
        if windows not in WINDOWS:
            raise ValueError(f"windows must be one of {', '.join(WINDOWS)}, not {windows!r}")
        if window_length < 1 or num_neighbors < 1:
            raise ValueError(
                f"window_length and num_neighbors must be 1 or more, not {window_length} and {num_neighbors}"
            )
        self.num_channels, self.num_neighbors = num_channels, num_neighbors
        self.window_length, self.windows = window_length, windows

    def forward(self, x: torch.Tensor) -> MediumRange:
        with torch.no_grad(), full_precision(x.device):
            x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
            find = self._find_tiled if self.windows == "tiled" else self._find_authors
            patches, neighbors = zip(*find(x), strict=True)
            order = torch.cat(patches).argsort()  # each patch of the map once
            return MediumRange(torch.cat(neighbors, dim=1)[:, order])

    def _find_tiled(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For groups of patches in turn: their indices [n], and those of their neighbors [B, n, k]."""
        windows = tiled_windows(*x.shape[1:3], self.window_length)
        k = min(self.num_neighbors, *(window.size for window in windows))
        for window in windows:
            parts = window.by_parity()
            if min(part.size for part in parts) > k:
                for part in parts:
                    patches = _numbers(part.places(x.device), x.shape[2])
                    yield patches, patches[nearest_on_lattice(part.take(x), part, k)]
            else:
                patches = _numbers(window.places(x.device), x.shape[2])
                yield patches, patches[_nearest_in_tiers(window.take(x), window, k)]

    def _find_authors(self, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The same in the authors' windows."""
        height, width = x.shape[1:3]
        k = min(self.num_neighbors, height * width)
        outside = torch.ones(height, width, dtype=torch.bool, device=x.device)
        for window in diagonal_windows(height, width, self.window_length):
            outside[window.rows.start : window.rows.stop, window.columns.start : window.columns.stop] = False
            for part in window.by_parity():
                patches = _numbers(part.places(x.device), width)
                if part.size > k:
                    yield patches, patches[nearest_on_lattice(part.take(x), part, k)]
                else:
                    yield patches, _nearest_and_first(part.take(x), part, k, (height, width))
        places = outside.nonzero()
        if len(places):
            # Of the first patches, nine at most touch a patch or are itself.
            first = Lattice(range(height), range(width)).places(x.device)[: k + 9]
            touching = (places[:, None] - first).abs().amax(2) <= 1
            nearest = touching.byte().argsort(dim=1, stable=True)[:, :k]
            yield _numbers(places, width), nearest.expand(x.shape[0], -1, -1)

    def extra_repr(self) -> str:
        return f"num_neighbors={self.num_neighbors}, window_length={self.window_length}, windows={self.windows}"


def nearest_on_lattice(x: torch.Tensor, lattice: Lattice, num_neighbors: int) -> torch.Tensor:
    """For each patch of a lattice the nearest others, as indices in the lattice: [B, n, C] -> int64 [B, n, k].

    x are features of length 1. At most `values_at_once` distances, or one row of the lattice if that is more, are in
    memory at a time.
    """
    num_columns, num_patches = len(lattice.columns), lattice.size
    row_terms, column_terms = position_terms(lattice, x)
    limit = values_at_once(x)
    rows_at_once = max(1, limit // (num_columns * num_patches))
    images_at_once = max(1, limit // (rows_at_once * num_columns * num_patches))
    found = []
    for first in range(0, len(lattice.rows), rows_at_once):
        rows = slice(first, first + rows_at_once)
        position = row_terms[rows, None, :, None] + column_terms[:, None, :]  # [r, W, H, W]
        position = position.flatten(2, 3).flatten(0, 1)  # -> [r * W, n]
        own = torch.arange(len(position), device=x.device) + first * num_columns
        position.scatter_(1, own[:, None], math.inf)  # a patch is not its own neighbor
        queries = x[:, first * num_columns : first * num_columns + len(position)]
        parts = zip(queries.split(images_at_once), x.split(images_at_once), strict=True)
        # |p - q|^2 = 2 - 2 p q for vectors of length 1
        nearness = (torch.baddbmm(position, some, others.mT, beta=-1, alpha=2) for some, others in parts)
        found.append(torch.cat([values.topk(num_neighbors, sorted=False).indices for values in nearness]))
    return torch.cat(found, dim=1)


def _numbers(places: torch.Tensor, width: int) -> torch.Tensor:
    """Rows and columns [n, 2] as indices in the map, row by row: [n]."""
    return places[:, 0] * width + places[:, 1]


def position_terms(lattice: Lattice, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What rows [H, H] and columns [W, W] add to the distances; they depend on steps of patches, not on the map."""
    num_frequencies = max(like.shape[-1] // 4, 1)
    terms = (-mean_cosines(part, num_frequencies) / 2 for part in lattice)
    row_terms, column_terms = (term.float().to(like) for term in terms)
    return row_terms, column_terms


def _distances(x: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """All distances of a small lattice: [B, n, C] -> [B, n, n]."""
    row_terms, column_terms = position_terms(lattice, x)
    position = row_terms[:, None, :, None] + column_terms[:, None, :]
    return 2 + position.flatten(2, 3).flatten(0, 1) - 2 * x @ x.mT


def _nearest_in_tiers(x: torch.Tensor, window: Lattice, k: int) -> torch.Tensor:
    """In a small window: of the same parity, then not touching, then touching, then the patch itself.

    [B, n, C] -> indices in the window, [B, n, k].
    """
    steps = window.places(x.device)
    steps = (steps[:, None] - steps).abs()  # [n, n, 2]
    tier = 1.0 * (steps % DILATION).any(2) + (steps.amax(2) <= 1) + 2 * (steps.amax(2) == 0)
    return (_distances(x, window) + TIER * tier).topk(k, largest=False, sorted=False).indices


def _nearest_and_first(x: torch.Tensor, lattice: Lattice, k: int, shape: tuple[int, int]) -> torch.Tensor:
    """The authors' k nearest of few candidates: [B, n, C] -> indices in the map, [B, n, k].

    Theirs are the smallest values in a row of distances to all patches of the map; here ties go to the first.
    """
    height, width = shape
    everywhere, own = Lattice(range(height), range(width)).places(x.device), lattice.places(x.device)
    row = x.new_full((x.shape[0], lattice.size, height * width), FAR)
    row[:, :, _numbers(own, width)] = _distances(x, lattice)
    touching = (own[:, None] - everywhere).abs().amax(2) <= 1  # [n, H * W]
    return (row + FAR * touching).argsort(dim=2, stable=True)[:, :, :k]
