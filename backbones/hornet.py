"""HorNet: spatial interactions of any order by recursive gated convolution, with 7 x 7 kernels or global filters.

Paper: Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022,
https://arxiv.org/abs/2207.14284
Authors' code: https://github.com/raoyongming/HorNet (hornet.py)

Done differently here: every map is channels-last in memory and viewed as [B, C, H, W], so that norms, linear layers,
convolutions and Fourier transforms read it without copies; the paper's 1/3 scales small weights instead of maps; the
global filters stay float64 in a float64 model, while the authors round them to float32; they can be computed without
FFT, for export. On a CPU, the gradient of the 7 x 7 kernels is computed differently (backbones/depthwise.py), and in
inference blocks take maps in parts, unless hooks watch (backbones/hooks.py), and 1 x 1 convolutions may be linear
layers (backbones/pointwise.py). Parameter names are the authors'.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from backbones.depthwise import depthwise_conv2d, is_inference
from backbones.hooks import parts_have_hooks
from backbones.layer_norm import LayerNorm2d
from backbones.pointwise import PointwiseConv, pointwise_conv2d
from backbones.stochastic_depth import stochastic_depth

SCALE = 1 / 3  # the paper's 1 / alpha, which keeps products of many factors small
MIN_SIZE = 32
CACHED_VALUES = 2**20
"""Values between an MLP's layers that inference on a CPU computes at once: few enough to stay in the cache."""
MIN_PART = 1024
"""The minimum number of positions that a block takes at once, because every part reads the weights again."""


