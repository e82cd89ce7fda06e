r"""Pools the maps of a pyramid inside regions: each region is read from the level that suits its size.

Feature Pyramid Networks, arXiv 1612.03144, equation 1; Mask R-CNN, arXiv 1703.06870, section 3 (RoIAlign). A region of
w x h pixels is read from level

.. math::
    \lfloor \log_2 (\sqrt{w h} / (14 s_0)) \rfloor

or the nearest one that exists, where :math:`s_0` is the finest stride: with strides 4, 8, 16, 32, the second level
starts at 56 pixels. The code takes the last level with a stride of at most :math:`\sqrt{w h} / 14`, which also works
for strides that do not double.
"""

from collections.abc import Sequence

import torch
from torchvision.ops import roi_align

from dense.boxes import box_area, in_full_precision

CELLS_PER_SIDE = 14
"""A region spans between this many and twice as many positions of the map that it is read from."""


def with_batch_index(boxes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Boxes [N_b, 4] of each image to regions [N, 5]: index of the image, x1 y1 x2 y2."""
    indices = [own.new_full((len(own), 1), number) for number, own in enumerate(boxes)]
    return torch.cat([torch.cat(pair, dim=1) for pair in zip(indices, boxes, strict=True)])


def level_of(regions: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """The level [N] that each of the regions [N, 5] is read from."""
    size = box_area(regions[:, 1:]).sqrt() / (CELLS_PER_SIDE * strides[0]) + 1e-6
    limits = size.new_tensor([stride / strides[0] for stride in strides[1:]])
    return (size[:, None] >= limits).sum(1)


def pool_regions(
    maps: Sequence[torch.Tensor], regions: torch.Tensor, strides: Sequence[int], output_size: int
) -> torch.Tensor:
    """Maps [B, C, H_i, W_i] inside the regions [N, 5], in pixels: [N, C, output_size, output_size].

    Every cell averages as many bilinear samples as it spans positions of the map. Half a pixel is subtracted from the
    corners, so that positions are at the centers of their cells (`aligned`).
    """
    levels, dtype = level_of(regions, strides), maps[0].dtype
    maps = [in_full_precision(x) for x in maps[: len(strides)]]
    pooled = maps[0].new_zeros(len(regions), maps[0].shape[1], output_size, output_size)
    for number, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        (chosen,) = (levels == number).nonzero(as_tuple=True)
        if len(chosen) > 0:
            part = roi_align(x, regions[chosen].to(x.dtype), output_size, 1 / stride, aligned=True)
            pooled = pooled.index_copy(0, chosen, part)
    return pooled.to(dtype)
