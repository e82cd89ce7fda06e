"""Builders of the dual path networks of `dual_path.py` as backbones; see `image_pyramid.py`."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from glore3d import dual_path
from glore3d.dual_path import DualPathStage, dual_path_network
from glore3d.image_pyramid import ImagePyramid
from glore3d.unit_positions import Units


def dual_path_pyramid(
    stem_width: int,
    stages: Sequence[DualPathStage],
    units: Units | None = None,
    unit: Callable[[int, int], nn.Module] | None = None,
    normalize: bool = False,
    output_stride: int = 32,
    eps: float = 1e-3,
    stem_stride: int = 4,
    out_indices: Sequence[int] = (0, 1, 2, 3),
) -> ImagePyramid:
    """A backbone of these stages.

    >>> import torch
    >>> model = dual_path_pyramid(16, dual_path.DEBUG, out_indices=(0, 2))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 28, 16, 25], [2, 96, 4, 7]]

    Args:
        stem_width, stages, units, unit, normalize, output_stride, eps, stem_stride: as for `dual_path_network`. Images
            for dense prediction vary in size: use `normalize` to train units, unless they start from a file that was
            trained without it.
        out_indices: as for `ImagePyramid`.
    """
    options = {"eps": eps, "stem_stride": stem_stride}
    network = dual_path_network(stem_width, stages, 0, units, unit, normalize, output_stride, **options)
    return ImagePyramid(network, out_indices)


# Builders: they take the arguments of dual_path_pyramid from `units` on.
glore_dpn98 = partial(dual_path_pyramid, 96, dual_path.DPN98, units=dual_path.DPN98_UNITS, eps=1e-4)
glore_dpn131 = partial(dual_path_pyramid, 128, dual_path.DPN131, units=dual_path.DPN131_UNITS, eps=1e-4)
dpn98 = partial(dual_path_pyramid, 96, dual_path.DPN98)
dpn131 = partial(dual_path_pyramid, 128, dual_path.DPN131)
glore_dpn_debug = partial(dual_path_pyramid, 16, dual_path.DEBUG, units=dual_path.DEBUG_UNITS, eps=1e-4)
