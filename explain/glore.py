"""The graphs of GloRe's units: which regions of a map their nodes stand for, and how the nodes are connected.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (figure 5 shows
projections)
"""

from typing import NamedTuple

import torch
from torch import nn

from explain.recording import modules_of, record
from glore3d import GloReUnit


class UnitGraph(NamedTuple):
    """What one unit made of one input."""

    name: str
    projection: torch.Tensor
    """How much each position belongs to each node, the paper's B: [N, T, h, w]; of either sign."""
    adjacency: torch.Tensor
    """The learned graph, the paper's A_g: [N, N], a row for each node that receives."""


def unit_graphs(model: nn.Module, x: torch.Tensor) -> list[UnitGraph]:
    """The graph of each unit of a network, for one image or clip. A network without units has none."""
    units = modules_of(model, GloReUnit)
    calls = record(model, x, {name: unit.conv_proj for name, unit in units.items()})
    graphs = []
    for name, unit in units.items():
        nodes = calls[name].output  # [1, N, T, h, w], or of frames or images [T, N, h, w]
        nodes = nodes[0] if unit.dim == 3 else nodes.transpose(0, 1)
        graphs.append(UnitGraph(name, nodes.detach(), unit.gcn.adjacency.detach()))
    return graphs
