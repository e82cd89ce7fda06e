"""Clips cropped and scaled before conversion to RGB show the same as resized RGB frames."""

import numpy as np
import pytest
import torch
from encode import encode_video, number_frames

from datasets.video.reader import VideoReader
from datasets.video.resize import View, resize_fast
from datasets.video.scaling import _aligned_part
from datasets.video.transforms import TrainViewSettings, draw_view


def smooth_frames(num_frames=6, height=96, width=128):
    """A color that changes slowly across the picture -> uint8 [T, H, W, 3]."""
    t, y, x, c = np.ogrid[:num_frames, :height, :width, :3]
    return (128 + 100 * np.sin(0.05 * x + 0.03 * y * (c - 1) + 0.3 * t + 2 * c)).astype(np.uint8)


KINDS = [{}, {"pix_fmt": "yuv444p"}, {"pix_fmt": "yuv420p10le"}, *({"rotation": turn} for turn in (90, 180, 270))]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_views_are_those_of_resized_frames(options, tmp_path):
    path = encode_video(tmp_path / "clip.mp4", smooth_frames(), **options)
    settings = TrainViewSettings(short_side=(60, 120), crop=56)
    with VideoReader(path) as video:
        frames = video.get_frames([4, 1])
        for seed in range(8):
            view, _ = draw_view(np.random.default_rng(seed), video.height, video.width, settings)
            (clip,) = video.get_clips([([4, 1], view)])
            assert clip.shape == (3, 2, 56, 56) and clip.dtype == torch.uint8
            difference = (clip.int() - resize_fast(frames, view)).abs().float()
            assert difference.mean() < 4 and difference.max() < 20


@pytest.mark.parametrize("width", [8, 40, 56, 64, 74, 312])
def test_views_that_are_not_scaled_have_the_pixels_of_the_frame(width, tmp_path):
    """In all columns: FFmpeg's own conversion of single planes leaves out the last of some widths."""
    path = encode_video(tmp_path / "clip.mp4", number_frames(4, 48, width))
    with VideoReader(path) as video:
        frame = video.get_frames([2])[0]
        for top, left in ((0, 0), (4, width // 4 * 2), (3, 5)):
            view = View(48, width, top, left, 48 - top, width - left)
            (clip,) = video.get_clips([([2], view)])
            torch.testing.assert_close(clip[:, 0].permute(1, 2, 0), frame[top:, left:], rtol=0, atol=0)


def test_aligned_parts_hold_the_view():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        num_in, num_out = rng.integers(8, 600, size=2).tolist()
        count = int(rng.integers(1, num_out + 1))
        first = int(rng.integers(num_out - count + 1))
        start, num_kept, num_scaled, offset = _aligned_part(num_in, num_out, first, count)
        assert start >= 0 and start % 4 == 0 and num_kept > 0 and start + num_kept <= num_in
        assert 0 <= offset <= num_scaled - count
        center = start + (offset + count / 2) * num_kept / num_scaled  # in pixels of the input
        assert abs(center * num_out / num_in - (first + count / 2)) <= max(1, num_out / num_in)


def test_one_pass_gives_what_separate_passes_give(tmp_path):
    path = encode_video(tmp_path / "clip.mp4", number_frames(60), gop=12)
    clips = [[0, 4, 8], [8, 4, 4], [57, 59, 12], []]
    views = [
        View(48, 64, 0, 8, 48, 48),
        View(60, 80, 3, 5, 32, 40),
        View(48, 64, 0, 8, 48, 48),
        View(48, 64, 0, 0, 8, 8),
    ]
    with VideoReader(path) as video:
        together = video.get_clips(zip(clips, views, strict=True))
        assert video.get_clips([]) == []
    for indices, view, clip in zip(clips, views, together, strict=True):
        with VideoReader(path) as video:
            assert torch.equal(clip, video.get_clips([(indices, view)])[0])
    with pytest.raises(IndexError, match=r"no frame 60, the video has frames 0 to 59"), VideoReader(path) as video:
        video.get_clips([([60], views[0])])
