"""Relations between the joints of skeletons: a clip is a grid [T, V] of V joints in T frames.

Bones (inward and outward), the frames before and after, joints with similar features, and a virtual node for each clip
are ranges of a `eurgraph.grid.GridGraph`: `GridGRMP` computes on them without lists of edges, and `to_edge_index` lists
the same edges for `eurgraph.conv.GRMPConv`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.bodies import Body
from eurgraph.grid import EVERYWHERE, Edges, GridGraph, LongRange, MediumRange, Place, ShortRange, full_precision

RELATIONS = ("bones", "frames", "nearest", "virtual")
"""Kinds of relations: two of bones, two of frames, one each of the others."""


@dataclass(frozen=True)
class BoneRange:
    """One relation: from joint u to joint v of the same frame where `joins` [V, V] has v, u."""

    joins: torch.Tensor
    num_relations: ClassVar[int] = 1
    num_virtual_nodes: ClassVar[int] = 0
    places: ClassVar[tuple[tuple[Place, Place], ...]] = ((EVERYWHERE, EVERYWHERE),)

    @cached_property
    def degree(self) -> torch.Tensor:
        """Edges that end in each joint: [V, 1]."""
        return self.joins.sum(1, keepdim=True)

    def gather(self, message: torch.Tensor) -> torch.Tensor:
        share = self.joins / self.degree.clamp(min=1)
        return share.to(message.dtype) @ message  # [V, V] x [B, T, V, C]

    def edges(self, patches: torch.Tensor, virtual: torch.Tensor) -> Edges:
        target, source = self.joins.nonzero().T
        yield patches[..., source].flatten(), patches[..., target].flatten()


@dataclass(frozen=True)
class FrameRange(ShortRange):
    """Two relations: the same joint in the frame before, and in the frame after."""

    num_axes: int = 2

    @property
    def num_relations(self) -> int:
        return 2

    @property
    def places(self) -> Iterator[tuple[Place, Place]]:
        return islice(super().places, 2)

    def edges(self, patches: torch.Tensor, virtual: torch.Tensor) -> Edges:
        return islice(super().edges(patches, virtual), 2)


@dataclass(frozen=True)
class OneRelation:
    """The edges of several ranges as a single relation; an edge of two ranges counts twice."""

    ranges: tuple[BoneRange | FrameRange | MediumRange | LongRange, ...]
    num_relations: ClassVar[int] = 1
    places: ClassVar[tuple[tuple[Place, Place], ...]] = ((EVERYWHERE, EVERYWHERE),)

    @property
    def num_virtual_nodes(self) -> int:
        return sum(part.num_virtual_nodes for part in self.ranges)

    def gather(self, message: torch.Tensor) -> torch.Tensor:
        total, count = torch.zeros_like(message), torch.zeros_like(message[..., :1])
        for part in self.ranges:
            degree = _degree(part)
            value = part.gather(message) * degree
            for source, target in part.places:
                total[target] += value[source]
                count[target] += degree
        return total / count.clamp(min=1)

    def edges(self, patches: torch.Tensor, virtual: torch.Tensor) -> Edges:
        pairs = [pair for part in self.ranges for pair in part.edges(patches, virtual)]
        yield tuple(torch.cat(ends) for ends in zip(*pairs, strict=True))


def _degree(part: BoneRange | FrameRange | MediumRange | LongRange) -> torch.Tensor | int:
    """Edges of each relation of a range, for the joints that have any incoming edges."""
    if isinstance(part, BoneRange):
        return part.degree
    return part.index.shape[2] if isinstance(part, MediumRange) else 1


class NearestJoints(nn.Module):
    r"""Finds the k joints, of any frame, with the features most like those of a joint, by the angle between them.

    The joint itself, and the same joint in the frames right before and after, are excluded. The choice is not
    differentiated, and never made in half precision.

    Shapes: x [B, T, V, C] to a MediumRange whose index is [B, T * V, k].

    Raises ValueError if a clip has fewer than k others to choose from.
    """

    def __init__(self, num_neighbors: int):
        super().__init__()
        self.num_neighbors = num_neighbors

    def forward(self, x: torch.Tensor) -> MediumRange:
        num_frames, num_joints = x.shape[1:3]
        if not 1 <= self.num_neighbors <= num_frames * num_joints - 3:
            raise ValueError(
                f"num_neighbors={self.num_neighbors} is impossible for {num_joints} joints in {num_frames} frames"
            )
        with torch.no_grad(), full_precision(x.device):
            x = F.normalize(x.flatten(1, 2).float(), dim=-1)  # [B, T, V, C] -> [B, T * V, C]
            likeness = (x @ x.mT).view(-1, num_frames, num_joints, num_frames, num_joints)
            near = likeness.diagonal(dim1=2, dim2=4)  # a view: [B, T, T, V], the same joint in two frames
            frame = torch.arange(num_frames, device=x.device)
            touching = (frame[:, None] - frame).abs() <= 1  # [T, T]
            near.masked_fill_(touching[..., None], -2)
            likeness = likeness.view(len(x), x.shape[1], x.shape[1])
            return MediumRange(likeness.topk(self.num_neighbors, sorted=False).indices)

    def extra_repr(self) -> str:
        return f"num_neighbors={self.num_neighbors}"


class SkeletonGraph(nn.Module):
    """Finds the graph of clips from the input features of a stage: x [B, T, V, C] to a GridGraph.

    Args:
        body: the bones of one person; `num_people` bodies are concatenated along the axis of joints.
        num_people: people in a clip.
        relations: some of `RELATIONS`.
        num_neighbors: k of "nearest".
        one_relation: all edges have the same relation.
    """

    def __init__(
        self, body: Body, num_people: int, relations: Sequence[str], num_neighbors: int, one_relation: bool = False
    ):
        super().__init__()
        inward = torch.zeros(body.num_joints, body.num_joints)
        for joint, parent in enumerate(body.parents):
            inward[parent, joint] = joint != parent
        people = torch.eye(num_people)
        self.register_buffer("inward", torch.kron(people, inward), persistent=False)
        self.register_buffer("outward", torch.kron(people, inward.T.contiguous()), persistent=False)
        self.relations, self.one_relation = tuple(relations), one_relation
        self.nearest = NearestJoints(num_neighbors) if "nearest" in relations else None
        self.num_relations = 1 if one_relation else sum(2 if kind in RELATIONS[:2] else 1 for kind in relations)

    def forward(self, x: torch.Tensor) -> GridGraph:
        ranges = []
        for kind in self.relations:
            if kind == "bones":
                ranges += [BoneRange(self.inward), BoneRange(self.outward)]
            elif kind == "frames":
                ranges.append(FrameRange())
            elif kind == "nearest":
                ranges.append(self.nearest(x))
            else:
                ranges.append(LongRange())
        return GridGraph(tuple(x.shape[1:-1]), (OneRelation(tuple(ranges)),) if self.one_relation else tuple(ranges))
