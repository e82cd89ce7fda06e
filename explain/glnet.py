"""GLNet's soft clusters: which slot each pixel is read from.

Paper: Zhu et al., Revisiting the Integration of Convolution and Attention for Vision Backbone, NeurIPS 2024,
https://arxiv.org/abs/2411.14429 (its figure of semantic slots)
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from backbones.glnet_blocks import GLMixBlock
from eurgraph.grid import describe
from explain.panels import Chart, MapPanel, Section, representatives
from explain.recording import modules_of, record


class Clusters(NamedTuple):
    """How one block groups the pixels of one input."""

    name: str
    assignment: torch.Tensor
    """Weight of each slot in each pixel, the softmax over the slots that maps slots back to pixels: [S, T, h, w]."""


def clusters(model: nn.Module, x: torch.Tensor) -> list[Clusters]:
    """The clusters in each block of a GLNet with slots, for one image or clip."""
    blocks = modules_of(model, GLMixBlock)
    parts = {f"{name} {part}": where for name, block in blocks.items() for part, where in _parts(block).items()}
    calls = record(model, x, parts)
    found = []
    for name, block in blocks.items():
        slots = block.initial_slots(calls[f"{name} whole"].inputs[0])  # [T or 1, S, C]
        pixels = calls[f"{name} norm1"].output  # [T, C, h, w]
        with torch.no_grad():
            logits = block.slot_logits(pixels.flatten(2).mT, slots)  # [T, S, h * w]
        assignment = logits.softmax(1).unflatten(2, pixels.shape[2:])
        found.append(Clusters(name, assignment.transpose(0, 1).detach()))
    return found


def _parts(block: GLMixBlock) -> dict[str, nn.Module]:
    return {"whole": block, "norm1": block.norm1}


def glnet_sections(model: nn.Module, x: torch.Tensor, num_maps: int) -> list[Section]:
    """All clusters by color, some individually, and the map of each slot, in the last such block of each stage."""
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
            f"Which of {len(assignment)} slots each position is read from: a color for each, and {len(slots)} that "
            f"differ most, from their smallest share to their largest; {describe(assignment.shape[1:])} positions "
            "(T x H x W)."
        )
        chart = Chart(f"all slots, frame {middle}", partial(_draw_mosaic, assignment[:, middle], slots), width=3.2)
        sections.append(Section(f"GLNet {found.name}", note, maps, (chart,)))
    return sections


def _stretched(values: torch.Tensor) -> torch.Tensor:
    """Values stretched to 0 to 1: weights of 64 slots may differ only a little."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-12)


def _mixture_of_colors(assignment: torch.Tensor) -> torch.Tensor:
    """Each position's slots as one color [T, h, w, 4], by how much a slot's weight exceeds its mean."""
    num_slots = len(assignment)
    hue = torch.arange(num_slots, device=assignment.device) * 0.618034 % 1  # golden ratio: neighbors differ in hue
    angles = 2 * torch.pi * (hue[:, None] + torch.tensor([0, 1 / 3, 2 / 3], device=hue.device))
    palette = 0.5 + 0.5 * torch.cos(angles)  # [S, 3]
    excess = (assignment / assignment.mean((1, 2, 3), keepdim=True).clamp(min=1e-12)).clamp(min=1e-12).log()
    share = (3 * excess / excess.std().clamp(min=1e-12)).softmax(0)
    color = torch.einsum("sthw,sc->thwc", share, palette)
    return torch.cat([color, torch.full_like(color[..., :1], 0.7)], dim=3)


def _draw_mosaic(maps: torch.Tensor, chosen: list[int], axes: Any) -> None:
    """Maps [S, h, w] in a square of S tiles, those that are shown large in a frame."""
    side = int(len(maps) ** 0.5)
    tiles = torch.stack([_stretched(values) for values in maps]).cpu()
    _, height, width = tiles.shape
    picture = tiles.unflatten(0, (side, side)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)  # [side * h, side * w]
    axes.imshow(picture.numpy(), cmap="inferno", interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(height / width)
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
