"""Cutmix of a batch with itself, on a grid of cells, as used to train networks for token labeling.

Papers: Yun et al., CutMix, ICCV 2019, https://arxiv.org/abs/1905.04899; Jiang et al., All Tokens Matter, NeurIPS 2021,
https://arxiv.org/abs/2104.10858
"""

from math import sqrt
from typing import NamedTuple

import torch


class Box(NamedTuple):
    """Cells of the last feature map: rows from `top` up to but excluding `bottom`, columns likewise."""

    top: int
    left: int
    bottom: int
    right: int

    def times(self, factor: int) -> "Box":
        return Box(*(factor * edge for edge in self))


def random_box(height: int, width: int) -> Box:
    """A box for cutmix on a grid of cells (Yun et al., ICCV 2019): the fraction kept and the center are uniform.

    Parts beyond the border are cut off. Drawn from torch's CPU generator.
    """
    side = sqrt(1 - torch.rand((), device="cpu").item())
    row, column = (int(torch.randint(size, (), device="cpu")) for size in (height, width))
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    return Box(
        top=max(row - half_height, 0),
        left=max(column - half_width, 0),
        bottom=min(row + half_height, height),
        right=min(column + half_width, width),
    )


def swap_with_partner(x: torch.Tensor, box: Box) -> torch.Tensor:
    """[B, C, H, W] with the box of every sample taken from the reversed batch; applied twice, it is the identity."""
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    swapped = x.clone()
    swapped[:, :, rows, columns] = x.flip(0)[:, :, rows, columns]
    return swapped
