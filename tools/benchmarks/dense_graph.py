"""EurNet for dense prediction: its graph and its forward pass, compared with the authors' method."""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.grid import GridGraph, MediumRange
from eurgraph.grid_conv import GridGRMP
from eurgraph.pyramid import EurNetPyramid
from eurgraph.windows import FAR, Lattice, WindowedNearestPatches, diagonal_windows, position_terms
from models import IMAGE_MODELS, create_pyramid, list_models
from tools.benchmarks.timing import Contestant, Measured, add_timing_arguments, measure
from tools.common.arguments import positive

HELP = """EurNet for dense prediction, at the size of a COCO image.

1. The graph: nearest patches of all stages. The authors' code fills, window by window, a matrix of distances between
   all patches of a map; ours keeps the distances of one window and parity, some rows at a time.
2. The forward pass of the backbone with these graphs. "their way" uses the authors' message passing, too: a message for
   each edge, added up by target and relation, and scales as a grouped convolution. All give the same maps, apart from
   ties, except "tiled", whose windows cover the map.

Memory is the peak that a process adds, weights included; on a CPU the growth of the process (Linux only).
"""

GRAPHS = ("full matrix", "authors", "tiled")
NETWORKS = ("their way", *GRAPHS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    eurnets = [name for name in list_models("eurnet_*") if name in IMAGE_MODELS]
    parser.add_argument(
        "name", nargs="?", default="eurnet_tiny", choices=eurnets, help="a EurNet for images (eurnet_tiny)"
    )
    parser.add_argument("--height", type=positive, default=800, help="height of the image")
    parser.add_argument("--width", type=positive, default=1344, help="its width")
    parser.add_argument("--batch", type=positive, default=1, help="number of images")
    parser.add_argument("--window-length", type=positive, default=144, help="the longer side of a window, in patches")
    add_timing_arguments(parser, num_repeats=3)


def run(args: argparse.Namespace) -> None:
    print(f"{args.name}, {args.batch} x {args.height} x {args.width}, {args.threads} thread(s), float32")
    print(f"{'':12}{'':16}{'s/step':>12}{'peak MiB':>12}{'faster':>12}{'of its memory':>16}")
    size = (args.batch, args.height, args.width, args.window_length)
    for what, kinds, make in (("graph", GRAPHS, _graph_step), ("forward", NETWORKS, _network_step)):
        contestants = [Contestant(kind, partial(make, args.name, kind, size), args.threads) for kind in kinds]
        results = measure(contestants, args.repeats, what)
        for contestant, result in zip(contestants, results, strict=True):
            ratio, share = result.times_faster_than(results[0]), _share(result, results[0])
            print(
                f"{what:12}{contestant.name:16}{result.median:12.2f}{result.mebibytes:>12}{ratio:11.2f}x{share:>16}",
                flush=True,
            )


def _share(result: Measured, other: Measured) -> str:
    return "-" if not (result.memory and other.memory) else f"{result.memory / other.memory:.3f}"


def _graph_step(name: str, kind: str, size: tuple[int, int, int, int]) -> Callable[[], Any]:
    """Finds the nearest patches of every stage that has some, among random features."""
    batch, height, width, window_length = size
    searches = []
    for i, stage in enumerate(_build(name, kind, window_length).stages):
        rows, columns = (-(-side // (4 << i)) for side in (height, width))
        for nearest in stage.graph_construction_model.edge_layers.values():
            searches.append((nearest, torch.randn(batch, rows, columns, nearest.num_channels)))

    def step() -> None:
        with torch.inference_mode():
            for nearest, x in searches:
                nearest(x)

    return step


def _network_step(name: str, kind: str, size: tuple[int, int, int, int]) -> Callable[[], Any]:
    batch, height, width, window_length = size
    model = _build(name, kind, window_length)
    images = torch.randn(batch, 3, height, width)

    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def _build(name: str, kind: str, window_length: int) -> EurNetPyramid:
    torch.manual_seed(0)
    windows = kind if kind == "tiled" else "authors"
    model = create_pyramid(name, windows=windows, window_length=window_length).eval()
    for stage in model.stages:
        construction = stage.graph_construction_model
        if kind in ("their way", "full matrix"):
            for key, nearest in construction.edge_layers.items():
                construction.edge_layers[key] = FullMatrixNearest(nearest)
        if kind == "their way":
            for block in stage.blocks:
                block.graph_conv = EdgeByEdgeGRMP(block.graph_conv)
    return model


class FullMatrixNearest(nn.Module):
    """`WindowedNearestPatches` of the authors' windows, by a matrix of all pairs: [B, H, W, C] to a MediumRange."""

    def __init__(self, nearest: WindowedNearestPatches):
        super().__init__()
        self.num_channels, self.num_neighbors = nearest.num_channels, nearest.num_neighbors
        self.window_length = nearest.window_length
        self.positions: dict[tuple[int, int], torch.Tensor] = {}
        """Kept from image to image, as in the authors' code."""

    def forward(self, x: torch.Tensor) -> MediumRange:
        num_grids, height, width = x.shape[:3]
        x = F.normalize(x, dim=-1)
        distance = FAR * torch.ones(num_grids, height, width, height, width)
        for window in diagonal_windows(height, width, self.window_length):
            for part in window.by_parity():
                p = part.take(x)
                square = p.square().sum(2)
                pairs = square[:, :, None] + square[:, None] - 2 * p @ p.mT + self._position(part, p)
                rows, columns = (slice(side.start, side.stop, side.step) for side in part)
                distance[:, rows, columns, rows, columns] = pairs.unflatten(2, part.shape).unflatten(1, part.shape)
        for row, column in product((-1, 0, 1), repeat=2):  # the patch itself, and those that touch it
            target, source = _shifted(height, width, row, column)
            distance.view(num_grids, height * width, -1)[:, target, source] += FAR
        distance = distance.view(num_grids, height * width, -1)
        return MediumRange((-distance).topk(self.num_neighbors).indices)

    def _position(self, part: Lattice, p: torch.Tensor) -> torch.Tensor:
        if part.shape not in self.positions:
            rows, columns = position_terms(part, p)
            self.positions[part.shape] = (rows[:, None, :, None] + columns[:, None, :]).flatten(2).flatten(0, 1)
        return self.positions[part.shape]


def _shifted(height: int, width: int, row: int, column: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of patches with another one `row` rows below and `column` columns to the right, and of that other one."""
    numbers = torch.arange(height * width).view(height, width)
    target = numbers[max(-row, 0) : height - max(row, 0), max(-column, 0) : width - max(column, 0)].flatten()
    return target, target + row * width + column


class EdgeByEdgeGRMP(nn.Module):
    """The layer `grid`, with a message for every edge, and all updates of all relations before they are added up."""

    def __init__(self, grid: GridGRMP):
        super().__init__()
        self.grid = grid

    def forward(self, x: torch.Tensor, graph: GridGraph) -> torch.Tensor:
        grid, num_relations = self.grid, self.grid.num_relations
        nodes = graph.to_nodes(x)  # [B * (V + N), C]
        data = _edges(graph, x)
        message = grid.message_linear(nodes)
        pair = data.edge_index[1] * num_relations + data.edge_type
        total = message.new_zeros(len(nodes) * num_relations, message.shape[1])
        total.index_add_(0, pair, message[data.edge_index[0]])
        total = total / (pair.bincount(minlength=len(total))[:, None] + 1e-10)
        total = total.view(len(x), -1, num_relations * message.shape[1]).mT  # [B, R * C, V + N]
        update = F.gelu(grid.linear(total)).mT.reshape(len(nodes), num_relations, -1)  # -> [B * (V + N), R, C]
        context, contexts = graph.to_grid(message).movedim(-1, 1), []
        for layer in grid.context_layers:
            context = layer(context)
            contexts.append(graph.to_nodes(context.movedim(1, -1)))
        update = torch.cat([update, torch.stack(contexts, dim=1)], dim=1)  # [B * (V + N), R + L, C]
        update = (update * grid.weight_linear(nodes).unsqueeze(-1)).sum(1)
        return graph.to_grid(grid.self_loop(nodes) * grid.gate_linear(update))


def _edges(graph: GridGraph, x: torch.Tensor) -> Any:
    """The edges of a stage, listed once for all its blocks."""
    if "edges" not in graph.__dict__:
        graph.__dict__["edges"] = graph.to_edge_index(x)
    return graph.__dict__["edges"]
