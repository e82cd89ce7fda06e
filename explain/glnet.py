"""GLNet's soft clusters: which slot each pixel is read from.

Paper: Zhu et al., Revisiting the Integration of Convolution and Attention for Vision Backbone, NeurIPS 2024,
https://arxiv.org/abs/2411.14429 (its figure of semantic slots)
"""

from typing import NamedTuple

import torch
from torch import nn

from backbones.glnet import GLMixBlock
from explain.recording import modules_of, record


class Clusters(NamedTuple):
    """How one block groups the pixels of one input."""

    name: str
    assignment: torch.Tensor
    """Share of each slot in each pixel, the softmax over the slots that takes slots back to pixels: [S, T, h, w]."""


def clusters(model: nn.Module, x: torch.Tensor) -> list[Clusters]:
    """The clusters in each block with slots of a GLNet, for one image or clip."""
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
