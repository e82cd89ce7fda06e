"""EurNet's graph around a patch: its neighbors near, alike and everywhere, and how much it listens to each relation.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
"""

from typing import NamedTuple

import torch
from torch import nn

from eurgraph import EurNet
from eurgraph.grid import GridGraph, LongRange, MediumRange, ShortRange
from explain.recording import own_network, record

STEPS = {2: ("above", "below", "left", "right"), 3: ("frame before", "frame after", "above", "below", "left", "right")}


class StageGraphs(NamedTuple):
    """The graph of one stage, for one input, and what its blocks make of it."""

    name: str
    graph: GridGraph
    """On [h, w] for each frame of a network for images, on [T, h, w] for a network for clips."""
    weights: dict[str, torch.Tensor]
    """Block -> weight of each relation at each patch: [R, T, h, w]."""


def stage_graphs(model: nn.Module, x: torch.Tensor) -> list[StageGraphs]:
    """The graph of each stage of a EurNet, for one image or clip."""
    network: EurNet = own_network(model)
    stages = {f"stages.{number}": stage for number, stage in enumerate(network.stages)}
    layers = {name: stage.graph_construction_model for name, stage in stages.items()}
    for name, stage in stages.items():
        layers |= {f"{name}.blocks.{k}": block.graph_conv.weight_linear for k, block in enumerate(stage.blocks)}
    calls = record(model, x, layers)
    found = []
    for name, stage in stages.items():
        graph: GridGraph = calls[name].output
        weights = {}
        for block in (f"{name}.blocks.{k}" for k in range(len(stage.blocks))):
            weight = calls[block].output.detach()[..., : graph.num_relations]  # without that of the context
            weight = weight[0] if len(graph.shape) == 3 else weight  # [1, T, h, w, R] or [T, h, w, R]
            weights[block] = weight.movedim(-1, 0)
        found.append(StageGraphs(name, graph, weights))
    return found


def relation_names(graph: GridGraph) -> list[str]:
    """A name for each relation of the graph, in their order."""
    names: list[str] = []
    for part in graph.ranges:
        if isinstance(part, ShortRange):
            names += STEPS[part.num_axes]
        elif isinstance(part, MediumRange):
            names.append("most alike")
        elif isinstance(part, LongRange):
            names.append("whole clip" if len(graph.shape) == 3 else "whole image")
    return names


def neighbors(graph: GridGraph, patch: tuple[int, ...], number: int = 0) -> list[torch.Tensor]:
    """The sources of each relation to one patch: positions [K, axes], row by row; K is 0 where there is no edge.

    The source of the long range is the virtual node, which stands for all patches: they are listed.

    Args:
        graph: on [h, w] or [T, h, w].
        patch: its position, an index for each axis.
        number: which graph of the batch: the frame, in a network for images.
    """
    places = torch.arange(graph.num_patches).view(graph.shape)
    target = int(places[patch])
    found = []
    for part in graph.ranges:
        if isinstance(part, LongRange):
            sources = [places.flatten()]
        else:
            part = MediumRange(part.index[number : number + 1].cpu()) if isinstance(part, MediumRange) else part
            edges = part.edges(places[None], places.new_empty(0))
            sources = [source[ends == target] for source, ends in edges]
        found += [torch.stack(torch.unravel_index(source, graph.shape), dim=1) for source in sources]
    return found
