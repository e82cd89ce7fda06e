"""What is shown of a network: Grad-CAM, and for each family what it computes on its way."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from backbones import EAT, GLNet, HorNet
from eurgraph import EurNet
from eurgraph.grid import GridGraph, MediumRange, describe
from explain.eat import class_attention
from explain.eurnet import StageGraphs, neighbors, relation_names, stage_graphs
from explain.glnet import clusters
from explain.glore import unit_graphs
from explain.grad_cam import GradCam
from explain.hornet import interactions
from explain.panels import Chart, MapPanel, Section, representatives
from explain.recording import own_network
from glore3d import GloReUnit
from settings import SettingsError

SHORT, MEDIUM, LONG, CHOSEN = ("#ff8c00", "#00c8ff", "#ffffff", "#ff0050")  # orange, blue, white, red


class Options(NamedTuple):
    """What is shown of a network that has more than fits on a sheet."""

    num_maps: int = 4
    """Maps of each unit or block."""
    stage: int | None = None
    """EurNet: the stage of the patch, from 1. None: the last one with a medium range."""
    patch: tuple[int, ...] | None = None
    """EurNet: row, column and, in a clip, frame of the patch, in patches of the stage. None: where Grad-CAM is largest."""


def cam_section(cam: GradCam, class_name: str, is_predicted: bool) -> Section:
    kind = "predicted class" if is_predicted else "chosen class"
    note = f"Where the {kind} is seen. Layer {cam.layer}, {describe(cam.values.shape)} positions (T x H x W)."
    return Section(f"Grad-CAM for {class_name}", note, (MapPanel(f"Grad-CAM: {class_name}", cam.values),))


def own_sections(model: nn.Module, x: torch.Tensor, cam: GradCam, options: Options) -> list[Section]:
    """The sections of a network's own family; none for a network that has nothing of the kind.

    Raises SettingsError if the options name a patch or a stage that does not exist, or the network has no patches.
    """
    network = own_network(model)
    if isinstance(network, EurNet):
        return eurnet_sections(model, x, cam, options)
    if options.patch is not None or options.stage is not None:
        raise SettingsError("--patch and --stage show the neighbors of a patch; only EurNet has such a graph")
    if isinstance(network, EAT):
        return eat_sections(model, x)
    if isinstance(network, GLNet):
        return glnet_sections(model, x, options.num_maps)
    if isinstance(network, HorNet):
        return hornet_sections(model, x)
    if any(isinstance(module, GloReUnit) for module in network.modules()):
        return glore_sections(model, x, options.num_maps)
    return []


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
    """Bars: for each shown node the two nodes that it receives most from."""
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


def hornet_sections(model: nn.Module, x: torch.Tensor) -> list[Section]:
    """Strength of the interactions of each order, in the last block of each stage."""
    last = {found.name.split(".")[1]: found for found in interactions(model, x)}  # stages.<number>.<block>.gnconv
    sections = []
    for found in last.values():
        maps = tuple(MapPanel(f"after gate {order}", p) for order, p in enumerate(found.strength, start=1))
        note = (
            f"Strength of the products p_1 to p_{len(maps)} of the recursive gated convolution, whose order grows "
            f"with each gate; {describe(found.strength.shape[1:])} positions (T x H x W)."
        )
        sections.append(Section(f"HorNet {found.name}", note, maps))
    return sections


def glnet_sections(model: nn.Module, x: torch.Tensor, num_maps: int) -> list[Section]:
    """All clusters by color, some of them by themselves, and each slot's own map, in the last such block of each stage."""
    last = {found.name.split(".")[1]: found for found in clusters(model, x)}  # stages.<number>.blocks.<block>
    sections = []
    for found in last.values():
        assignment = found.assignment  # [S, T, h, w]
        slots = representatives(assignment, num_maps)
        maps = (
            MapPanel("clusters", _mixture_of_colors(assignment), "marks"),
            *(MapPanel(f"slot {slot}", _stretched(assignment[slot])) for slot in slots),
        )
        middle = assignment.shape[1] // 2
        note = (
            f"Which of {len(assignment)} slots each position is read from; a color for each slot, then {len(slots)} "
            f"slots that differ most. {describe(assignment.shape[1:])} positions (T x H x W)."
        )
        chart = Chart(f"all slots, frame {middle}", partial(_draw_mosaic, assignment[:, middle], slots), width=3.2)
        sections.append(Section(f"GLNet {found.name}", note, maps, (chart,)))
    return sections


