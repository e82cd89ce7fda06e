"""ST-GCN: graph convolutions over bones, and convolutions over time.

Paper: Yan et al., Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition, AAAI 2018,
https://arxiv.org/abs/1801.07455

Written from the paper (sections 3.2 to 3.6): spatial configuration partitioning, learnable importance of edges, nine
layers of 64, 128 and 256 channels, temporal kernels of nine frames, strides of 2 at the fourth and seventh layer,
dropout after every layer. Done differently here: the mean over people leaves out absent people; the input has bones and
velocities beside positions, like that of `EurNetSkeleton`, so that only the layers differ.
"""

from collections.abc import Sequence

import torch
from torch import nn

from eurgraph.bodies import Body
from eurgraph.sizes import check_shares, check_sizes
from eurgraph.skeleton import NUM_KINDS, SkeletonNetwork

KERNEL_FRAMES = 9
LAYERS = ((1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))
"""The channels of each layer, as multiples of the first's, and its stride in time."""


def partitions(body: Body) -> torch.Tensor:
    r"""Normalized adjacency of the three subsets of neighbors, [3, V, V]: row i sums over the sources j.

    Root: the joint itself; centripetal: neighbors nearer to the center; centrifugal: those farther. As in equation 9,
    :math:`\Lambda^{-1/2} A \Lambda^{-1/2}` with the degrees of the whole adjacency, the joint itself included.
    """
    num_joints, parents = body.num_joints, body.parents
    root = torch.eye(num_joints)
    centripetal = torch.zeros(num_joints, num_joints)
    for joint, parent in enumerate(parents):
        centripetal[joint, parent] = joint != parent
    subsets = torch.stack([root, centripetal, centripetal.T])
    degree = subsets.sum((0, 2))
    return subsets * degree.rsqrt()[:, None] * degree.rsqrt()


class STGCNLayer(nn.Module):
    r"""Graph convolution over bones, then a convolution over time, with a shortcut.

    .. math:: y_i = \sum_p W_p \sum_j (A_p \odot M)_{ij} x_j

    Shapes: x [B, C, T, V], A [3, V, V] to [B, C', T / stride, V].
    """

    def __init__(self, in_channels: int, out_channels: int, num_joints: int, stride: int, dropout: float):
        super().__init__()
        self.spatial = nn.Conv2d(in_channels, 3 * out_channels, 1)
        self.importance = nn.Parameter(torch.ones(3, num_joints, num_joints))
        self.temporal = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (KERNEL_FRAMES, 1), (stride, 1), (KERNEL_FRAMES // 2, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout),
        )
        self.shortcut = nn.Identity()
        if in_channels != out_channels or stride != 1:
            conv = nn.Conv2d(in_channels, out_channels, 1, (stride, 1))
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        messages = self.spatial(x).unflatten(1, (3, -1))  # [B, 3, C', T, V]
        weights = adjacency * self.importance
        y = torch.einsum("bpctj,pij->bcti", messages, weights)
        return torch.relu(self.temporal(y) + self.shortcut(x))


class STGCN(SkeletonNetwork):
    """The paper's network.

    Args:
        num_joints, num_classes, bones, center: see `SkeletonNetwork`.
        dim: channels of the first three layers; the paper has 64.
        dropout: after each layer; the paper has 0.5.
    """

    def __init__(
        self,
        num_joints: int,
        num_classes: int = 400,
        bones: Sequence[Sequence[int]] | None = None,
        center: int | None = None,
        dim: int = 64,
        dropout: float = 0.5,
    ):
        check_sizes(dim=dim)
        super().__init__(num_joints, num_classes, dim * LAYERS[-1][0], bones, center, dropout=0)
        check_shares(dropout=dropout)
        self.register_buffer("adjacency", partitions(self.body), persistent=False)
        channels = [3 * NUM_KINDS, *(dim * times for times, _ in LAYERS)]
        self.layers = nn.ModuleList(
            STGCNLayer(channels[number], channels[number + 1], num_joints, stride, dropout if number else 0.0)
            for number, (_, stride) in enumerate(LAYERS)
        )

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        num_people = x.shape[1]
        x = self.features(x).flatten(0, 1).movedim(-1, 1)  # [B, M, T, V, 9] -> [B * M, 9, T, V]
        for layer in self.layers:
            x = layer(x, self.adjacency)
        return x.movedim(1, -1).unflatten(0, (-1, num_people))


stgcn = STGCN
"""The builder of `models.create_model`."""
