"""Message passing on grids and on edge lists: EurNet on both, and our layer for any graph next to PyG's."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from engine.precision import place_model
from models import MODELS, create_model, list_models
from tools.benchmarks.timing import Contestant, add_timing_arguments, measure
from tools.common.arguments import positive

HELP = """Message passing on grids and on edge lists.

1. A EurNet as built, on grids, and the same network on edge lists, once with a message for each edge and once with sums
   over sorted edges: evaluation and training steps.
2. GRMPConv, our layer for any graph, next to PyG's RGCNConv and FastRGCNConv on a random graph with typed edges.

Memory is the peak that a process adds, weights and graph included; on a CPU the growth of the process (Linux only).
"""

MODES = ("evaluation", "training")
FORMS = ("edges, unfused", "edges", "grid")
LAYERS = ("GRMPConv", "RGCNConv", "FastRGCNConv")
LARGEST = 4 * 2**30  # bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", default="eurnet_tiny", choices=list_models("eurnet_*"), help="a EurNet (eurnet_tiny)"
    )
    parser.add_argument("--batch", type=positive, default=4, help="batch size")
    parser.add_argument("--nodes", type=positive, default=100_000, help="nodes of the random graph")
    parser.add_argument("--edges", type=positive, default=1_000_000, help="its edges")
    parser.add_argument("--relations", type=positive, default=8, help="its relations")
    parser.add_argument("--channels", type=positive, default=64, help="channels of its nodes and of the layers")
    add_timing_arguments(parser, num_repeats=7)


def run(args: argparse.Namespace) -> None:
    print(f"{args.name}, batch {args.batch}, {args.threads} thread(s), float32")
    makers = {form: partial(_network_step, args.name, args.batch, form) for form in FORMS}
    _table(makers, args)
    print(f"\n{args.nodes:,} nodes, {args.edges:,} edges, {args.relations} relations, {args.channels} channels")
    sizes = (args.nodes, args.edges, args.relations, args.channels)
    layers = list(LAYERS)
    needed = 2 * 4 * args.edges * args.channels**2
    if "FastRGCNConv" in layers and needed > LARGEST:
        layers.remove("FastRGCNConv")
        print(f"FastRGCNConv is skipped: a matrix for every edge takes {needed / 2**30:.0f} GiB; try fewer --edges")
    _table({layer: partial(_layer_step, layer, sizes) for layer in layers}, args)


def _table(makers: dict[str, Callable[..., Callable[[], Any]]], args: argparse.Namespace) -> None:
    """A line for each mode and maker, compared with the first maker."""
    print(f"{'':12}{'':16}{'ms/step':>12}{'peak MiB':>12}{'faster':>12}")
    for mode in MODES:
        contestants = [Contestant(name, partial(make, mode), args.threads) for name, make in makers.items()]
        results = measure(contestants, args.repeats, mode)
        for contestant, result in zip(contestants, results, strict=True):
            ratio = result.times_faster_than(results[0])
            print(f"{mode:12}{contestant.name:16}{1000 * result.median:12.1f}{result.mebibytes:>12}{ratio:11.2f}x")


def _network_step(name: str, batch: int, form: str, mode: str) -> Callable[[], Any]:
    torch.manual_seed(0)
    model = place_model(create_model(name), torch.device("cpu"), channels_last=True)
    if form != "grid":
        from eurgraph.edge_list import on_edge_lists  # imports PyTorch Geometric, which takes memory and seconds

        on_edge_lists(model, fuse=form == "edges")
    return _step(model, mode, torch.randn(batch, *MODELS[name].input_shape))


def _layer_step(layer: str, sizes: tuple[int, int, int, int], mode: str) -> Callable[[], Any]:
    import torch_geometric.nn

    from eurgraph.conv import GRMPConv

    num_nodes, num_edges, num_relations, num_channels = sizes
    torch.manual_seed(0)
    conv = GRMPConv if layer == "GRMPConv" else getattr(torch_geometric.nn, layer)
    x = torch.randn(num_nodes, num_channels)
    edge_index = torch.randint(num_nodes, (2, num_edges))
    edge_type = torch.randint(num_relations, (num_edges,))
    return _step(conv(num_channels, num_channels, num_relations), mode, x, edge_index, edge_type)


def _step(module: nn.Module, mode: str, x: torch.Tensor, *graph: torch.Tensor) -> Callable[[], Any]:
    """Forward only, or forward and backward to the weights and the input."""
    module.train(mode == "training")

    def evaluate() -> None:
        with torch.inference_mode():
            module(x, *graph)

    def train() -> None:
        x.grad = None
        module.zero_grad()
        module(x, *graph).square().sum().backward()

    x.requires_grad_(mode == "training")
    return train if mode == "training" else evaluate
