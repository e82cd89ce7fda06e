"""EAT's class attention: which tokens the classifier attends to.

Paper: Zhang et al., Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021,
https://arxiv.org/abs/2105.15089
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from backbones import EAT
from eurgraph.grid import describe
from explain.panels import Chart, MapPanel, Section
from explain.recording import own_network, record


class ClassAttention(NamedTuple):
    """How much one block's query attends to each token of one input."""

    name: str
    weights: torch.Tensor
    """The softmax of each head at the tokens' positions: [heads, T, h, w]; a head's weights in a frame sum to 1, minus
    the weight of a class token among the tokens."""


@torch.no_grad()
def class_attention(model: nn.Module, x: torch.Tensor) -> list[ClassAttention]:
    """The class attention in each block that has one, for one image or clip; if distilled, also the teacher's.

    A network whose readout is the mean of the tokens has none. Raises ValueError if its tokens are not on a grid.
    """
    network: EAT = own_network(model)
    if network.readout == "mean":
        return []
    if network.readout == "class_token":
        layers = {f"blocks.{number}": block.attn for number, block in enumerate(network.blocks)}
    else:
        layers = {f"blocks_cls.{number}": block.attn for number, block in enumerate(network.blocks_cls)}
    calls = record(model, x, layers)
    found = []
    for name, layer in layers.items():
        weights = layer.weights(*calls[name].inputs)  # [T, heads, Q, N]
        for query, of in enumerate(("", " (teacher's query)")[: 1 + network.distilled]):
            found.append(ClassAttention(name + of, network.to_map(weights[:, :, query].mT).transpose(0, 1)))
    return found


def eat_sections(model: nn.Module, x: torch.Tensor) -> list[Section]:
    """The class attention of each head and their mean, and the curve."""
    network: EAT = own_network(model)
    try:
        found = class_attention(model, x)
    except ValueError:  # tokens that are pieces of rows have no position on a grid
        found = []
    found = found[-2:] if network.readout == "class_token" else found  # if there are many blocks, the last ones
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
    """The curve through the pixels or patches, or only through those of the first tokens, each in its own shade."""
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
