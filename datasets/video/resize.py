"""Resizes and crops frames in one step, with two methods.

`resize_exact` equals OpenCV's 8-bit bilinear `resize` bit for bit. GloRe's authors resize with it, so an evaluation
sees the pixels behind their published numbers. `resize_fast` is torch's 8-bit bilinear resize, for training: at most
one gray level away and about twice as fast on frames of Kinetics size. Neither antialiases: on 288-line videos that
would change pixels by up to 18 levels.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

MAX_RESIZED_PIXELS = 1 << 22
"""Per frame; beyond, `resize_fast` computes only the view. 340 lines of an aspect of 12:1 are a third of it."""


class View(NamedTuple):
    """What to keep of a frame resized to `height` x `width`: `num_rows` from `top`, `num_columns` from `left`."""

    height: int
    width: int
    top: int
    left: int
    num_rows: int
    num_columns: int


def resize_exact(frames: torch.Tensor, view: View) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> uint8 [3, T, num_rows, num_columns]; computes only that part.

    OpenCV weights two neighbors by 11-bit integers a + b = 2048. It drops the 4 lowest bits of the sum along a row,
    weights along the column, drops 16 bits of each product and rounds the last 2:

        h = (a * left + b * right) >> 4,        out = ((c * h_above >> 16) + (d * h_below >> 16) + 2) >> 2

    h is computed in 16 bits, where NumPy is several times as fast as in 32. With step = right - left and
    b = 16 * coarse + fine, h = 128 * left + step * coarse + (step * fine >> 4), and every term fits in 16 bits.
    """
    num_frames, height, width, _ = frames.shape
    if (view.height, view.width) == (height, width):
        kept = frames[:, view.top : view.top + view.num_rows, view.left : view.left + view.num_columns]
        return kept.permute(3, 0, 1, 2).contiguous()  # [T, H, W, 3] -> [3, T, H, W]

    above, below, d = _neighbors(height, view.height, view.top, view.num_rows)
    c, d = 2048 - d[:, None], d[:, None]
    rows, above_below = np.unique(np.concatenate([above, below]), return_inverse=True)  # the needed rows
    above, below = np.split(above_below, 2)

    left, right, b = _neighbors(width, view.width, view.left, view.num_columns)
    channel = np.arange(3)[:, None]
    # Positions in a row of 3 * W values, channel by channel.
    left, right = (3 * left + channel).ravel(), (3 * right + channel).ravel()
    coarse, fine = np.divmod(np.tile(b, 3).astype(np.int16), 16)

    out = np.empty((3, num_frames, view.num_rows, view.num_columns), np.uint8)
    for t, frame in enumerate(frames.numpy()):
        pixels = frame[rows].reshape(len(rows), -1)  # [R, W, 3] -> [R, 3 * W]
        h = pixels.take(left, axis=1).astype(np.int16)  # [R, 3 * num_columns]
        step = pixels.take(right, axis=1).astype(np.int16)
        step -= h
        h <<= 7
        h += step * coarse
        step *= fine
        step >>= 4
        h += step
        value = h.take(above, axis=0) * c  # [num_rows, 3 * num_columns]
        value >>= 16
        other = h.take(below, axis=0) * d
        other >>= 16
        value += other
        value += 2
        value >>= 2
        out[:, t] = value.reshape(view.num_rows, 3, view.num_columns).swapaxes(0, 1)
    return torch.from_numpy(out)


def _neighbors(num_in: int, num_out: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For `count` outputs from `first` on: both input neighbors, and the second one's weight out of 2048 (int32).

    Positions are rounded to float32 before they are split, as in OpenCV; at the border both neighbors are the same.
    """
    position = ((np.arange(first, first + count) + 0.5) * (1.0 / (num_out / num_in)) - 0.5).astype(np.float32)
    lower = np.floor(position)
    weight = np.rint((position - lower) * np.float32(2048)).astype(np.int32)
    lower = lower.astype(np.int64)
    return lower.clip(0, num_in - 1), (lower + 1).clip(0, num_in - 1), weight


def resize_fast(frames: torch.Tensor, view: View) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> uint8 [3, T, num_rows, num_columns], within one level of `resize_exact`.

    It resizes whole frames. A line of pixels, 1 x 4000, would become 340 x 1,360,000; such views are left to
    `resize_exact`.
    """
    if view.height * view.width > MAX_RESIZED_PIXELS:
        return resize_exact(frames.cpu(), view).to(frames.device)
    frames = frames.permute(0, 3, 1, 2)  # [T, 3, H, W], channels last in memory, torch's fast path
    if (view.height, view.width) != frames.shape[2:]:
        values = frames if frames.device.type == "cpu" else frames.float()  # other devices may lack 8-bit bilinear
        size = (view.height, view.width)
        resized = F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=False)
        frames = resized if resized.dtype == torch.uint8 else resized.round().to(torch.uint8)
    kept = frames[:, :, view.top : view.top + view.num_rows, view.left : view.left + view.num_columns]
    return kept.transpose(0, 1).contiguous()  # [T, 3, H, W] -> [3, T, H, W]
