"""EurNet's graph around a patch: its short-, medium- and long-range neighbors, and the weight of each relation.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from eurgraph import EurNet
from eurgraph.grid import GridGraph, LongRange, MediumRange, ShortRange, describe
from explain.panels import Chart, MapPanel, Section
from explain.recording import own_network, record
from settings import SettingsError

STEPS = {2: ("above", "below", "left", "right"), 3: ("frame before", "frame after", "above", "below", "left", "right")}


class StageGraphs(NamedTuple):
    """The graph of one stage for one input, and the relation weights of its blocks."""

    name: str
    graph: GridGraph
    """On [h, w] for each frame in image networks, on [T, h, w] in clip networks."""
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

    The source of the long range is the virtual node, which stands for all patches, so all are listed.

    Args:
        graph: on [h, w] or [T, h, w].
        patch: its position, an index for each axis.
        number: which graph of the batch; the frame, in image networks.
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


SHORT, MEDIUM, LONG, CHOSEN = ("#ff8c00", "#00c8ff", "#ffffff", "#ff0050")  # orange, blue, white, red


def eurnet_sections(
    model: nn.Module, x: torch.Tensor, cam: torch.Tensor, stage_number: int | None, patch: tuple[int, ...] | None
) -> list[Section]:
    """The neighbors of one patch in each range, and the weights of its relations in each block of the stage."""
    stages = stage_graphs(model, x)
    stage = _choose_stage(stages, stage_number)
    grid = next(iter(stage.weights.values())).shape[1:]  # [T, h, w]
    frame, row, column = _choose_patch(grid, cam, patch)
    is_clip = len(stage.graph.shape) == 3
    place, number = ((frame, row, column), 0) if is_clip else ((row, column), frame)
    names, found = relation_names(stage.graph), neighbors(stage.graph, place, number)

    def marks(kinds: dict[str, str]) -> torch.Tensor:
        colors = torch.zeros(*grid, 4)
        for name, sources in zip(names, found, strict=True):
            if name in kinds:
                where = sources if is_clip else torch.cat([torch.full((len(sources), 1), number), sources], dim=1)
                colors[tuple(where.T)] = torch.tensor(_rgba(kinds[name], 0.3 if kinds[name] == LONG else 0.75))
        colors[frame, row, column] = torch.tensor(_rgba(CHOSEN, 0.9))
        return colors

    ranges = {"short range": SHORT, "medium range": MEDIUM, "long range": LONG}
    kinds = {name: _range_of(name) for name in names}
    maps = tuple(
        MapPanel(title, marks({name: color for name in names if kinds[name] == title}), "marks")
        for title, color in ranges.items()
        if title in kinds.values()
    )
    where = f"row {row}, column {column}" + (f", frame {frame}" if grid[0] > 1 else "")
    note = (
        f"Patches that send messages to the patch at {where} of {describe(grid)} (T x H x W). The long range is a "
        "virtual node, the mean of all."
    )
    weights = {name.rsplit(".", 1)[1]: weight[:, frame, row, column] for name, weight in stage.weights.items()}
    charts = (Chart("relation weights, by block", partial(_draw_weights, names, weights), width=7.0),)
    legend = ((CHOSEN, "patch"), *((color, title) for title, color in ranges.items() if title in kinds.values()))
    return [Section(f"EurNet graph of {stage.name}", note, maps, charts, legend), _weight_section(stage, names)]


def _weight_section(stage: StageGraphs, names: list[str]) -> Section:
    """The weight of each range at every patch, in the last block of the stage."""
    block, weight = list(stage.weights.items())[-1]
    maps = tuple(MapPanel(f"{name}", values, "signed") for name, values in zip(names, weight, strict=True))
    return Section(f"EurNet relation weights, {block}", "How much each patch listens to each relation.", maps)


def _range_of(name: str) -> str:
    return {"most alike": "medium range", "whole clip": "long range", "whole image": "long range"}.get(
        name, "short range"
    )


def _rgba(color: str, opacity: float) -> tuple[float, ...]:
    return (*(int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)), opacity)


def _choose_stage(stages: list[StageGraphs], number: int | None) -> StageGraphs:
    if number is None:
        with_medium = [stage for stage in stages if _has_medium(stage.graph)]
        return (with_medium or stages)[-1]
    if not 1 <= number <= len(stages):
        raise SettingsError(f"--stage {number}: the network has stages 1 to {len(stages)}")
    return stages[number - 1]


def _has_medium(graph: GridGraph) -> bool:
    return any(isinstance(part, MediumRange) for part in graph.ranges)


def _choose_patch(grid: tuple[int, ...], cam: torch.Tensor, patch: tuple[int, ...] | None) -> tuple[int, int, int]:
    """Frame, row and column of the patch, in patches of the grid [T, h, w]."""
    if patch is None:
        scaled = torch.nn.functional.interpolate(cam[None, None], tuple(grid), mode="trilinear")[0, 0]
        frame, row, column = (int(index) for index in torch.unravel_index(scaled.argmax(), tuple(grid)))
        return frame, row, column
    row, column, frame = (*patch, grid[0] // 2)[:3]
    if not (0 <= frame < grid[0] and 0 <= row < grid[1] and 0 <= column < grid[2]):
        chosen = ",".join(map(str, patch))
        raise SettingsError(
            f"--patch {chosen}: the stage has rows 0 to {grid[1] - 1}, columns 0 to {grid[2] - 1} and frames 0 to "
            f"{grid[0] - 1}"
        )
    return frame, row, column


def _draw_weights(names: list[str], weights: dict[str, torch.Tensor], axes: Any) -> None:
    width = 0.8 / len(weights)
    for number, (block, values) in enumerate(weights.items()):
        places = np.arange(len(names)) + (number - (len(weights) - 1) / 2) * width
        axes.bar(places, values.cpu().numpy(), width=width, label=f"block {block}")
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.legend(fontsize=8, frameon=False)
