"""The graphs of GloRe's units: which regions of a map the nodes represent, and how the nodes are connected.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (figure 5 shows
projections)
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from eurgraph.grid import describe
from explain.panels import Chart, MapPanel, Section, representatives
from explain.recording import modules_of, record
from glore3d import GloReUnit, PreActGloReUnit

UNITS = (GloReUnit, PreActGloReUnit)


class UnitGraph(NamedTuple):
    """The graph of one unit for one input."""

    name: str
    projection: torch.Tensor
    """How much each position belongs to each node, the paper's B: [N, T, h, w]; of either sign."""
    adjacency: torch.Tensor
    """The learned graph, the paper's A_g: [N, N], a row for each node that receives."""


def unit_graphs(model: nn.Module, x: torch.Tensor) -> list[UnitGraph]:
    """The graph of each unit of a network, for one image or clip. A network without units has none."""
    units = modules_of(model, UNITS)
    calls = record(model, x, {name: unit.conv_proj for name, unit in units.items()})
    graphs = []
    for name, unit in units.items():
        nodes = calls[name].output  # [1, N, T, h, w], or of frames or images [T, N, h, w]
        nodes = nodes[0] if unit.dim == 3 else nodes.transpose(0, 1)
        graphs.append(UnitGraph(name, nodes.detach(), unit.gcn.adjacency.detach()))
    return graphs


def glore_sections(model: nn.Module, x: torch.Tensor, num_maps: int) -> list[Section]:
    """Projections of some nodes of each unit, and its adjacency."""
    sections = []
    for unit in unit_graphs(model, x):
        nodes = representatives(unit.projection, num_maps)
        maps = tuple(MapPanel(f"node {node}", unit.projection[node], "signed") for node in nodes)
        adjacency = unit.adjacency.cpu().numpy()
        num_nodes = len(adjacency)
        note = (
            f"How much each position belongs to a node (B): {len(nodes)} of {num_nodes} nodes that differ most, "
            f"{describe(unit.projection.shape[1:])} positions (T x H x W)."
        )
        charts = (
            Chart(f"adjacency A_g, {num_nodes} nodes", partial(_draw_matrix, adjacency)),
            Chart("strongest edges of the shown nodes", partial(_draw_edges, adjacency, nodes), width=5.4),
        )
        sections.append(Section(f"GloRe unit {unit.name}", note, maps, charts))
    return sections


def _draw_matrix(matrix: np.ndarray, axes: Any) -> None:
    largest = np.abs(matrix).max() or 1.0
    picture = axes.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    axes.set_xlabel("from node", size=8)
    axes.set_ylabel("to node", size=8)
    axes.figure.colorbar(picture, ax=axes, shrink=0.9).ax.tick_params(labelsize=7)


def _draw_edges(matrix: np.ndarray, nodes: list[int], axes: Any) -> None:
    """Bars: for each shown node the two nodes that it receives the most from."""
    labels, values = [], []
    for node in nodes:
        row = matrix[node].copy()
        row[node] = 0
        for source in np.abs(row).argsort()[::-1][:2]:
            labels.append(f"{source} to {node}")
            values.append(row[source])
    places = np.arange(len(labels))
    axes.barh(places, values, color=["#b2182b" if value > 0 else "#2166ac" for value in values])
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
