"""The blocks of GLNet: a convolution beside attention between soft groups of pixels, and attention between positions.

Paper: Zhu et al., Revisiting the Integration of Convolution and Attention for Vision Backbone, NeurIPS 2024,
https://arxiv.org/abs/2411.14429
Authors' code: https://github.com/rayleizhu/GLMix (models/glnet.py)

Done differently here: maps are channels-last in memory and viewed as [B, C, H, W]; for the grouping, the similarities
are normalized instead of the pixels; the x + conv(x) of the MLP is one convolution; in inference on a CPU the MLP takes
a few samples at a time, and branches are added in place. Parameter names are the authors'.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from backbones.depthwise import depthwise_conv2d_gelu, is_inference
from backbones.hooks import parts_have_hooks
from backbones.layer_norm import LayerNorm2d
from backbones.pointwise import PointwiseConv
from backbones.stochastic_depth import stochastic_depth

NUM_SLOTS = 64
HEAD_DIM = 32
CACHED_VALUES = 2**20
"""Values between an MLP's layers that inference on a CPU computes at once: few enough to stay in the cache."""


class MultiheadAttention(nn.Module):
    """Self-attention with heads of 32 channels: [B, N, C] -> [B, N, C]. Parameter names are those of torch's."""

    def __init__(self, dim: int):
        super().__init__()
        self.num_heads = dim // HEAD_DIM
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(x, "b n (qkv head d) -> qkv b head n d", qkv=3, d=HEAD_DIM)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(rearrange(y, "b head n d -> b n (head d)"))


