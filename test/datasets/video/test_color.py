import colorsys
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from datasets.video.color import ColorSettings, ColorTransform, draw_colors, pixel_noise, shift_hls

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "glore_data.json").read_text())
TABLE = GOLDEN["train_transforms"]["hls_table"]


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: str(row["shift"]))
def test_hls_table_is_the_authors(row):
    rgb = torch.tensor(TABLE["rgb_in"], dtype=torch.uint8).T[None]  # [1, 3, 16]
    assert shift_hls(rgb, torch.tensor([row["shift"]]))[0].T.tolist() == row["rgb_out"]


@pytest.mark.needs("opencv")
def test_hls_equals_opencv():
    import cv2

    rgb = np.random.default_rng(0).integers(0, 256, (4, 250, 1000, 3), dtype=np.uint8)
    shifts = torch.tensor([(0, 0, 0), (14, 34, -24), (-14, -34, 24), (7, -20, 12)])
    shifted = shift_hls(torch.from_numpy(rgb).permute(0, 3, 1, 2), shifts).permute(0, 2, 3, 1)
    for image, shift, ours in zip(rgb, shifts.numpy(), shifted, strict=True):
        hls = np.clip(cv2.cvtColor(image, cv2.COLOR_RGB2HLS).astype(int) + shift, 0, [180, 255, 255])
        theirs = torch.from_numpy(cv2.cvtColor(hls.astype(np.uint8), cv2.COLOR_HLS2RGB))
        # Equal where the processor has fused multiply-add; elsewhere a few hues round the other way.
        assert (ours != theirs).float().mean() < 1e-3 and (ours - theirs).abs().max() <= 12


def test_hls_equals_colorsys():
    """Against Python's own conversion, rounded to 8 bits; skips colors halfway between two levels."""
    checked = 0
    for rgb in np.random.default_rng(0).integers(0, 256, (300, 3)):
        hls = np.array(colorsys.rgb_to_hls(*rgb / 255)) * [180, 255, 255] + [9, -20, 12]
        if np.abs(hls % 1 - 0.5).min() < 1e-3:
            continue
        hls = np.clip(hls.round(), 0, [180, 255, 255]) / [180, 255, 255]
        expected = torch.tensor([255 * value for value in colorsys.hls_to_rgb(*hls)])
        ours = shift_hls(torch.from_numpy(rgb).view(1, 3, 1), torch.tensor([[9, -20, 12]])).flatten()
        assert (ours - expected).abs().max() < 0.501
        checked += 1
    assert checked > 100


def test_normalization_is_the_papers():
    clips = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 1, 16, 16)
    x = ColorTransform(ColorSettings())(clips)
    mean, std = (torch.tensor(GOLDEN["normalize"][name]).view(3, 1, 1, 1) for name in ("mean", "std"))
    assert x.dtype == torch.float32 and torch.allclose(x, (clips / 255 - mean) / std, atol=1e-6)
    half = ColorTransform(ColorSettings(), torch.bfloat16, torch.channels_last_3d)(clips)
    assert half.dtype == torch.bfloat16 and half.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_clip_does_not_depend_on_its_batch():
    clips = torch.randint(0, 256, (3, 3, 2, 9, 11), dtype=torch.uint8)
    hls, seeds = torch.tensor([[3.0, -20, 5], [0, 0, 0], [-15, 35, 25]]), torch.tensor([7, 8, 2**53 - 1])
    color = ColorTransform(ColorSettings())
    together = color(clips, hls, seeds)
    alone = torch.cat([color(clips[i : i + 1], hls[i : i + 1], seeds[i : i + 1]) for i in (2, 1, 0)]).flip(0)
    assert torch.equal(together, alone)
    assert not torch.equal(together, color(clips, hls, seeds + 1))
    assert torch.equal(color(clips), color(clips, None, None))


def test_noise_is_uniform_and_not_clipped():
    ranges = []
    for seed in range(200):
        noise = pixel_noise(torch.Size((3, 2, 31, 33)), 20, torch.Generator().manual_seed(seed))
        low, high = noise.min().item(), noise.max().item()
        assert -20 <= low <= 0 <= high <= 20
        assert abs(noise.mean() - (low + high) / 2) < 0.03 * (high - low)
        assert abs(noise.std() - (high - low) / 12**0.5) < 0.03 * (high - low)
        ranges.append((low, high))
    assert np.allclose(np.mean(ranges, axis=0), (-10, 10), atol=1.5)
    black = torch.zeros(1, 3, 2, 31, 33, dtype=torch.uint8)
    plain = ColorSettings(mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))
    seed = torch.tensor([0])
    assert ColorTransform(plain)(black, None, seed).min() < 0


def test_draws():
    rng = np.random.default_rng(0)
    shifts = torch.stack([draw_colors(rng, ColorSettings())["hls"] for _ in range(2000)])
    assert shifts.abs().amax(0).tolist() == [14, 34, 24]  # truncated towards 0, so the largest shift never occurs
    assert torch.equal(shifts, shifts.round())
    assert draw_colors(rng, ColorSettings(hls=None, noise=0)) == {}
    with pytest.raises(ValidationError, match="noise"):
        ColorSettings(noise=-1)
