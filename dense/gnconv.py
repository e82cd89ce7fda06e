"""Recursive gated convolution as a layer of necks and heads, which HorFPN uses in place of 3 x 3 convolutions.

Paper: Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022,
https://arxiv.org/abs/2207.14284 (section 3.3)
Authors' code: https://github.com/raoyongming/HorNet (object_detection/mmdet_custom/, semantic_segmentation/)

Done differently here: the spatial operator is an argument, so that the layer does not depend on a backbone. Parameter
names are the authors'.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from dense.layers import build_norm


class GNConvModule(nn.Module):
    r"""Changes the number of channels by recursive gated convolution, then norm and ReLU if requested.

    .. math::
        [p_0, q_0, \dots, q_{n-1}] = \phi_{in}(x), \qquad p_1 = p_0 \odot f(q)_0, \qquad
        p_{k+1} = g_k(p_k) \odot f(q)_k, \qquad y = \phi_{out}(p_n)

    with linear :math:`\phi` and :math:`g`, one spatial operator f over all q at once, and widths that double up to
    `num_out`. HorNet's blocks divide f by 3; this layer does not.

    Args:
        num_in, num_out: channels; 2^(order - 1) divides `num_out`.
        spatial: makes f for a number of channels: [B, C, H, W] -> the same shape.
        order: n.
        norm: one of `dense.layers.NORMS`, or None.
        activation: ReLU at the end.

    Shapes: [B, num_in, H, W] -> [B, num_out, H, W].
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        spatial: Callable[[int], nn.Module],
        order: int = 2,
        norm: str | None = None,
        activation: bool = False,
    ):
        super().__init__()
        if num_out % 2 ** (order - 1):
            raise ValueError(f"gated convolution of order {order} halves its channels {order - 1} times; not {num_out}")
        self.dims = [num_out // 2**k for k in reversed(range(order))]
        self.proj_in = nn.Conv2d(num_in, self.dims[0] + sum(self.dims), kernel_size=1)
        self.dwconv = spatial(sum(self.dims))
        self.pws = nn.ModuleList(nn.Conv2d(a, b, kernel_size=1) for a, b in pairwise(self.dims))
        self.proj_out = nn.Conv2d(num_out, num_out, kernel_size=1)
        self.norm_entry = None
        if norm is not None:
            self.norm_entry, module = build_norm(norm, num_out)
            self.add_module(self.norm_entry, module)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p, q = self.proj_in(x).split((self.dims[0], sum(self.dims)), dim=1)
        q, *others = self.dwconv(q).split(self.dims, dim=1)
        p = p * q
        for g, q in zip(self.pws, others, strict=True):
            p = g(p) * q
        x = self.proj_out(p)
        if self.norm_entry is not None:
            x = self.get_submodule(self.norm_entry)(x)
        return F.relu(x, inplace=True) if self.activation else x
