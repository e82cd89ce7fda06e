"""HorNet as the backbone of detectors and segmentors: a norm for the map that each stage ends with, and no classifier.

Paper: Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022,
https://arxiv.org/abs/2207.14284 (sections 4.2 and 4.3)
Authors' code: https://github.com/raoyongming/HorNet (object_detection/models/hornet.py, the same file in
semantic_segmentation/)

Done differently here: stages after the last level that is asked for are not built. Parameter names are the authors'.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from backbones.hornet import HorNet, Stage, check_images, global_stages, local_stages
from backbones.layer_norm import LayerNorm2d


class HorNetPyramid(HorNet):
    """The stages of `HorNet`; level i is the map of stage i, normalized over its channels. The next stage gets it raw.

    >>> model = HorNetPyramid(8, local_stages(1, 1, 1, 1), out_indices=(1, 3))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 16, 8, 12], [2, 64, 2, 3]]

    Args:
        width, stages, drop_path, layer_scale, init_std: as for `HorNet`.
        out_indices: the stages, from 0, whose maps are the levels; increasing.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H // stride_i, W // stride_i]; H and W are any
    from 32 on.
    """

    classifier_names = ("norm.", "head.")
    """What a classifier's file has, and a backbone lacks."""

    def __init__(
        self,
        width: int,
        stages: Sequence[Stage],
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        init_std: float | None = 0.02,
    ):
        super().__init__(width, stages[: out_indices[-1] + 1], 0, drop_path, layer_scale, init_std)
        del self.norm
        # Padding is zeros. With the classifier's bias of 0 its features would be, too, and the gradient of each norm
        # there would grow a thousandfold, to infinity.
        nn.init.trunc_normal_(self.downsample_layers[0][0].bias, std=0.02)
        self.out_indices = tuple(out_indices)
        self.pyramid_channels = tuple(self.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(4 << i for i in out_indices)
        for i, num_channels in zip(self.out_indices, self.pyramid_channels, strict=True):
            self.add_module(f"norm{i}", LayerNorm2d(num_channels))

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        check_images(x)
        levels = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(downsample(x))
            if i in self.out_indices:
                levels.append(self.get_submodule(f"norm{i}")(x))
        return levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)


def with_filters(
    width: int,
    num_blocks: Sequence[int],
    out_indices: Sequence[int] = (0, 1, 2, 3),
    image_size: int = 224,
    drop_path: float = 0.0,
    layer_scale: float = 1e-6,
    init_std: float | None = 0.02,
) -> HorNetPyramid:
    """A backbone with global filters in its last two stages, made for square images of `image_size` pixels.

    The authors' detectors have filters for 224; their detector with HorNet-L and all their segmentors, for 384.
    """
    stages = global_stages(*num_blocks, image_size=image_size)
    return HorNetPyramid(width, stages, out_indices, drop_path, layer_scale, init_std)


_BLOCKS = (2, 3, 18, 2)
_7X7 = local_stages(*_BLOCKS)

# Builders: they take what HorNetPyramid takes from out_indices on, and those with filters `image_size`.
hornet_tiny_7x7 = partial(HorNetPyramid, 64, _7X7)
hornet_tiny_gf = partial(with_filters, 64, _BLOCKS)
hornet_small_7x7 = partial(HorNetPyramid, 96, _7X7)
hornet_small_gf = partial(with_filters, 96, _BLOCKS)
hornet_base_7x7 = partial(HorNetPyramid, 128, _7X7)
hornet_base_gf = partial(with_filters, 128, _BLOCKS)
hornet_base_gf_img384 = partial(with_filters, 128, _BLOCKS, image_size=384)
hornet_large_7x7 = partial(HorNetPyramid, 192, _7X7)
hornet_large_gf = partial(with_filters, 192, _BLOCKS)
hornet_large_gf_img384 = partial(with_filters, 192, _BLOCKS, image_size=384)
hornet_debug_7x7 = partial(HorNetPyramid, 16, local_stages(1, 1, 2, 1), layer_scale=1.0, init_std=None)
hornet_debug_gf = partial(with_filters, 16, (1, 1, 2, 1), image_size=64, layer_scale=1.0, init_std=None)
