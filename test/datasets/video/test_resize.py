import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datasets.video.resize import View, resize_exact, resize_fast

SIZES = [
    ((24, 32), (24, 32)),  # unchanged
    ((24, 32), (25, 34)),  # enlarged
    ((36, 64), (32, 56)),  # a little smaller, as 288-line Kinetics
    ((48, 64), (24, 32)),  # exactly half, where OpenCV averages 2 x 2 pixels
    ((90, 160), (32, 56)),  # much smaller: rows are skipped
    ((17, 23), (40, 11)),  # one axis each way
]


def noise(height, width, num_frames=2):
    shape = (num_frames, height, width, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def part(height, width):
    top, left = height // 5, width // 3
    return View(height, width, top, left, height - top, width // 2)


def cut(frames, view):
    """[T, H, W, 3] -> [3, T, num_rows, num_columns]"""
    rows = slice(view.top, view.top + view.num_rows)
    return frames[:, rows, view.left : view.left + view.num_columns].permute(3, 0, 1, 2)


@pytest.mark.needs("opencv")
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_equals_opencv(before, after):
    import cv2

    frames, view = noise(*before), part(*after)
    resized = torch.stack([torch.from_numpy(cv2.resize(frame.numpy(), after[::-1])) for frame in frames])
    assert torch.equal(resize_exact(frames, view), cut(resized, view))


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_equals_fixed_point_formula(before, after):
    """OpenCV's arithmetic written out for one pixel at a time, in Python's integers."""
    frames, view = noise(*before, num_frames=1), part(*after)

    def neighbors(num_in, num_out, at):
        position = np.float32((at + 0.5) * (1 / (num_out / num_in)) - 0.5)
        lower = int(np.floor(position))
        weight = int(np.rint((position - np.float32(lower)) * np.float32(2048)))
        return [(min(max(lower + k, 0), num_in - 1), (2048 - weight, weight)[k]) for k in (0, 1)]

    image, out = frames[0].tolist(), resize_exact(frames, view)
    for y, x, c in [(0, 0, 0), (3, 2, 1), (view.num_rows - 1, view.num_columns - 1, 2)]:
        columns = neighbors(before[1], after[1], view.left + x)
        value = 2
        for row, weight in neighbors(before[0], after[0], view.top + y):
            value += weight * (sum(image[row][column][c] * part for column, part in columns) >> 4) >> 16
        assert out[c, 0, y, x] == value >> 2


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_both_are_bilinear_without_antialiasing(before, after):
    frames, view = noise(*before), part(*after)
    bilinear = F.interpolate(frames.permute(0, 3, 1, 2).double(), after, mode="bilinear").permute(0, 2, 3, 1)
    for resize in (resize_exact, resize_fast):
        out = resize(frames, view)
        assert out.dtype == torch.uint8 and out.is_contiguous() and out.shape == (3, 2, view.num_rows, view.num_columns)
        assert (out - cut(bilinear, view)).abs().max() <= 1.01
    assert (resize_exact(frames, view).int() - resize_fast(frames, view).int()).abs().max() <= 1


def test_antialiasing_would_show():
    """On a 288-line video, shrunk by an eighth, antialiasing would exceed the tolerance of the test above."""
    frames, view = noise(288, 512, num_frames=1), View(256, 455, 16, 116, 224, 224)
    smooth = F.interpolate(frames.permute(0, 3, 1, 2), (256, 455), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    assert (resize_exact(frames, view).int() - cut(smooth, view).int()).abs().max() > 10