class ResidualDepthwiseConv(nn.Conv2d):
    """x + conv(x) with a 3 x 3 kernel for each channel, as one convolution: 1 is added to the kernel's centre."""

    def __init__(self, dim: int):
        super().__init__(dim, dim, kernel_size=3, padding=1, groups=dim)

    def residual_weight(self) -> torch.Tensor:
        return self.weight + F.pad(self.weight.new_ones(1, 1, 1, 1), (1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.residual_weight(), self.bias, padding=self.padding, groups=self.groups)


class ResidualDepthwiseGELU(ResidualDepthwiseConv):
    """The GELU of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return depthwise_conv2d_gelu(x, self.residual_weight(), self.bias)


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor, small at first; `shape` is that of the factors."""

    def __init__(self, shape: tuple[int, ...], value: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gamma * x


def _layer_scale(shape: tuple[int, ...], value: float | None) -> nn.Module:
    return nn.Identity() if value is None else LayerScale(shape, value)


def _conv_mlp(dim: int, ratio: int, depthwise: bool) -> nn.Sequential:
    """MLP at every position of a map, with or without a depthwise convolution before its nonlinearity."""
    return nn.Sequential(
        PointwiseConv(dim, ratio * dim),
        ResidualDepthwiseGELU(ratio * dim) if depthwise else nn.GELU(),
        nn.Identity(),  # keeps the authors' numbering of the layers after it
        PointwiseConv(ratio * dim, dim),
    )


def _add_perceptron(block: "GLMixBlock | AttentionBlock", x: torch.Tensor) -> torch.Tensor:
    """Both blocks' last branch, [B, C, H, W] -> same. Inference on a CPU adds it to `x`, some samples at a time."""
    if block.training or x.device.type != "cpu" or not _may_overwrite(block):
        return x + block.drop_path(block.ls2(block.mlp(block.norm2(x))))
    num_values = x.shape[2] * x.shape[3] * block.mlp[0].out_channels  # of the widest map of a sample
    for part in x.chunk(max(1, math.ceil(len(x) * num_values / CACHED_VALUES))):
        part += block.ls2(block.mlp(block.norm2(part)))
    return x


def _pos_conv(dim: int) -> nn.Conv2d:
    """Encodes positions through the zeros around the map."""
    return nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)


def _add(block: "GLMixBlock | AttentionBlock", x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y; in inference in place of x, which must not be the block's input."""
    return x.add_(y) if _may_overwrite(block) and x.dtype == y.dtype else x + y


def _may_overwrite(block: "GLMixBlock | AttentionBlock") -> bool:
    """Whether neither a gradient nor a hook will need the maps between the block's parts."""
    return is_inference() and not parts_have_hooks(block)


def to_tokens(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, H * W, C], a view of a channels-last map."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _to_map(tokens: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """[B, H * W, C] -> [B, C, H, W], a channels-last view."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


class GLMixBlock(nn.Module):
    r"""Residual block of a local branch (convolution) beside a global one (attention between 64 slots), then an MLP.

    With N normalized pixels :math:`X`, S initial slots :math:`Q`, and cosine similarities times a learned scale
    :math:`\tau` as the logits :math:`A` [S, N], the global branch groups, mixes and ungroups:

    .. math::
        A = \tau \cos(Q, X), \qquad
        Z = \mathrm{MHSA}(\mathrm{softmax}_N(A)\, X), \qquad
        Y = \mathrm{softmax}_S(A)^\top Z

    Args:
        dim: channels C, a multiple of 32.
        drop_path: probability that a branch is skipped in training.
        mlp_ratio: hidden channels of the MLP, in C.
        overlapping: the block of the paper's own layout, with position convolution and a convolution in the MLP, rather
            than of the Swin-like layout without them.
        learned_slots: :math:`Q` is a parameter, rather than averages of the block's input over an 8 x 8 grid.
        layer_scale: initial factor of the branches; None: no factor.

    Shapes: [B, C, H, W] -> [B, C, H, W].
    """

    def __init__(
        self,
        dim: int,
        drop_path: float = 0.0,
        mlp_ratio: int = 3,
        overlapping: bool = True,
        learned_slots: bool = False,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.slot_scale = nn.Parameter(torch.tensor(dim**-0.5))
        if learned_slots:
            self.init_slots = nn.Parameter(0.02 * torch.randn(1, NUM_SLOTS, dim))
        self.learned_slots = learned_slots
        self.pos_conv = _pos_conv(dim) if overlapping else None
        self.norm1 = LayerNorm2d(dim)
        self.relation_mha = MultiheadAttention(dim)
        self.feature_conv = nn.Sequential(
            PointwiseConv(dim, dim),
            nn.Conv2d(dim, dim, kernel_size=5, padding=2, groups=dim),
            PointwiseConv(dim, dim),
        )
        self.norm2 = LayerNorm2d(dim)
        self.mlp = _conv_mlp(dim, mlp_ratio, depthwise=overlapping)
        self.ls1 = _layer_scale((1, dim, 1, 1), layer_scale)
        self.ls2 = _layer_scale((1, dim, 1, 1), layer_scale)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slots = self.initial_slots(x)
        if self.pos_conv is not None:
            x = x + self.pos_conv(x)
        y = self.norm1(x)
        y = self.drop_path(self.ls1(_add(self, self.mix_globally(y, slots), self.feature_conv(y))))
        return _add_perceptron(self, x + y if self.pos_conv is None else _add(self, x, y))

    def initial_slots(self, x: torch.Tensor) -> torch.Tensor:
        """The initial slots [B or 1, S, C] for the block's input [B, C, H, W]."""
        return self.init_slots if self.learned_slots else to_tokens(F.adaptive_avg_pool2d(x, math.isqrt(NUM_SLOTS)))

    def slot_logits(self, pixels: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """The similarities of pixels [B, N, C] to slots [B or 1, S, C]: [B, S, N]."""
        length = torch.linalg.vector_norm(pixels, dim=2).clamp(min=1e-12)  # [B, N]
        logits = F.normalize(slots, dim=2) @ pixels.mT  # [B, S, C] x [B, C, N] -> [B, S, N]
        return logits * (self.slot_scale / length)[:, None]

    def mix_globally(self, x: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """The global branch on a map [B, C, H, W], from initial slots [B or 1, S, C]."""
        pixels = to_tokens(x)  # [B, C, H, W] -> [B, N, C]
        logits = self.slot_logits(pixels, slots)
        slots = self.relation_mha(logits.softmax(dim=2) @ pixels)  # [B, S, N] x [B, N, C] -> [B, S, C]
        y = logits.softmax(dim=1).mT @ slots  # [B, N, S] x [B, S, C] -> [B, N, C]
        return _to_map(y, x.shape[2:])


class AttentionBlock(nn.Module):
    """Residual block of attention between all positions, then an MLP with a convolution: [B, C, H, W] -> same."""

    def __init__(self, dim: int, drop_path: float = 0.0, mlp_ratio: int = 3, layer_scale: float | None = None):
        super().__init__()
        self.pos_conv = _pos_conv(dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mha_op = MultiheadAttention(dim)
        self.norm2 = LayerNorm2d(dim)
        self.mlp = _conv_mlp(dim, mlp_ratio, depthwise=True)
        self.ls1 = _layer_scale((dim,), layer_scale)
        self.ls2 = _layer_scale((1, dim, 1, 1), layer_scale)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pos_conv(x)
        tokens = to_tokens(x)  # [B, C, H, W] -> [B, N, C]
        tokens = _add(self, tokens, self.drop_path(self.ls1(self.mha_op(self.norm1(tokens)))))
        return _add_perceptron(self, _to_map(tokens, x.shape[2:]))


class TokenBlock(nn.Module):
    """Residual block of a plain transformer, without positions: [B, C, H, W] -> same."""

    def __init__(self, dim: int, drop_path: float = 0.0, mlp_ratio: int = 4):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mha_op = MultiheadAttention(dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = to_tokens(x)  # [B, C, H, W] -> [B, N, C]
        tokens = tokens + self.drop_path(self.mha_op(self.norm1(tokens)))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return _to_map(tokens, x.shape[2:])
