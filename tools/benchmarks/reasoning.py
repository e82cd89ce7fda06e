"""Layers and networks for knowledge graphs: ours, NBFNet's, and PyG's relational convolution."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tools.benchmarks.timing import Contestant, measure
from tools.common.arguments import positive

HELP = """Layers and networks for knowledge graphs.

1. One layer, forward and backward, on one copy of the graph per question: NBFNet's in plain PyTorch, PyG's RGCNConv,
   our GRMPConv, and its sums alone on a graph with pairs sorted in advance.
2. A training step of the whole network: nbfnet and eurnet_kg, with the same number of layers.

Without --facts the graph is synthetic: as many entities, relations and facts as in fb237_v1 of GraIL's inductive
splits, with a few frequent ones and many rare ones. Times are for one thread.
"""

LAYERS = ("NBFNet's layer", "RGCNConv", "GRMPConv", "sums over pairs")
NETWORKS = ("nbfnet", "eurnet_kg")
SIZES = (1594, 180, 4245)  # entities, relations and facts of fb237_v1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--facts", type=Path, metavar="FILE", help="lines head<TAB>relation<TAB>tail (synthetic)")
    parser.add_argument("--copies", type=positive, default=8, help="questions, a copy of the graph for each (8)")
    parser.add_argument("--batch", type=positive, default=32, help="questions of a training step (32)")
    parser.add_argument("--channels", type=positive, default=32, help="channels of states (32)")
    parser.add_argument("--layers", type=positive, default=5, help="layers of the networks (5)")
    parser.add_argument("--repeats", type=positive, default=5, help="measured steps of each (5)")


def run(args: argparse.Namespace) -> None:
    graph = facts_of(args.facts)
    num_nodes, num_relations = 1 + int(graph[:, [0, 2]].max()), 1 + int(graph[:, 1].max())
    print(
        f"{num_nodes:,} entities, {num_relations} relations, {len(graph):,} facts; {args.channels} channels, one thread"
    )
    print(f"one layer, forward and backward, {args.copies} copies of the graph")
    _table({name: partial(layer_step, name, graph, args.copies, args.channels) for name in LAYERS}, args)
    print(f"a training step, {args.batch} questions, {args.layers} layers")
    options = {"dim": args.channels, "num_layers": args.layers}
    _table({name: partial(network_step, name, graph, args.batch, options) for name in NETWORKS}, args)


def _table(makers: dict[str, Callable[..., Callable[[], Any]]], args: argparse.Namespace) -> None:
    """A line for each maker, compared with the first."""
    print(f"{'':20}{'ms':>12}{'peak MiB':>12}{'faster':>12}")
    contestants = [Contestant(name, make) for name, make in makers.items()]
    results = measure(contestants, args.repeats, "training")
    for contestant, result in zip(contestants, results, strict=True):
        ratio = result.times_faster_than(results[0])
        print(f"{contestant.name:20}{1000 * result.median:12.1f}{result.mebibytes:>12}{ratio:11.2f}x")


def facts_of(path: Path | None) -> np.ndarray:
    """Facts [N, 3] as numbers: from a file, or synthetic."""
    if path is not None:
        from datasets.graphs import read_triples

        return read_triples(path).triples
    num_nodes, num_relations, num_facts = SIZES
    rng = np.random.default_rng(0)
    columns = [
        np.minimum(rng.pareto(0.7, num_facts) * size / 50, size - 1) for size in (num_nodes, num_relations, num_nodes)
    ]
    facts = np.stack(columns, axis=1).astype(np.int64)
    facts[:num_nodes, 0], facts[:num_relations, 1] = np.arange(num_nodes), np.arange(num_relations)
    return facts


def edges_of(facts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """edge_index [2, 2 N], edge_type [2 N], and the numbers of nodes and types, including those of inverses."""
    from datasets.graphs import knowledge_graph

    num_nodes, num_relations = 1 + int(facts[:, [0, 2]].max()), 1 + int(facts[:, 1].max())
    graph = knowledge_graph(facts, num_nodes, num_relations)
    return graph.edge_index, graph.edge_type, num_nodes, 2 * num_relations


def layer_step(name: str, facts: np.ndarray, copies: int, channels: int) -> Callable[[], Any]:
    from torch_geometric.data import Data
    from torch_geometric.nn import RGCNConv

    from eurgraph.conv import GRMPConv
    from eurgraph.nbfnet import NBFNetLayer
    from eurgraph.reach import index_graph

    torch.manual_seed(0)
    edge_index, edge_type, num_nodes, num_types = edges_of(facts)
    if name == "NBFNet's layer":
        index = index_graph(Data(edge_index=edge_index, edge_type=edge_type, num_nodes=num_nodes), num_types)
        layer = NBFNetLayer(channels, num_types, "static")
        x = torch.randn(num_nodes, copies, channels, requires_grad=True)
        query, boundary = torch.randn(copies, channels), torch.randn(num_nodes, copies, channels)
        return _step(layer, x, lambda: layer(x, query, boundary, index, None))
    edge_index = torch.cat([edge_index + copy * num_nodes for copy in range(copies)], dim=1)
    edge_type = edge_type.repeat(copies)
    x = torch.randn(copies * num_nodes, channels, requires_grad=True)
    if name == "RGCNConv":
        layer = RGCNConv(channels, channels, num_types)
        return _step(layer, x, lambda: layer(x, edge_index, edge_type))
    layer = GRMPConv(channels, channels, num_types)
    if name == "GRMPConv":
        return _step(layer, x, lambda: layer(x, edge_index, edge_type))
    return _step(layer, x, _sums_over_pairs(layer, x, edge_index, edge_type))


def _sums_over_pairs(layer: nn.Module, x: torch.Tensor, edge_index: torch.Tensor, edge_type: torch.Tensor):
    """The layer's arithmetic with nothing to sort and nothing to check."""
    from eurgraph.conv import edge_shares
    from eurgraph.pairs import DotOfPairs, SumOverEdges, pair_edges_of, pairs_of

    num_types = layer.num_relations
    pair, order = (edge_index[1] * num_types + edge_type).sort()
    found, pair = pair.unique_consecutive(return_inverse=True)
    pairs = pairs_of(found // num_types, found % num_types, len(x), num_types)
    edges = pair_edges_of(edge_index[0][order], pair, len(found), len(x))
    share = edge_shares(None, pair, len(found), x.dtype, "mean")

    def forward() -> torch.Tensor:
        mean = SumOverEdges.apply(layer.message_linear(x), share, edges)
        weight = DotOfPairs.apply(x, layer.weight_linear.weight, pairs) + layer.weight_linear.bias[pairs.key]
        return layer.self_loop(x) * layer.gate_linear(layer.mixture(mean, weight, pairs))

    return forward


def network_step(name: str, facts: np.ndarray, batch: int, options: dict[str, int]) -> Callable[[], Any]:
    from torch_geometric.data import Data

    from models import create_model

    torch.manual_seed(0)
    edge_index, edge_type, num_nodes, num_types = edges_of(facts)
    model = create_model(name, num_relations=num_types // 2, **options)
    index = model.index(Data(edge_index=edge_index, edge_type=edge_type, num_nodes=num_nodes))
    asked = torch.randint(edge_index.shape[1], (batch,))
    heads, relations, answers = edge_index[0, asked], edge_type[asked], edge_index[1, asked]

    def step() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(index, heads, relations), answers).backward()

    return step


def _step(layer: nn.Module, x: torch.Tensor, forward: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    def step() -> None:
        x.grad = None
        layer.zero_grad()
        forward().square().sum().backward()

    return step
