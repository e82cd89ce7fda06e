"""HorNet's interactions: how strong each order of the recursive gated convolution is at each position.

Paper: Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022,
https://arxiv.org/abs/2207.14284 (section 3.1)
"""

from typing import NamedTuple

import torch
from torch import nn

from backbones.hornet import GnConv
from explain.recording import modules_of, record


class Interactions(NamedTuple):
    """What the recursive gated convolution of one block made of one input."""

    name: str
    strength: torch.Tensor
    """Root mean square, over the channels, of p_1 to p_n, the products after each gate: [n, T, h, w]."""


def interactions(model: nn.Module, x: torch.Tensor) -> list[Interactions]:
    """The interactions in each block of a HorNet, for one image or clip."""
    convs = modules_of(model, GnConv)
    readers = {  # each product is what one 1 x 1 convolution reads
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
