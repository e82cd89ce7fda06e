"""EurNet on lists of edges: the same network, its layers computed by `eurgraph.conv.GRMPConv` on PyG graphs.

It gives the same results as the layers on grids, but more slowly. It is for comparing the two, and an example of how
the layer for any graph replaces the one for grids.
"""

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.conv import GRMPConv
from eurgraph.eurnet import EurNet
from eurgraph.grid import GridGraph
from eurgraph.grid_conv import GridGRMP

Edges = tuple[GridGraph, torch.Tensor, torch.Tensor]  # the grid, edge_index [2, E], edge_type [E]


class WithEdges(nn.Module):
    """Finds a stage's graph as `network` does, and lists its edges, once for all blocks of the stage."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Edges:
        graph = self.network(x)
        data = graph.to_edge_index(x.detach())
        return graph, data.edge_index, data.edge_type


class EdgeListGRMP(nn.Module):
    """The layer `grid` on a list of edges, with the same parameters: [B, *shape, C] and `Edges` to [B, *shape, C]."""

    def __init__(self, grid: GridGRMP):
        super().__init__()
        self.context = ContextOnNodes(grid) if grid.context_layers else None
        self.conv = GRMPConv(grid.num_channels, grid.num_channels, grid.num_relations, self.context)
        for name in ("self_loop", "message_linear", "weight_linear", "linear", "gate_linear"):
            setattr(self.conv, name, getattr(grid, name))

    def forward(self, x: torch.Tensor, edges: Edges) -> torch.Tensor:
        graph, edge_index, edge_type = edges
        if self.context is not None:
            self.context.graph = graph
        return graph.to_grid(self.conv(graph.to_nodes(x), edge_index, edge_type))


class ContextOnNodes(nn.Module):
    """The context of the grid's layer, for the nodes of the same graph. Virtual nodes get none."""

    graph: GridGraph

    def __init__(self, grid: GridGRMP):
        super().__init__()
        self.context_layers = grid.context_layers
        self._context = grid.context

    def forward(self, message: torch.Tensor) -> torch.Tensor:
        context = self._context(self.graph.to_grid(message)).flatten(1, -2)  # [B, *shape, C] -> [B, N, C]
        return F.pad(context, (0, 0, self.graph.num_virtual_nodes, 0)).flatten(0, 1)  # -> [B * (V + N), C]


def on_edge_lists(model: EurNet, fuse: bool = True) -> EurNet:
    """Makes every layer of `model` compute on lists of edges, in place, with the same weights; `fuse`: see GRMPConv."""
    for stage in model.stages:
        stage.graph_construction_model = WithEdges(stage.graph_construction_model)
        for block in stage.blocks:
            block.graph_conv = EdgeListGRMP(block.graph_conv)
            block.graph_conv.conv.fuse = fuse
    return model