class DepthwiseConv(nn.Conv2d):
    """7 x 7 convolution of every channel separately, times `scale`: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, dim: int, scale: float = SCALE):
        super().__init__(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return depthwise_conv2d(x, self.scale * self.weight, self.scale * self.bias)


class GlobalLocalFilter(nn.Module):
    r"""Filters half of the channels with 3 x 3 kernels and the rest over the whole map, in the frequency domain.

    The global half is :math:`\mathcal{F}^{-1}(K \odot \mathcal{F}(x))` with the 2-D Fourier transform and a learned
    complex :math:`K` for each channel, frequency by frequency. On a map of a size other than `size`, :math:`K` is
    resized. This half is computed at least in float32, even under mixed precision or with weights in half precision.

    Args:
        dim: channels C.
        size: height and width of the map that the filters are made for.
        scale: factor on the result.

    Shapes: [B, C, H, W] -> [B, C, H, W]; the halves come back alternating channel by channel.
    """

    def __init__(self, dim: int, size: int, scale: float = SCALE):
        super().__init__()
        self.dw = nn.Conv2d(dim // 2, dim // 2, kernel_size=3, padding=1, bias=False, groups=dim // 2)
        self.complex_weight = nn.Parameter(torch.empty(dim // 2, size, size // 2 + 1, 2))  # real and imaginary part
        self.pre_norm = LayerNorm2d(dim)
        self.post_norm = LayerNorm2d(dim)
        self.scale = scale
        self.filter = filter_by_fft
        nn.init.trunc_normal_(self.complex_weight, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        local_half, global_half = self.pre_norm(x).chunk(2, dim=1)
        local_half = self.dw(local_half).permute(0, 2, 3, 1)  # [B, C/2, H, W] -> [B, H, W, C/2]
        global_half = _full_precision(global_half.permute(0, 2, 3, 1))
        global_half = self.filter(global_half, self.response(*global_half.shape[1:3]))
        x = torch.stack((local_half, global_half), dim=-1).flatten(3)  # -> [B, H, W, C/2, 2] -> [B, H, W, C]
        norm = self.post_norm
        weight, bias = (self.scale * _full_precision(parameter) for parameter in (norm.weight, norm.bias))
        x = F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)
        return x.permute(0, 3, 1, 2).to(norm.weight.dtype)

    def response(self, height: int, width: int) -> torch.Tensor:
        """The filters for maps of this size: [height, width // 2 + 1, C/2, 2]; real maps need half the frequencies."""
        weight = resize_filters(_full_precision(self.complex_weight), (height, width // 2 + 1))
        return weight.permute(1, 2, 0, 3).contiguous()


def _full_precision(x: torch.Tensor) -> torch.Tensor:
    """x in float32, or in float64 as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def resize_filters(weight: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resizes filters [C, h, w, 2] bilinearly to [C, *size, 2], with aligned corners."""
    if weight.shape[1:3] == size:
        return weight
    parts = weight.permute(3, 0, 1, 2)  # [C, h, w, 2] -> [2, C, h, w]
    return F.interpolate(parts, size, mode="bilinear", align_corners=True).permute(1, 2, 3, 0)


def filter_by_fft(x: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """Filters [B, H, W, C] with a response [H, W // 2 + 1, C, 2]."""
    # Compiled GPU kernels do not support complex numbers, and MKL's FFT no empty batch.
    if (x.is_cuda and torch.compiler.is_compiling()) or len(x) == 0:
        return filter_by_matrices(x, response)
    spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")  # [B, H, W // 2 + 1, C], complex
    spectrum = spectrum * torch.view_as_complex(response)
    return torch.fft.irfft2(spectrum, s=x.shape[1:3], dim=(1, 2), norm="ortho")


def filter_by_matrices(x: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """The same as `filter_by_fft` with real matrix products only, for formats and devices without an FFT."""
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return filter_by_matrices(x, response)
    height, width = x.shape[1:3]
    num_kept = width // 2 + 1
    cos_h, sin_h = (x.new_tensor(matrix) for matrix in _fourier_matrices(height, height))
    cos_w, sin_w = (x.new_tensor(matrix) for matrix in _fourier_matrices(width, num_kept))
    response_re, response_im = response.unbind(-1)

    def columns(part: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhwc,wk->bhkc", part, matrix)

    def rows(part: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhkc,hg->bgkc", part, matrix)

    re, im = columns(x, cos_w), -columns(x, sin_w)
    re, im = rows(re, cos_h) + rows(im, sin_h), rows(im, cos_h) - rows(re, sin_h)
    re, im = re * response_re - im * response_im, re * response_im + im * response_re
    re, im = rows(re, cos_h) - rows(im, sin_h), rows(im, cos_h) + rows(re, sin_h)
    # A frequency that was left out is the conjugate of one that was kept, so those kept count twice. Those that are
    # their own conjugates, 0 and (for an even width) the highest, count once.
    times = x.new_tensor([2.0 if 0 < k < width - k else 1.0 for k in range(num_kept)])
    return columns(re, (cos_w * times).mT) - columns(im, (sin_w * times).mT)


def _fourier_matrices(num_points: int, num_frequencies: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of the orthonormal Fourier transform: two [num_points, num_frequencies]."""
    turns = np.outer(np.arange(num_points), np.arange(num_frequencies)) % num_points / num_points  # without whole ones
    return np.cos(2 * np.pi * turns) / num_points**0.5, np.sin(2 * np.pi * turns) / num_points**0.5


def without_fft(model: nn.Module) -> nn.Module:
    """Makes every global filter of `model` compute with matrix products, in place, as export requires."""
    for module in model.modules():
        if isinstance(module, GlobalLocalFilter):
            module.filter = filter_by_matrices
    return model


class ConvInParts(nn.Conv2d):
    """1 x 1 convolution that returns its output as separate maps of `sizes` channels, each in its own memory.

    The next layers read them without a copy; slices of one map would be copied.

    Shapes: [B, C, H, W] -> a tuple of [B, size, H, W].
    """

    def __init__(self, dim: int, sizes: Sequence[int]):
        super().__init__(dim, sum(sizes), kernel_size=1)
        self.sizes = tuple(sizes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = zip(self.weight.split(self.sizes), self.bias.split(self.sizes), strict=True)
        return tuple(pointwise_conv2d(x, weight, bias, self.dilation) for weight, bias in parts)


class GnConv(nn.Module):
    r"""Recursive gated convolution: every position interacts with its neighbors `order` times.

    The paper's section 3.1, with :math:`f` one spatial operator over all :math:`q_k` at once:

    .. math::
        [p_0, q_0, \dots, q_{n-1}] = \phi_{in}(x), \qquad
        p_{k+1} = f(q_k) \odot g_k(p_k) / \alpha, \qquad
        y = \phi_{out}(p_n)

    Widths double from :math:`C / 2^{n-1}` for :math:`p_0` and :math:`q_0` to C for :math:`q_{n-1}`; :math:`g_0` is the
    identity and the other :math:`g_k` change the width.

    Args:
        dim: channels C.
        order: n.
        spatial: makes :math:`f / \alpha` for a number of channels.

    Shapes: [B, C, H, W] -> [B, C, H, W].
    """

    def __init__(self, dim: int, order: int, spatial: Callable[[int], nn.Module]):
        super().__init__()
        self.dims = [dim // 2**k for k in reversed(range(order))]
        self.proj_in = ConvInParts(dim, (self.dims[0], sum(self.dims)))
        self.dwconv = spatial(sum(self.dims))
        self.proj_out = PointwiseConv(dim, dim)
        self.pws = nn.ModuleList(PointwiseConv(num_in, num_out) for num_in, num_out in pairwise(self.dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p, q = self.proj_in(x)
        q, *others = self.dwconv(q).split(self.dims, dim=1)
        keeps_p = not is_inference() or p.dtype != q.dtype or parts_have_hooks(self)
        times = torch.mul if keeps_p else torch.Tensor.mul_  # in place
        p = times(p, q)
        for g, q in zip(self.pws, others, strict=True):
            p = times(g(p), q)
        return self.proj_out(p)


class Block(nn.Module):
    """Residual block: recursive gated convolution, then an MLP at every position: [B, C, H, W] -> same."""

    def __init__(self, dim: int, order: int, spatial: Callable[[int], nn.Module], drop_path: float, layer_scale: float):
        super().__init__()
        self.norm1 = LayerNorm2d(dim)
        self.gnconv = GnConv(dim, order, spatial)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma2 = nn.Parameter(torch.full((dim,), layer_scale))
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_inference() and not self.training and x.device.type == "cpu" and not parts_have_hooks(self):
            return self._infer(x)
        return self._perceptron(self._convolution(x)).permute(0, 3, 1, 2)

    def _infer(self, x: torch.Tensor) -> torch.Tensor:
        """The same in parts that fit a CPU's cache: a few samples at once, and a few of their positions."""
        num_positions = max(MIN_PART, CACHED_VALUES // self.pwconv1.out_features)
        num_samples = max(1, num_positions // (x.shape[2] * x.shape[3]))
        result = torch.empty_like(x.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
        for samples, out in zip(x.split(num_samples), result.split(num_samples), strict=True):
            self._convolution(samples, out)
            for part in out.flatten(0, 2).split(num_positions):
                self._perceptron(part, out=part)
        return result.permute(0, 3, 1, 2)

    def _convolution(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """[B, C, H, W] -> [B, H, W, C], also in memory."""
        y = self.gnconv(self.norm1(x))
        x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
        return torch.addcmul(x, self.gamma1, self.drop_path(y), out=out).contiguous()

    def _perceptron(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        y = self.pwconv1(self.norm2(x))
        y = self.act(y) if out is None else torch.ops.aten.gelu_(y)
        return torch.addcmul(x, self.gamma2, self.drop_path(self.pwconv2(y)), out=out)


class Stage(NamedTuple):
    """One row of the network's table; each stage halves the map and doubles the channels of the previous one."""

    num_blocks: int
    order: int
    spatial: Callable[[int], nn.Module]
    """Makes the spatial operator of a block from its number of channels."""


class HorNet(nn.Module):
    """Image classifier: four stages of blocks, mean over the map, classifier.

    >>> model = HorNet(8, local_stages(1, 1, 1, 1), num_classes=10)
    >>> model(torch.randn(2, 3, 64, 64)).shape
    torch.Size([2, 10])

    Args:
        width: channels of the first stage; the last has eight times as many.
        stages: the four rows of the network's table.
        num_classes: number of classes (1,000 for ImageNet-1k, 21,841 for ImageNet-22k). 0: no classifier; the output is
            the pooled features.
        drop_path: probability that the last block's branches are skipped in training; it grows linearly from 0.
        layer_scale: initial factor of every channel of a branch.
        init_std: standard deviation of the initial weights. The paper's 0.02 suits its widths and long training; with
            few channels the products of the gates would start near zero. None: 1 / sqrt(inputs) of each layer.

    Shapes: images [B, 3, H, W], normalized, to logits [B, num_classes]; H and W are at least 32. Maps of the pyramid
    have sides H // stride: an incomplete last cell is cropped.

    Raises:
        ValueError: images have the wrong rank or number of channels, or are too small.
    """

    classifier_names = ("head.",)
    pyramid_strides = (4, 8, 16, 32)
    num_layers = 13
    """Index of the last layer, the classifier's; see `layer_of`."""

    def __init__(
        self,
        width: int,
        stages: Sequence[Stage],
        num_classes: int = 1000,
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        init_std: float | None = 0.02,
    ):
        super().__init__()
        dims = [width * 2**i for i in range(len(stages))]
        stem = nn.Sequential(nn.Conv2d(3, width, kernel_size=4, stride=4), LayerNorm2d(width))
        transitions = [
            nn.Sequential(LayerNorm2d(num_in), nn.Conv2d(num_in, num_out, kernel_size=2, stride=2))
            for num_in, num_out in pairwise(dims)
        ]
        self.downsample_layers = nn.ModuleList([stem, *transitions])
        num_blocks = sum(stage.num_blocks for stage in stages)
        chances = iter(torch.linspace(0, drop_path, num_blocks, device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(Block(dim, stage.order, stage.spatial, next(chances), layer_scale) for _ in range(stage.num_blocks))
            )
            for dim, stage in zip(dims, stages, strict=True)
        )
        self.pyramid_channels = tuple(dims)
        self.num_features = dims[-1]
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.apply(partial(_init_weights, std=init_std))
        self.reset_classifier(num_classes)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's: with `resize`, resizes global filters for other map sizes."""
        weights = dict(weights)
        if resize:
            for name, own in self.state_dict().items():
                if name.endswith("complex_weight") and name in weights and weights[name].dim() == own.dim():
                    weights[name] = resize_filters(weights[name], own.shape[1:3])
        return weights

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
        self.num_classes = num_classes
        self.head = nn.Identity()
        if num_classes > 0:
            self.head = nn.Linear(self.num_features, num_classes).to(self.norm.weight)
            _init_weights(self.head)

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, for learning rates that decay from layer to layer, by the authors' rule.

        The stem is layer 0. The first two stages are one layer each, every two blocks of the third are one, up to the
        eleventh, and the last stage is one. Downsampling belongs to the first blocks of the stage after it.
        """
        part, _, rest = name.partition(".")
        if part not in ("downsample_layers", "stages"):
            return self.num_layers
        stage, rest = rest.split(".", 1)
        if part == "downsample_layers" and stage == "0":
            return 0
        if stage != "2":
            return {"0": 1, "1": 2, "3": 12}[stage]
        return min(3 + int(rest.split(".")[0]) // 2, 11) if part == "stages" else 3

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] to the last feature map [B, num_features, H/32, W/32]."""
        check_images(x)
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))  # -> [B, width, H/4, W/4], then half the size and twice the channels each
        return x

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the last map of each stage; the last of them is that of `forward_features`."""
        check_images(x)
        maps = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.forward_features(x).mean((2, 3))))


def check_images(x: torch.Tensor) -> None:
    if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < MIN_SIZE:
        least = f"{MIN_SIZE} x {MIN_SIZE}"
        raise ValueError(f"the network takes RGB images [B, 3, H, W] of at least H x W = {least}, not {list(x.shape)}")


def _init_weights(module: nn.Module, std: float | None = 0.02) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=std or module.weight[0].numel() ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def local_stages(*num_blocks: int) -> tuple[Stage, ...]:
    """The paper's table for networks with 7 x 7 kernels: orders 2, 3, 4, 5."""
    return tuple(Stage(number, order, DepthwiseConv) for order, number in enumerate(num_blocks, start=2))


def global_stages(*num_blocks: int, image_size: int) -> tuple[Stage, ...]:
    """The same with global filters in the last two stages, made for the maps of square images of this size."""
    first, second, third, fourth = local_stages(*num_blocks)
    return (
        first,
        second,
        third._replace(spatial=partial(GlobalLocalFilter, size=image_size // 16)),
        fourth._replace(spatial=partial(GlobalLocalFilter, size=image_size // 32)),
    )


_7X7 = local_stages(2, 3, 18, 2)
_GF = global_stages(2, 3, 18, 2, image_size=224)
_GF_384 = global_stages(2, 3, 18, 2, image_size=384)

# Builders: they take the arguments of HorNet from num_classes on.
hornet_tiny_7x7 = partial(HorNet, 64, _7X7)
hornet_tiny_gf = partial(HorNet, 64, _GF)
hornet_small_7x7 = partial(HorNet, 96, _7X7)
hornet_small_gf = partial(HorNet, 96, _GF)
hornet_base_7x7 = partial(HorNet, 128, _7X7)
hornet_base_gf = partial(HorNet, 128, _GF)
hornet_base_gf_img384 = partial(HorNet, 128, _GF_384)
hornet_large_7x7 = partial(HorNet, 192, _7X7)
hornet_large_gf = partial(HorNet, 192, _GF)
hornet_large_gf_img384 = partial(HorNet, 192, _GF_384)
# For tests, and for small images on a laptop.
hornet_debug_7x7 = partial(HorNet, 16, local_stages(1, 1, 2, 1), layer_scale=1.0, init_std=None)
hornet_debug_gf = partial(HorNet, 16, global_stages(1, 1, 2, 1, image_size=64), layer_scale=1.0, init_std=None)
