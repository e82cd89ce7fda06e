"""Relations between the patches of a regular grid: image [H, W], clip [T, H, W], or any other number of axes.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/layers/graph_construction.py)

Done differently here: there is no list of edges. Each range computes the mean over its edges on the grid itself, with
shifts, gathered rows and broadcasts, and lists them only on request (`GridGraph.to_edge_index`). Grids need not be
square, and the relative positions come from one small table for each axis.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.derivatives import is_transformed
from eurgraph.nearest import (
    highest,
    over_axes,
    position_by_rows,
    relative_position,
    touching_tables,
    values_at_once,
    values_of_rows,
)

if TYPE_CHECKING:
    from torch_geometric.data import Data

Place = tuple[slice, ...]  # part of [B, *shape]
Edges = Iterator[tuple[torch.Tensor, torch.Tensor]]  # for each relation: sources [E] and targets [E]
EVERYWHERE: Place = (slice(None),)


@dataclass(frozen=True)
class ShortRange:
    """Neighbors along axis a: the source of relation 2a is one step before the target, that of 2a + 1 one step after.

    On an image these are the patches above, below, left and right. At a border there is no edge.
    """

    num_axes: int
    num_virtual_nodes: ClassVar[int] = 0

    @property
    def num_relations(self) -> int:
        return 2 * self.num_axes

    @property
    def places(self) -> Iterator[tuple[Place, Place]]:
        for axis in range(self.num_axes):
            before = (slice(None),) * (1 + axis) + (slice(None, -1),)
            after = (slice(None),) * (1 + axis) + (slice(1, None),)
            yield before, after
            yield after, before

    def gather(self, message: torch.Tensor) -> torch.Tensor:
        return message

    def edges(self, patches: torch.Tensor, virtual: torch.Tensor) -> Edges:
        for source, target in self.places:
            yield patches[source].flatten(), patches[target].flatten()


@dataclass(frozen=True)
class MediumRange:
    """One relation: the k patches, anywhere on the same grid, that `NearestPatches` found to be most like the target.

    `index` [B, N, k] numbers the sources of each target from 0 to N - 1, axis by axis (the last one fastest).
    """

    index: torch.Tensor
    num_relations: ClassVar[int] = 1
    num_virtual_nodes: ClassVar[int] = 0
    places: ClassVar[tuple[tuple[Place, Place], ...]] = ((EVERYWHERE, EVERYWHERE),)

    def gather(self, message: torch.Tensor) -> torch.Tensor:
        num_grids, num_patches, _ = self.index.shape
        first = num_patches * torch.arange(num_grids, device=self.index.device).view(-1, 1, 1)
        bags = (self.index + first).flatten(0, 1)  # [B, N, k] -> [B * N, k]
        rows = message.flatten(0, -2)  # [B, *shape, C] -> [B * N, C]
        if rows.dtype == torch.float16:  # sums overflow even if the means do not
            rows = rows.float()
        # Export formats have no embedding bags, or loop over them, and torch.func does not split them.
        if torch.compiler.is_exporting() or is_transformed():
            return rows[bags].mean(1).to(message.dtype).view(message.shape)
        return F.embedding_bag(bags, rows, mode="mean").to(message.dtype).view(message.shape)

    def edges(self, patches: torch.Tensor, virtual: torch.Tensor) -> Edges:
        patches = patches.flatten(1)  # [B, *shape] -> [B, N]
        sources = patches.gather(1, self.index.flatten(1))  # [B, N * k]
        yield sources.flatten(), patches.flatten().repeat_interleave(self.index.shape[2])


@dataclass(frozen=True)
class LongRange:
    """One relation: from a virtual node, which stands for the whole grid, to every patch.

    The message of the virtual node is the mean of the patches' messages. Nothing reads its other state.
    """

    num_relations: ClassVar[int] = 1
    num_virtual_nodes: ClassVar[int] = 1
    places: ClassVar[tuple[tuple[Place, Place], ...]] = ((EVERYWHERE, EVERYWHERE),)

    def gather(self, message: torch.Tensor) -> torch.Tensor:
        return message.mean(dim=tuple(range(1, message.dim() - 1)), keepdim=True)

    def edges(self, patches: torch.Tensor, virtual: torch.Tensor) -> Edges:
        patches = patches.flatten(1)  # [B, *shape] -> [B, N]
        yield virtual.expand(patches.shape).flatten(), patches.flatten()


@dataclass(frozen=True)
class GridGraph:
    """The graph of each grid in a batch: patches [B, *shape] and the ranges of relations between them.

    Relations are numbered range by range, in the given order.

    Args:
        shape: size along each axis: (H, W) for images, (T, H, W) for clips.
        ranges: any of ShortRange, MediumRange and LongRange; the last one at most once.

    Raises:
        ValueError: a range is for another grid, or there are several virtual nodes.
    """

    shape: tuple[int, ...]
    ranges: tuple[ShortRange | MediumRange | LongRange, ...]

    def __post_init__(self):
        check_shape(self.shape)
        for part in self.ranges:
            if isinstance(part, ShortRange) and part.num_axes != len(self.shape):
                raise ValueError(f"{part} does not fit a grid of {len(self.shape)} axes, {describe(self.shape)}")
            if isinstance(part, MediumRange) and part.index.shape[1] != self.num_patches:
                raise ValueError(
                    f"a MediumRange for {part.index.shape[1]} patches does not fit a grid of {describe(self.shape)}"
                )
        if self.num_virtual_nodes > 1:
            raise ValueError(f"a grid has one virtual node at most, not {self.num_virtual_nodes}: one LongRange")

    @property
    def num_patches(self) -> int:
        return math.prod(self.shape)

    @property
    def num_relations(self) -> int:
        return sum(part.num_relations for part in self.ranges)

    @property
    def num_virtual_nodes(self) -> int:
        return sum(part.num_virtual_nodes for part in self.ranges)

    def gather(self, message: torch.Tensor) -> tuple[list[torch.Tensor], list[tuple[int, Place, Place]]]:
        """The means of messages [B, *shape, C] over the edges of every relation, with as few copies as possible.

        Returns:
            A tensor for each range, and (i, source, target) for each relation: its means are tensor i at `source`
            ([B, *part of shape, C], or broadcast to it), for the patches at `target`. Other patches have no edge.
        """
        values = [part.gather(message) for part in self.ranges]
        places = [(i, source, target) for i, part in enumerate(self.ranges) for source, target in part.places]
        return values, places

    def to_edge_index(self, x: torch.Tensor) -> "Data":
        """The same graphs as one batched PyG graph, for `eurgraph.conv.GRMPConv`.

        The nodes of each grid are its virtual node, if it has one, and then its patches. The features of a virtual node
        are the mean of its patches' features. By linearity, its message is the mean of their messages.

        Args:
            x: features of the patches, [B, *shape, C].

        Returns:
            Data with x [B * (V + N), C], edge_index [2, E], edge_type [E] (in order of type) and batch [B * (V + N)].
        """
        from torch_geometric.data import Data  # takes seconds to import, and nothing else here needs it

        self.check(x)
        num_grids, num_virtual = x.shape[0], self.num_virtual_nodes
        nodes = torch.arange(num_grids * (num_virtual + self.num_patches), device=x.device).view(num_grids, -1)
        virtual, patches = nodes[:, :num_virtual], nodes[:, num_virtual:].unflatten(1, self.shape)
        edges = [torch.stack(pair) for part in self.ranges for pair in part.edges(patches, virtual)]
        edges = [torch.empty(2, 0, dtype=torch.long, device=x.device), *edges]  # a graph may have no relation at all
        sizes = torch.tensor([pair.shape[1] for pair in edges[1:]], dtype=torch.long, device=x.device)
        return Data(
            x=self.to_nodes(x),
            edge_index=torch.cat(edges, dim=1),
            edge_type=torch.arange(len(sizes), device=x.device).repeat_interleave(sizes),
            batch=torch.arange(num_grids, device=x.device).repeat_interleave(nodes.shape[1]),
        )

    def to_nodes(self, x: torch.Tensor) -> torch.Tensor:
        """The features of the nodes of `to_edge_index`: [B, *shape, C] -> [B * (V + N), C]."""
        x = x.flatten(1, -2)  # [B, *shape, C] -> [B, N, C]
        mean = x.mean(1, keepdim=True).expand(-1, self.num_virtual_nodes, -1)
        return torch.cat([mean, x], dim=1).flatten(0, 1)  # [B, V + N, C] -> [B * (V + N), C]

    def to_grid(self, x: torch.Tensor) -> torch.Tensor:
        """Back from the nodes of `to_edge_index` to the patches: [B * (V + N), C] -> [B, *shape, C]."""
        x = x.unflatten(0, (-1, self.num_virtual_nodes + self.num_patches))
        return x[:, self.num_virtual_nodes :].unflatten(1, self.shape)

    def check(self, x: torch.Tensor) -> None:
        if x.shape[1:-1] != self.shape:
            raise ValueError(f"the graph is one of {describe(self.shape)} patches, [B, *shape, C], not {list(x.shape)}")
        for part in self.ranges:
            if isinstance(part, MediumRange) and part.index.shape[0] != x.shape[0]:
                raise ValueError(f"the medium range was found for {part.index.shape[0]} grids, but x has {x.shape[0]}")


MOST_PAIRS = 2**26
"""With more pairs of patches, relative positions are not stored and distances are not computed all at once."""


class NearestPatches(nn.Module):
    r"""Finds the medium range: for each patch, the k most similar others that do not touch it.

    The distance between patches p and q with features x is

    .. math::
        d_{pq} = \lVert \hat{x}_p - \hat{x}_q \rVert^2 + \rho_{pq},
        \qquad \hat{x} = x / \lVert x \rVert,

    where :math:`\rho` (`relative_pos`, not trained) is smaller for patches nearer on the grid. The patch itself and all
    that touch it, even at a corner, are excluded. The choice is not differentiated, and never made in half precision.

    Up to `MOST_PAIRS` pairs of patches, :math:`\rho` is an entry of the state dict, as in the authors' files. With more
    pairs, it is computed from a table for each axis, and distances are computed by rows of the grid: an image of
    1024 x 1024 would otherwise take 4 GB.

    In a clip of T frames, a patch has k * T neighbors in all frames. :math:`\rho` and touching depend only on where a
    patch is in its frame, so in a still clip the neighbors of a patch are those in the image, in every frame.

    Args:
        shape: size of the grid along each axis; without time. On grids of other sizes :math:`\rho` is computed anew.
        num_channels: channels of the features; they determine the number of frequencies in :math:`\rho`.
        num_neighbors: k, for each frame.

    Shapes: images [B, H, W, C], or clips [B, T, H, W, C] of any T, to a MediumRange whose index is [B, N, k], or
    [B, T * N, T * k]. H and W are those of `shape` or any others; `shape` may also have one or three axes.

    Raises:
        ValueError: a patch of the grid has fewer than k others to choose from.
    """

    def __init__(self, shape: Sequence[int], num_channels: int, num_neighbors: int):
        super().__init__()
        self.shape, self.num_channels, self.num_neighbors = check_shape(shape), num_channels, num_neighbors
        self._check_choice(self.shape)
        position = None
        if math.prod(self.shape) ** 2 <= MOST_PAIRS:
            position = nn.Parameter(relative_position(self.shape, num_channels)[None], requires_grad=False)
        self.register_parameter("relative_pos", position)

    def forward(self, x: torch.Tensor) -> MediumRange:
        shape = tuple(x.shape[-1 - len(self.shape) : -1])
        if shape != self.shape:
            self._check_choice(shape)
        with torch.no_grad(), full_precision(x.device):
            x = x.flatten(1, -2).to(torch.promote_types(x.dtype, torch.float32))  # [B, (T,) *shape, C] -> [B, T * N, C]
            nearest = self._nearest_at_once if x.shape[1] ** 2 <= MOST_PAIRS else self._nearest_by_rows
            return MediumRange(nearest(F.normalize(x, dim=-1), shape))

    def _nearest_at_once(self, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """The nearest of patches of length 1: [B, T * N, C] -> [B, T * N, T * k]."""
        num_frames = x.shape[1] // math.prod(shape)
        frames = (num_frames, num_frames)
        is_own = shape == self.shape and self.relative_pos is not None
        position = self.relative_pos if is_own else relative_position(shape, self.num_channels)[None]
        touching = over_axes([table.to(x.device) for table in touching_tables(shape)], torch.logical_and)
        if num_frames > 1:
            position, touching = position.repeat(1, *frames), touching.repeat(frames)  # -> [(1,) T * N, T * N]
        is_eager = not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        patches_at_once = max(1, values_at_once(x) // max(1, len(x) * x.shape[1])) if is_eager else x.shape[1]
        parts = (part.split(patches_at_once, dim=1) for part in (position.to(x), touching[None], x))
        found = []
        for near, touch, some in zip(*parts, strict=True):
            # |p - q|^2 = 2 - 2 p q for vectors of length 1
            nearness = torch.baddbmm(near, some, x.mT, beta=-1, alpha=2)  # [B, n, T * N]
            found.append(highest(nearness.masked_fill_(touch, -math.inf), self.num_neighbors * num_frames))
        return torch.cat(found, dim=1)

    def _nearest_by_rows(self, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """The same, for a few rows of the grid at a time, in memory that grows with N."""
        num_rows, row_length, num_patches = shape[0], math.prod(shape[1:]), math.prod(shape)
        num_frames = x.shape[1] // num_patches
        table = position_by_rows(shape, self.num_channels).to(x)  # [M, 2 S - 1, M]
        rows_at_once = min(num_rows, max(1, values_of_rows(x) // (row_length * x.shape[1])))
        memory = x.new_empty(rows_at_once, row_length, num_frames, num_rows, row_length)
        index = torch.empty(*x.shape[:2], self.num_neighbors * num_frames, dtype=torch.int64, device=x.device)
        for first in range(0, num_rows, rows_at_once):
            rows = range(first, min(first + rows_at_once, num_rows))
            starts = range(first * row_length, x.shape[1], num_patches)  # in each frame
            for image, start in product(range(len(x)), starts):
                for row, position in zip(rows, memory, strict=False):
                    own = num_rows - 1 - row
                    position.copy_(table[:, None, own : own + num_rows])  # of each frame alike
                nearness = memory[: len(rows)].flatten(2).flatten(0, 1)  # -> [n, T * N]
                part = slice(start, start + len(nearness))
                nearness.addmm_(x[image, part], x[image].mT, beta=-1, alpha=2)
                index[image, part] = highest(nearness, index.shape[2])
        return index

    def _check_choice(self, shape: tuple[int, ...]) -> None:
        num_patches = math.prod(shape)
        num_others = num_patches - math.prod(min(size, 3) for size in shape)
        if not 1 <= self.num_neighbors <= num_others:
            raise ValueError(
                f"num_neighbors={self.num_neighbors} is impossible on a grid of {describe(shape)}: without itself and "
                f"those that touch it, a patch has as few as {num_others} of {num_patches} patches to choose from"
            )

    def extra_repr(self) -> str:
        return f"{describe(self.shape)}, num_neighbors={self.num_neighbors}"


def full_precision(device: torch.device) -> AbstractContextManager:
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if not shape or any(size < 1 for size in shape):
        raise ValueError(f"a grid has one or more axes of size 1 or more, not shape={tuple(shape)}")
    return tuple(shape)


def describe(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
