"""EurNet for skeletons: which action people perform, from the joints of their bodies over time.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (the layer, the block around it, and the ranges of relations)

Its authors have published nothing for skeletons. The relations of bones, the input of positions, bones and velocities
(usual for skeletons: Shi et al., arXiv 1805.07694 and 1912.06971), and all sizes are ours.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import nn

from eurgraph.block import Block
from eurgraph.bodies import Body, body_for
from eurgraph.grid_conv import init_linear_layers
from eurgraph.sizes import check_shares, check_sizes
from eurgraph.skeleton_graph import RELATIONS, SkeletonGraph

INIT_STD = 0.1
"""Standard deviation of linear layers' initial weights: narrow networks need more than 0.02, see `EurNet`."""
FFN_RATIO = 2
TUBELET = 4
"""Frames that become one before the first stage."""
NUM_KINDS = 3
"""Positions, bones and velocities."""


class JointFeatures(nn.Module):
    """Positions, bones and velocities of joints, normalized over the batch for each joint.

    A bone is a joint's position relative to its parent; a velocity is the step from the previous frame, 0 in the first.

    Shapes: x [B, M, T, V, 3] to [B, M, T, V, 9].
    """

    def __init__(self, body: Body):
        super().__init__()
        self.register_buffer("parents", torch.tensor(body.parents), persistent=False)
        self.norm = nn.BatchNorm1d(body.num_joints * 3 * NUM_KINDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bones = x - x[:, :, :, self.parents]
        velocities = torch.cat([torch.zeros_like(x[:, :, :1]), x.diff(dim=2)], dim=2)
        x = torch.cat([x, bones, velocities], dim=-1)
        return self.norm(x.flatten(3).flatten(0, 2)).view(x.shape)  # rows [B * M * T, V * 9]


class SkeletonNetwork(nn.Module):
    """What networks for skeletons share: the check of their input, and the classifier.

    Args:
        num_joints: joints V of a body.
        num_classes: number of classes. 0: no classifier; the output is the pooled features.
        num_features: channels of the pooled features.
        bones: V - 1 pairs of joints; None: of the body in `eurgraph.bodies.BODIES` with V joints.
        center: the joint where bones begin; None: the body's own, or joint 0 of `bones`.

    Shapes: x [B, M, T, V, 3], the joints of M people in T frames; an absent person is all zeros. To logits
    [B, num_classes].
    """

    classifier_names = ("head.",)

    def __init__(
        self,
        num_joints: int,
        num_classes: int,
        num_features: int,
        bones: Sequence[Sequence[int]] | None,
        center: int | None,
        dropout: float,
    ):
        super().__init__()
        check_sizes(num_joints=num_joints)
        check_shares(dropout=dropout)
        self.body = body_for(num_joints, bones, center)
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.features = JointFeatures(self.body)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        check_sizes(0, num_classes=num_classes)
        self.num_classes = num_classes
        if num_classes == 0:
            self.head = nn.Identity()
            return
        self.head = nn.Linear(self.num_features, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The states of the joints, [B, M, T', V, C]."""
        raise NotImplementedError

    def pool(self, states: torch.Tensor) -> torch.Tensor:
        """The features of each person: the mean over joints and frames, [B, M, T', V, C] -> [B, M, num_features]."""
        return states.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 5 or x.shape[3:] != (self.body.num_joints, 3):
            raise ValueError(f"this network takes skeletons [B, M, T, {self.body.num_joints}, 3], not {list(x.shape)}")
        people = self.pool(self.forward_features(x))  # [B, M, num_features]
        there = (x != 0).flatten(2).any(2).to(people.dtype).unsqueeze(2)  # [B, M, 1]
        pooled = (people * there).sum(1) / there.sum(1).clamp(min=1)
        return self.head(self.dropout(pooled))


class SkeletonStage(nn.Module):
    """Blocks on one graph, found from the input features; before them, two frames become one. [B, T, V, C].

    Args:
        graph: finds the graph.
        num_in, num_channels: channels before and after two frames are merged; num_in=None: frames stay as they are.
        context_frames: frames that the context of the blocks spans; 0: no context.
        drop_path: rate of stochastic depth in each block.
    """

    def __init__(
        self,
        graph: SkeletonGraph,
        num_in: int | None,
        num_channels: int,
        context_frames: int,
        drop_path: Sequence[float],
    ):
        super().__init__()
        self.merge = None
        if num_in is not None:
            self.merge = nn.Sequential(nn.LayerNorm(2 * num_in), nn.Linear(2 * num_in, num_channels))
        self.graph_construction_model = graph
        sizes = ((context_frames, 1),) if context_frames else ()
        self.blocks = nn.ModuleList(
            Block(num_channels, graph.num_relations, 2, sizes, rate, ffn_ratio=FFN_RATIO) for rate in drop_path
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.merge is not None:
            x = self.merge(rearrange(x, "b (t two) v c -> b t v (two c)", two=2))
        graph = self.graph_construction_model(x)
        for block in self.blocks:
            x = block(x, graph)
        return x


class EurNetSkeleton(SkeletonNetwork):
    """EurNet's blocks on joints over frames; the classifier sees the mean state of each joint over time.

    >>> model = EurNetSkeleton(num_joints=20, num_classes=10, num_frames=16)
    >>> model(torch.randn(2, 1, 16, 20, 3)).shape
    torch.Size([2, 10])

    Args:
        num_joints, num_classes, bones, center: see `SkeletonNetwork`.
        num_frames: frames T of a clip; positions in time depend on it.
        num_people: people M in a clip; their joints share one graph.
        dim: channels of the first stage; they double from stage to stage.
        num_blocks: blocks of each stage. Four frames become one before the first stage, two before every other.
        relations: some of `RELATIONS`.
        num_neighbors: k of the relation "nearest".
        one_relation: for comparison, all edges have the same relation, so that the layer cannot distinguish them.
        context_frames: frames spanned by the depthwise convolution over time, one more update in each layer: an odd
            number, or 0 for none.
        drop_path: rate of stochastic depth in the last block; it grows evenly from 0 in the first.
        dropout: of the pooled features.

    Raises:
        ValueError: a size is out of range, a relation is unknown, or the bones are not a tree.
    """

    def __init__(
        self,
        num_joints: int,
        num_classes: int = 60,
        bones: Sequence[Sequence[int]] | None = None,
        center: int | None = None,
        num_frames: int = 32,
        num_people: int = 1,
        dim: int = 48,
        num_blocks: Sequence[int] = (2, 2),
        relations: Sequence[str] = RELATIONS,
        num_neighbors: int = 4,
        one_relation: bool = False,
        context_frames: int = 5,
        drop_path: float = 0.1,
        dropout: float = 0.3,
    ):
        check_sizes(num_frames=num_frames, num_people=num_people, dim=dim, num_stages=len(num_blocks))
        for blocks in num_blocks:
            check_sizes(num_blocks=blocks)
        _check_relations(relations)
        check_sizes(num_neighbors=num_neighbors)
        check_sizes(0, context_frames=context_frames)
        check_shares(drop_path=drop_path)
        multiple = TUBELET << (len(num_blocks) - 1)
        if num_frames % multiple:
            raise ValueError(f"num_frames must be a multiple of {multiple}, not {num_frames}")
        last = dim << (len(num_blocks) - 1)
        super().__init__(num_joints, num_classes, num_joints * last, bones, center, dropout)
        self.num_frames, self.num_people = num_frames, num_people
        self.embed = nn.Linear(TUBELET * 3 * NUM_KINDS, dim)
        self.joint_pos_embed = nn.Parameter(torch.empty(num_joints, dim))
        self.temporal_pos_embed = nn.Parameter(torch.empty(num_frames // TUBELET, 1, dim))
        rates = torch.linspace(0, drop_path, sum(num_blocks), device="cpu").tolist()
        self.stages = nn.ModuleList()
        for number, blocks in enumerate(num_blocks):
            graph = SkeletonGraph(self.body, num_people, relations, num_neighbors, one_relation)
            num_in = dim << (number - 1) if number else None
            self.stages.append(SkeletonStage(graph, num_in, dim << number, context_frames, rates[:blocks]))
            rates = rates[blocks:]
        self.norm = nn.LayerNorm(last)
        self.reset_parameters()
        self.reset_classifier(num_classes)  # again, because it starts smaller than the other layers

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.joint_pos_embed, std=0.02)
        nn.init.trunc_normal_(self.temporal_pos_embed, std=0.02)
        init_linear_layers(self, INIT_STD)
        for stage in self.stages:
            for block in stage.blocks:  # open, as with `GRMPConv(open_gate=True)`: from the start, messages pass
                nn.init.ones_(block.graph_conv.weight_linear.bias)
                nn.init.ones_(block.graph_conv.self_loop.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1:3] != (self.num_people, self.num_frames):
            raise ValueError(
                f"this network takes {self.num_people} people in {self.num_frames} frames, not {list(x.shape)}"
            )
        x = rearrange(self.features(x), "b m (t step) v c -> b t m v (step c)", step=TUBELET)
        x = self.embed(x) + self.joint_pos_embed + self.temporal_pos_embed[:, None]  # [B, T / 4, M, V, C]
        x = x.flatten(2, 3)  # people side by side: [B, T / 4, M * V, C]
        for stage in self.stages:
            x = stage(x)
        return self.norm(x).unflatten(2, (self.num_people, -1)).transpose(1, 2)

    def pool(self, states: torch.Tensor) -> torch.Tensor:
        """The mean over frames of each joint, side by side: [B, M, T', V, C] -> [B, M, V * C]."""
        return states.mean(2).flatten(2)


def _check_relations(relations: Sequence[str]) -> None:
    for kind in relations:
        if kind not in RELATIONS:
            raise ValueError(f"relations are some of {', '.join(RELATIONS)}, not {kind!r}")
    if len(set(relations)) < len(relations) or not relations:
        raise ValueError(f"relations must be some of {', '.join(RELATIONS)}, each once, not {list(relations)}")


eurnet_skeleton = EurNetSkeleton
"""The builder of `models.create_model`."""
