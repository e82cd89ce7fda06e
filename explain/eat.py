"""EAT's class attention: which tokens the classifier reads from.

Paper: Zhang et al., Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021,
https://arxiv.org/abs/2105.15089
"""

from typing import NamedTuple

import torch
from torch import nn

from backbones import EAT
from explain.recording import own_network, record


class ClassAttention(NamedTuple):
    """How much one block's query attends to each token of one input."""

    name: str
    weights: torch.Tensor
    """The softmax of each head, where the tokens are: [heads, T, h, w]; a head's weights in a frame sum to 1, but for
    what a class token among the tokens gets."""


@torch.no_grad()
def class_attention(model: nn.Module, x: torch.Tensor) -> list[ClassAttention]:
    """The class attention in each block that has one, for one image or clip; of a distilled network also the teacher's.

    A network whose readout is the mean of the tokens has none. Raises ValueError if its tokens lie on no grid.
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
