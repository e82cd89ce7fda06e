"""Graphs of EurNet against the golden files, which hold counts and a digest of their edges."""

from typing import TYPE_CHECKING, Any

import torch

from eurgraph.grid import GridGraph

if TYPE_CHECKING:
    from torch_geometric.data import Data


def digest(data: "Data") -> int:
    """A number that changes with any edge."""
    prime = 2**31 - 1
    source, target = data.edge_index
    return ((source + 1) * (target + 1) % prime * (data.edge_type + 1) % prime).sum().item() % prime


def check_graph(graph: GridGraph, x: torch.Tensor, golden: dict[str, Any]) -> None:
    """Number of nodes, edges of each relation, their digest, and the nearest patches of some patches."""
    data = graph.to_edge_index(x)
    assert graph.num_relations == len(golden["edges_per_relation"])
    assert data.num_nodes == golden["nodes_per_image"] * len(x)
    assert data.edge_type.bincount().tolist() == golden["edges_per_relation"]
    assert digest(data) == golden["digest"]
    for patch, sources in golden.get("knn_image0_patch_to_sources", {}).items():
        assert sorted(graph.ranges[1].index[0, int(patch)].tolist()) == sources
