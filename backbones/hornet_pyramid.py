"""HorNet as the backbone of detectors and segmentors: a norm on the last map of each stage, and no classifier.

Paper: Rao et al., HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022,
https://arxiv.org/abs/2207.14284 (sections 4.2 and 4.3)
Authors' code: https://github.com/raoyongming/HorNet (object_detection/models/hornet.py, the same file in
semantic_segmentation/)

Done differently here: stages after the last requested level are not built. Parameter names are the authors'.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from backbones.hornet import HorNet, Stage, check_images, global_stages, local_stages
from backbones.layer_norm import LayerNorm2d

NUM_STAGES = 4
DECAY_RULES = ("layer", "stage")


class HorNetPyramid(HorNet):
    """The stages of `HorNet`; level i is the map of stage i, normalized over its channels. The next stage gets it raw.

    >>> model = HorNetPyramid(8, local_stages(1, 1, 1, 1), out_indices=(1, 3))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 16, 8, 12], [2, 64, 2, 3]]

    Args:
        width, stages, drop_path, layer_scale, init_std: as for `HorNet`.
        out_indices: the stages, from 0, whose maps are the levels; increasing.
        decay_rule: how `optimizer.layer_decay` counts layers, see `layer_of`: by `layer` (detection) or by `stage`
            (segmentation).
        decay_layers: the number of layers below norms and heads, which have the full rate. By `layer` there are 12;
            with the authors' 6 (HorFPN) the last blocks learn faster than the heads. By `stage` the authors have 12,
            or 6 for HorNet-T.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H // stride_i, W // stride_i]; H and W are at
    least 32.

    Raises:
        ValueError: the rule is unknown, or images have the wrong rank or number of channels, or are too small.
    """

    def __init__(
        self,
        width: int,
        stages: Sequence[Stage],
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path: float = 0.0,
        layer_scale: float = 1e-6,
        init_std: float | None = 0.02,
        decay_rule: str = "layer",
        decay_layers: int = 12,
    ):
        if decay_rule not in DECAY_RULES:
            raise ValueError(f"decay_rule must be one of {', '.join(DECAY_RULES)}, not {decay_rule!r}")
        super().__init__(width, stages[: out_indices[-1] + 1], 0, drop_path, layer_scale, init_std)
        del self.norm
        # Padding is zeros. With the classifier's bias of 0, its features would be zeros too, and the gradient of each
        # norm there would grow a thousandfold, to infinity.
        nn.init.trunc_normal_(self.downsample_layers[0][0].bias, std=0.02)
        self.out_indices = tuple(out_indices)
        self.decay_rule, self.num_layers = decay_rule, decay_layers + 1
        self.new_names = tuple(f"norm{i}." for i in out_indices)
        self.classifier_names = ("norm.", "head.", *unused_names(out_indices))
        self.pyramid_channels = tuple(self.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(4 << i for i in out_indices)
        for i, num_channels in zip(self.out_indices, self.pyramid_channels, strict=True):
            self.add_module(f"norm{i}", LayerNorm2d(num_channels))

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, for learning rates that decay from layer to layer, by the authors' two rules.

        By `layer` as in `HorNet`, with 12 as the last layer. By `stage`: all downsampling is layer 0, and stage i is
        layer i + 1. Norms of the levels, and heads around the backbone, are layer `num_layers` = `decay_layers` + 1.
        """
        part, _, rest = name.partition(".")
        if part not in ("downsample_layers", "stages") or self.decay_rule == "layer":
            return super().layer_of(name)
        return 0 if part == "downsample_layers" else 1 + int(rest.split(".")[0])

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


def unused_names(out_indices: Sequence[int]) -> list[str]:
    """Prefixes of a whole network's entries that a backbone with these levels lacks, besides those of the head."""
    after = range(out_indices[-1] + 1, NUM_STAGES)
    norms = [f"norm{i}." for i in range(NUM_STAGES) if i not in out_indices]
    return [*(f"{part}.{i}." for i in after for part in ("downsample_layers", "stages")), *norms]


def with_filters(
    width: int,
    num_blocks: Sequence[int],
    out_indices: Sequence[int] = (0, 1, 2, 3),
    image_size: int = 224,
    drop_path: float = 0.0,
    layer_scale: float = 1e-6,
    init_std: float | None = 0.02,
    decay_rule: str = "layer",
    decay_layers: int = 12,
) -> HorNetPyramid:
    """A backbone with global filters in its last two stages, made for square images of `image_size` pixels.

    The authors' detectors have filters for 224; their detector with HorNet-L and all their segmentors, for 384.
    """
    stages = global_stages(*num_blocks, image_size=image_size)
    return HorNetPyramid(width, stages, out_indices, drop_path, layer_scale, init_std, decay_rule, decay_layers)


_BLOCKS = (2, 3, 18, 2)
_7X7 = local_stages(*_BLOCKS)

# Builders: they take the arguments of HorNetPyramid from out_indices on, and those with filters `image_size`.
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
