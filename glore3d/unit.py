"""The global reasoning unit (GloRe) for sequences, images and clips.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814
Authors' code: https://github.com/facebookresearch/GloRe (network/global_reasoning_unit.py)

Done differently here: one class covers one, two and three dimensions; no map is copied in either memory layout; the
unit initializes itself to the identity, whereas the authors leave that to the surrounding network. Parameter names are
theirs.
"""

import torch
from torch import nn

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAP = {1: "[B, C, L]", 2: "[B, C, H, W]", 3: "[B, C, T, H, W]"}


def overflows(states: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether sums of `states` may overflow the float16 of autocast, although the weights have the range of float32."""
    return states.dtype == torch.float16 and weight.dtype == torch.float32


class GraphConv(nn.Module):
    r"""One graph convolution over a fully connected graph whose edges are learned.

    The paper's :math:`Z = ((I - A_g) V) W_g`. :math:`-A_g` is the kernel (and bias) of `conv1`, which mixes nodes, and
    :math:`W_g` that of `conv2`, which mixes states. As in the authors' code, there is a ReLU between the two.

    Shapes: :math:`V` and :math:`Z` are [B, S, N], for S states of each of N nodes.
    """

    def __init__(self, num_states: int, num_nodes: int):
        super().__init__()
        self.conv1 = nn.Conv1d(num_nodes, num_nodes, kernel_size=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv1d(num_states, num_states, kernel_size=1, bias=False)

    @property
    def adjacency(self) -> torch.Tensor:
        """:math:`A_g` [N, N], with a row for each receiving node and a column for each sending node."""
        return -self.conv1.weight[:, :, 0]

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.relu(self.conv1(v.mT).mT + v))


class GloReUnit(nn.Module):
    r"""Reasons between regions of a map, however far apart: projects to a graph, reasons there and projects back.

    For a map :math:`X` of L positions, section 3 of the paper reads, in the symbols of the code below,

    .. math::
        B &= \theta(X)                      &&\text{conv\_proj: how much each position belongs to each node} \\
        V &= B\,\phi(X)^\top                &&\text{conv\_state: the states, summed into the nodes} \\
        Z &= ((I - A_g) V) W_g              &&\text{gcn: reasoning on the fully connected graph} \\
        Y &= X + \mathrm{BN}(W_e\,(B^\top Z))  &&\text{conv\_extend, blocker: back to the map, as a residual}

    The same :math:`B` projects there and back, and it is not normalized over the nodes. `blocker`, the last batch norm,
    starts with zero weight, so a new unit is the identity and can be inserted into a trained network.

    Without `normalize`, :math:`V` grows with L: a trained unit then expects maps of about the size that it was trained
    on. Under autocast to float16, whose range the sum over L positions exceeds, only the two projections are in
    float16. A unit whose own weights are in half precision should be in bfloat16.

    Args:
        num_in: channels C of the map.
        num_mid: number of nodes N; each has S = 2N states.
        dim: 1, 2 or 3, for maps [B, C, L], [B, C, H, W] or [B, C, T, H, W].
        normalize: divide :math:`V` by L, which makes the unit independent of the size of the map.

    Shapes: a map [B, C, ...] of any size to a map of the same shape, and of the same memory layout.

    Raises:
        ValueError: `dim` is not 1, 2 or 3, `num_in` or `num_mid` is below 1, or the map has the wrong rank or number of
            channels.
    """

    def __init__(self, num_in: int, num_mid: int, dim: int = 3, normalize: bool = False):
        super().__init__()
        if dim not in _CONV:
            raise ValueError(f"GloReUnit is for maps of 1, 2 or 3 dimensions, not dim={dim!r}")
        for name, value in (("num_in", num_in), ("num_mid", num_mid)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        num_nodes, num_states = num_mid, 2 * num_mid
        self.num_in, self.dim, self.normalize = num_in, dim, normalize
        self.conv_state = _CONV[dim](num_in, num_states, kernel_size=1)
        self.conv_proj = _CONV[dim](num_in, num_nodes, kernel_size=1)
        self.gcn = GraphConv(num_states, num_nodes)
        self.conv_extend = _CONV[dim](num_states, num_in, kernel_size=1, bias=False)
        self.blocker = _BATCH_NORM[dim](num_in, eps=1e-4)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for conv in (self.conv_state, self.conv_proj, self.gcn.conv1, self.gcn.conv2, self.conv_extend):
            nn.init.xavier_uniform_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.blocker.reset_parameters()
        nn.init.zeros_(self.blocker.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != self.dim + 2 or x.shape[1] != self.num_in:
            raise ValueError(
                f"this GloReUnit takes maps {_MAP[self.dim]} with C = {self.num_in} channels, not {list(x.shape)}; "
                "build it with the map's own num_in and dim"
            )
        states = self.conv_state(x).flatten(2)  # [B, C, *size] -> [B, S, L]
        nodes = self.conv_proj(x).flatten(2)  # [B, C, *size] -> [B, N, L]
        if overflows(states, self.conv_extend.weight):
            with torch.autocast(x.device.type, enabled=False):
                return x + self._reason(states.float(), nodes.float(), x.shape[2:]).to(x.dtype)
        return x + self._reason(states, nodes, x.shape[2:])

    def _reason(self, states: torch.Tensor, nodes: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """From states [B, S, L] and nodes [B, N, L] to the residual [B, C, *size]."""
        v = states @ nodes.mT  # [B, S, L] x [B, L, N] -> [B, S, N]
        if self.normalize:
            v = v / nodes.shape[2]
        z = self.gcn(v)  # [B, S, N]
        # Flattening is a view in both layouts. A product is stored row by row, so it is computed with the channels
        # outermost or innermost, as in the map; otherwise conv_extend would copy it first.
        if nodes.stride(1) == 1:
            y = (nodes.mT @ z.mT).mT  # ([B, L, N] x [B, N, S]).mT -> [B, S, L], channels last
        else:
            y = z @ nodes  # [B, S, N] x [B, N, L] -> [B, S, L]
        return self.blocker(self.conv_extend(y.unflatten(2, size)))

    def extra_repr(self) -> str:
        return f"num_in={self.num_in}, dim={self.dim}, normalize={self.normalize}"
