"""The global reasoning unit of the image networks: every convolution is preceded by its own batch norm and ReLU.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814
Authors' code: facebookresearch/GloRe publishes the unit for PyTorch (`unit.GloReUnit`). That of the image networks, for
MXNet, is inside the released archives, which were not at hand; this follows copies of symbol_glore.py that have the
authors' copyright line and are public in other people's repositories. `tools/read_mxnet.py` reports what a released
file contradicts.

Done differently here: a new unit starts as the identity, with a last kernel of zeros; the copies do not say how theirs
starts. Dividing by the size of the map is optional, as in the PyTorch unit.
"""

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from glore3d.pre_activation import Norm, PreActConv2d, make_norm
from glore3d.unit import overflows


class PreActGraphConv(nn.Module):
    r"""One graph convolution over a fully connected graph whose edges are learned, on normalized states.

    .. math::
        U &= V + A\,\mathrm{ReLU}(\mathrm{BN}(V)) &&\text{conv1 mixes nodes; its batch norm is over nodes} \\
        Z &= W\,\mathrm{ReLU}(\mathrm{BN}(U))     &&\text{conv2 mixes states; its batch norm is over states}

    Shapes: :math:`V` and :math:`Z` are [B, S, N], for S states of each of N nodes.
    """

    def __init__(self, num_states: int, num_nodes: int, eps: float):
        super().__init__()
        self.conv1 = _preact_conv1d(num_nodes, eps)
        self.conv2 = _preact_conv1d(num_states, eps)

    @property
    def adjacency(self) -> torch.Tensor:
        """The paper's :math:`A_g` [N, N], with a row for each receiving node and a column for each sending node."""
        return -self.conv1.conv.weight[:, :, 0]

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.conv2(v + self.conv1(v.mT).mT)


def _preact_conv1d(num_channels: int, eps: float) -> nn.Sequential:
    bn = nn.BatchNorm1d(num_channels, eps=eps, momentum=make_norm(1).momentum)
    conv = nn.Conv1d(num_channels, num_channels, kernel_size=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(OrderedDict(bn=bn, relu=nn.ReLU(), conv=conv))


class PreActGloReUnit(nn.Module):
    r"""Reasons between regions of an image's map: projects to a graph, reasons there and projects back.

    With :math:`c(\cdot)` for batch norm, ReLU and a convolution without bias,

    .. math::
        B &= c_\text{proj}(X)          &&\text{how much each of L positions belongs to each node} \\
        V &= c_\text{state}(X)B^\top   &&\text{the states, summed into the nodes} \\
        Z &= \mathrm{gcn}(V)           &&\text{reasoning on the fully connected graph} \\
        Y &= X + c_\text{extend}(Z B)  &&\text{back to the map, as a residual}

    Without `normalize`, :math:`V` grows with L. Batch norms compensate for that in training only: a trained unit
    expects maps of about the size that it was trained on. Under autocast to float16, whose range the sum over L
    positions exceeds, only the two projections are in float16. A unit whose own weights are in half precision should be
    in bfloat16.

    Args:
        num_in: channels C of the map.
        num_mid: number of nodes N; each has S = 2N states.
        normalize: divide :math:`V` by L, which makes the unit independent of the size of the map.
        eps: of the batch norms.

    Shapes: a map [B, C, H, W] of any size to a map of the same shape, and of the same memory layout.

    Raises:
        ValueError: the map has the wrong rank or number of channels.
    """

    dim = 2

    def __init__(self, num_in: int, num_mid: int, normalize: bool = False, eps: float = 1e-4):
        super().__init__()
        num_nodes, num_states = num_mid, 2 * num_mid
        norm = partial(make_norm, eps=eps)
        self.num_in, self.normalize = num_in, normalize
        self.conv_state = PreActConv2d(num_in, num_states, norm=norm)
        self.conv_proj = PreActConv2d(num_in, num_nodes, norm=norm)
        self.gcn = PreActGraphConv(num_states, num_nodes, eps)
        self.conv_extend = self.make_extend(num_states, norm)
        for module in self.conv_extend.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.weight)

    def make_extend(self, num_states: int, norm: Norm) -> nn.Module:
        """The step from states back to channels: [B, S, H, W] -> [B, C, H, W]."""
        return PreActConv2d(num_states, self.num_in, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4 or x.shape[1] != self.num_in:
            raise ValueError(
                f"this PreActGloReUnit takes maps [B, C, H, W] with C = {self.num_in} channels, not {list(x.shape)}; "
                "build it with the map's own num_in"
            )
        states = self.conv_state(x).flatten(2)  # [B, C, H, W] -> [B, S, L]
        nodes = self.conv_proj(x).flatten(2)  # [B, C, H, W] -> [B, N, L]
        if overflows(states, self.gcn.conv1.conv.weight):
            with torch.autocast(x.device.type, enabled=False):
                return x + self._reason(states.float(), nodes.float(), x.shape[2:]).to(x.dtype)
        return x + self._reason(states, nodes, x.shape[2:])

    def _reason(self, states: torch.Tensor, nodes: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """From states [B, S, L] and nodes [B, N, L] to the residual [B, C, *size]."""
        v = states @ nodes.mT  # [B, S, L] x [B, L, N] -> [B, S, N]
        if self.normalize:
            v = v / nodes.shape[2]
        z = self.gcn(v)  # [B, S, N]
        # A product is stored row by row, so it is computed with the channels outermost or innermost, as in the map.
        # Then nothing is copied (see `GloReUnit.forward`).
        y = (nodes.mT @ z.mT).mT if nodes.stride(1) == 1 else z @ nodes  # -> [B, S, L]
        return self.conv_extend(y.unflatten(2, size))

    def extra_repr(self) -> str:
        return f"num_in={self.num_in}, normalize={self.normalize}"
