"""Space-filling curves: the orders in which a square grid of pixels or tokens becomes a sequence.

Paper: Zhang et al., Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021,
https://arxiv.org/abs/2105.15089
Authors' code: https://github.com/TencentYoutuResearch/BaseArchitecture-EAT (ea_transformer.py, class LocED)

Done differently here: every curve is a few operations on whole arrays instead of a loop over positions, and Hilbert and
Z-order need no extra library.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from settings import unknown_name


def sweep(size: int) -> np.ndarray:
    """Row by row, each from left to right."""
    return np.arange(size * size)


def scan(size: int) -> np.ndarray:
    """Row by row, every second row from right to left: neighbors in the sequence are neighbors in the grid."""
    positions = np.arange(size * size).reshape(size, size)
    positions[1::2] = positions[1::2, ::-1]
    return positions.ravel()


def sweep_in_sweep(size: int, patch_size: int) -> np.ndarray:
    """A sweep over patches, and a sweep within each patch."""
    num_patches = size // patch_size
    rows_and_columns = np.arange(size * size).reshape(num_patches, patch_size, num_patches, patch_size)
    return rows_and_columns.swapaxes(1, 2).ravel()


def z_order(size: int) -> np.ndarray:
    """Quadrant by quadrant: alternating bits of row and column, highest first, are the position in the sequence."""
    num_bits = size.bit_length() - 1
    bits = np.arange(size * size).reshape([2] * (2 * num_bits))  # row bits, then column bits, highest first
    return bits.transpose(np.arange(2 * num_bits).reshape(2, num_bits).T.ravel()).ravel()


def hilbert(size: int) -> np.ndarray:
    """Four Hilbert curves of half the size, turned so that each ends beside the start of the next."""
    row = column = np.zeros(1, np.int64)
    half = 1
    while half < size:
        row, column = (
            np.concatenate([column, row + half, row + half, half - 1 - column]),
            np.concatenate([row, column, column + half, 2 * half - 1 - row]),
        )
        half *= 2
    return row * size + column


CURVES = {"sis": sweep_in_sweep, "sweep": sweep, "scan": scan, "zorder": z_order, "hilbert": hilbert}


@lru_cache(maxsize=8)
def curve_order(name: str, size: int, patch_size: int = 1) -> np.ndarray:
    """The position in a size x size grid, counted row by row, of each element of the sequence: int64 [size * size].

    >>> curve_order("hilbert", 2).tolist()
    [0, 2, 3, 1]

    Args:
        name: sis (sweep in sweep), sweep, scan, zorder or hilbert.
        size: rows, and columns, of the grid; a power of two for zorder and hilbert.
        patch_size: rows, and columns, of the patches of sis; the other curves ignore it.

    Raises:
        ValueError: there is no such curve, or it does not fill a grid of this size.
    """
    if name not in CURVES:
        raise ValueError(unknown_name("curve", name, CURVES))
    if name in ("zorder", "hilbert") and size & (size - 1):
        raise ValueError(f"{name} fills grids with a power of two as size, not {size}; use such an image, or sis")
    if name == "sis" and (patch_size < 2 or size % patch_size):
        raise ValueError(
            f"sis fills grids of whole patches of 2 x 2 or more, not a grid of size {size} with patches of size "
            f"{patch_size}; for single elements use sweep"
        )
    order = CURVES[name](size, patch_size) if name == "sis" else CURVES[name](size)
    order.setflags(write=False)
    return order


@lru_cache(maxsize=8)
def order_in_rectangle(name: str, height: int, width: int, patch_size: int = 1) -> np.ndarray:
    """`curve_order` for any rectangle: the curve of a square that contains it, without the positions outside.

    The square is the smallest that the curve fills. int64 [height * width]

    >>> order_in_rectangle("hilbert", 2, 3).tolist()
    [0, 1, 4, 3, 5, 2]
    """
    size = max(height, width)
    if name in ("zorder", "hilbert"):
        size = 1 << (size - 1).bit_length()
    rows, columns = np.divmod(curve_order(name, size, patch_size), size)
    inside = (rows < height) & (columns < width)
    order = rows[inside] * width + columns[inside]
    order.setflags(write=False)
    return order


def is_order_of(order: torch.Tensor, name: str, size: int, patch_size: int = 1) -> bool:
    """Whether the order [L] is that of the curve; False if the curve does not have this size."""
    try:
        return np.array_equal(order.cpu().numpy(), curve_order(name, size, patch_size))
    except ValueError:
        return False


class SpaceFillingCurve(nn.Module):
    """Puts the positions of a grid into the order of a curve (`curve_order`), which is stored in the state dict.

    Args:
        name, patch_size: as for `curve_order`.
        size: rows, and columns, of a square grid, or (rows, columns) of any.

    Shapes: [B, L, C] with `dim` 1, or [B, C, L] with `dim` 2, for L positions row by row; to the same.
    """

    def __init__(self, name: str, size: int | Sequence[int], patch_size: int = 1):
        super().__init__()
        if isinstance(size, int):
            order = torch.tensor(curve_order(name, size, patch_size))
        else:
            order = torch.tensor(order_in_rectangle(name, *size, patch_size))
        self.register_buffer("index_flat", order[None, :, None])  # [1, L, 1], as the authors store it
        self.register_buffer("index_flat_inv", order.argsort()[None, :, None])

    def forward(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        return _take(x, self.index_flat, dim)

    def inverse(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """From the order of the curve back to row by row, for example to make a map of the tokens."""
        return _take(x, self.index_flat_inv, dim)


def _take(x: torch.Tensor, order: torch.Tensor, dim: int) -> torch.Tensor:
    # On a CPU `gather` is several times as fast as `index_select` and `x[:, order]`.
    return x.gather(dim, order.movedim(1, dim).expand_as(x))
