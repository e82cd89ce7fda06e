"""Builders of the pre-activation ResNets of `resnet2d.py` as backbones; see `image_pyramid.py`."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from glore3d import resnet2d
from glore3d.image_pyramid import ImagePyramid
from glore3d.resnet2d import ResNetStage, resnet
from glore3d.unit_positions import Units


def resnet_pyramid(
    stages: Sequence[ResNetStage],
    units: Units | None = None,
    unit: Callable[[int, int], nn.Module] | None = None,
    normalize: bool = False,
    output_stride: int = 32,
    eps: float = 1e-4,
    lite_stem: bool = False,
    stem_width: int | None = None,
    stem_stride: int = 4,
    out_indices: Sequence[int] = (0, 1, 2, 3),
) -> ImagePyramid:
    """A backbone of these stages.

    >>> import torch
    >>> model = resnet_pyramid(resnet2d.DEBUG, output_stride=16, out_indices=(1, 3))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 64, 8, 13], [2, 256, 4, 7]]

    Args:
        stages, units, unit, normalize, output_stride, eps, lite_stem, stem_width, stem_stride: as for `resnet`. Images
            for dense prediction vary in size: use `normalize` to train units, unless they start from a file that was
            trained without it.
        out_indices: as for `ImagePyramid`.
    """
    options = {"eps": eps, "lite_stem": lite_stem, "stem_width": stem_width, "stem_stride": stem_stride}
    network = resnet(stages, 0, units, unit, normalize, output_stride, **options)
    return ImagePyramid(network, out_indices)


# Builders: they take the arguments of resnet_pyramid from `units` on.
glore_resnet50 = partial(resnet_pyramid, resnet2d.R50, units=resnet2d.R50_UNITS)
glore_resnet101 = partial(resnet_pyramid, resnet2d.R101, units=resnet2d.R101_UNITS)
glore_resnet200 = partial(resnet_pyramid, resnet2d.R200, units=resnet2d.R200_UNITS)
glore_se_resnet50 = partial(resnet_pyramid, resnet2d.SE_R50, units=resnet2d.SE_R50_UNITS)
glore_resnext101_32x4d = partial(resnet_pyramid, resnet2d.RESNEXT101, units=resnet2d.R101_UNITS)
preact_resnet50 = partial(resnet_pyramid, resnet2d.R50)
preact_resnet101 = partial(resnet_pyramid, resnet2d.R101)
preact_resnet200 = partial(resnet_pyramid, resnet2d.R200)
preact_se_resnet50 = partial(resnet_pyramid, resnet2d.SE_R50)
preact_resnext101_32x4d = partial(resnet_pyramid, resnet2d.RESNEXT101)
glore_resnet_small = partial(resnet_pyramid, resnet2d.SMALL, units=resnet2d.SMALL_UNITS, lite_stem=True, stem_stride=2)
preact_resnet_debug = partial(resnet_pyramid, resnet2d.DEBUG, lite_stem=True, stem_width=16)
glore_resnet_debug = partial(preact_resnet_debug, units=resnet2d.DEBUG_UNITS)