def _stretched(values: torch.Tensor) -> torch.Tensor:
    """Values from their smallest to their largest, as 0 to 1: shares of 64 slots may differ by little."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-12)


def _mixture_of_colors(assignment: torch.Tensor) -> torch.Tensor:
    """Each position's slots as one color [T, h, w, 4], with shares stretched as they differ from the slot's mean."""
    num_slots = len(assignment)
    hue = torch.arange(num_slots, device=assignment.device) * 0.618034 % 1  # golden ratio: neighbors differ in hue
    angles = 2 * torch.pi * (hue[:, None] + torch.tensor([0, 1 / 3, 2 / 3], device=hue.device))
    palette = 0.5 + 0.5 * torch.cos(angles)  # [S, 3]
    excess = assignment / assignment.mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
    share = (8 * excess.log()).softmax(0)
    color = torch.einsum("sthw,sc->thwc", share, palette)
    return torch.cat([color, torch.full_like(color[..., :1], 0.7)], dim=3)


def _draw_mosaic(maps: torch.Tensor, chosen: list[int], axes: Any) -> None:
    """Maps [S, h, w] in a square of S tiles, those that are shown large in a frame."""
    side = int(len(maps) ** 0.5)
    tiles = torch.stack([_stretched(values) for values in maps]).cpu()
    _, height, width = tiles.shape
    picture = tiles.unflatten(0, (side, side)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)  # [side * h, side * w]
    axes.imshow(picture, cmap="inferno", interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    for edge in range(1, side):
        axes.axhline(edge * height - 0.5, color="white", linewidth=0.6)
        axes.axvline(edge * width - 0.5, color="white", linewidth=0.6)
    for slot in chosen:
        row, column = divmod(slot, side)
        box = ((column * width - 0.5, row * height - 0.5), width, height)
        axes.add_patch(_rectangle(*box))


def _rectangle(corner: tuple[float, float], width: float, height: float):
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor="#00c8ff", linewidth=1.6)


def eat_sections(model: nn.Module, x: torch.Tensor) -> list[Section]:
    """The class attention of each head and their mean, and the curve."""
    network: EAT = own_network(model)
    try:
        found = class_attention(model, x)
    except ValueError:  # tokens that are pieces of rows have no place on a grid
        found = []
    found = found[-2:] if network.readout == "class_token" else found  # of many blocks, the last ones
    sections = []
    for block in found:
        heads = tuple(MapPanel(f"head {number}", head) for number, head in enumerate(block.weights))
        maps = (MapPanel("mean of the heads", block.weights.mean(0)), *heads)
        note = f"How much the class query attends to each token; {describe(block.weights.shape[2:])} tokens."
        sections.append(Section(f"EAT class attention, {block.name}", note, maps))
    of = "pixels" if network.curve_level == "pixel" else "patches"
    note = f"The order in which the network reads {of}, from dark to light."
    curve = partial(_draw_curve, network)
    charts = [Chart(f"order of the {of}", curve)]
    if network.curve_level == "pixel":
        charts.append(Chart("the first tokens", partial(_draw_curve, network, num_tokens=4)))
    return [*sections, Section(f"EAT's curve: {network.curve}", note, charts=tuple(charts))]


def _draw_curve(network: EAT, axes: Any, num_tokens: int | None = None) -> None:
    """The curve through the pixels or patches, or through those of the first tokens alone, each in its own shade."""
    from matplotlib.collections import LineCollection

    order = network.loc_encoder.index_flat.flatten().cpu().numpy()
    side = int(len(order) ** 0.5)
    order = order[: None if num_tokens is None else num_tokens * network.patch_size**2]
    points = np.stack([order % side, order // side], axis=1)  # x, y
    steps = np.stack([points[:-1], points[1:]], axis=1)  # [L - 1, 2, 2]
    lines = LineCollection(steps, cmap="viridis", linewidths=0.4 if num_tokens is None else 1.0)
    lines.set_array(np.arange(len(steps)))
    axes.add_collection(lines)
    axes.set(xlim=(-1, points[:, 0].max() + 1), ylim=(points[:, 1].max() + 1, -1), xlabel="column", ylabel="row")
    axes.set_aspect("equal")


def eurnet_sections(model: nn.Module, x: torch.Tensor, cam: GradCam, options: Options) -> list[Section]:
    """The neighbors of one patch in each range, and the weights of its relations in each block of the stage."""
    stages = stage_graphs(model, x)
    stage = _choose_stage(stages, options.stage)
    grid = next(iter(stage.weights.values())).shape[1:]  # [T, h, w]
    frame, row, column = _choose_patch(grid, cam.values, options.patch)
    is_clip = len(stage.graph.shape) == 3
    patch, number = ((frame, row, column), 0) if is_clip else ((row, column), frame)
    names, found = relation_names(stage.graph), neighbors(stage.graph, patch, number)

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
