"""HorNet's interactions: the strength of each order of the recursive gated convolution at each position.

Paper: Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022,
https://arxiv.org/abs/2207.14284 (section 3.1)
"""

from typing import NamedTuple

import torch
from torch import nn

from backbones.hornet import GnConv
from eurgraph.grid import describe
from explain.panels import MapPanel, Section
from explain.recording import modules_of, record


class Interactions(NamedTuple):
    """The interactions in the recursive gated convolution of one block for one input."""

    name: str
    strength: torch.Tensor
    """Root mean square, over the channels, of p_1 to p_n, the products after each gate: [n, T, h, w]."""


def interactions(model: nn.Module, x: torch.Tensor) -> list[Interactions]:
    """The interactions in each block of a HorNet, for one image or clip."""
    convs = modules_of(model, GnConv)
    readers = {  # each product is the input of one 1 x 1 convolution
        f"{name} {order}": reader
        for name, conv in convs.items()
        for order, reader in enumerate([*conv.pws, conv.proj_out])
    }
    calls = record(model, x, readers)
    found = []
    for name, conv in convs.items():
        products = [calls[f"{name} {order}"].inputs[0] for order in range(len(conv.dims))]  # each [T, C_k, h, w]
        strength = torch.stack([product.detach().square().mean(1).sqrt() for product in products])
        found.append(Interactions(name, strength))
    return found


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
