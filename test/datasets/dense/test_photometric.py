"""Random colors, against Python's own HSV and against the ranges that the settings state."""

import colorsys

import numpy as np
import pytest
import torch

from datasets.dense.photometric import PhotometricSettings, distort, scale_saturation, turn_hue

OFF = {"brightness": 0, "contrast": (1, 1), "saturation": (1, 1), "hue": 0}


@pytest.fixture
def colors():
    return torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(1))


def per_pixel(colors, change):
    """`change` of (h, s, v) -> (h, s, v) for each pixel of [3, h, w]."""
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in colors.flatten(1).T.tolist()]
    return torch.tensor(pixels).T.reshape(colors.shape)


@pytest.mark.parametrize("factor", [0, 0.5, 1, 1.5, 10])
def test_saturation_is_that_of_hsv(colors, factor):
    expected = per_pixel(colors, lambda h, s, v: (h, min(1, s * factor), v))
    torch.testing.assert_close(scale_saturation(colors, factor), expected, atol=1e-5, rtol=0)


def test_gray_has_no_saturation_to_scale():
    gray = torch.linspace(0, 1, 12).expand(3, 1, 12)
    torch.testing.assert_close(scale_saturation(gray, 1.5), gray)


@pytest.mark.parametrize("turn", [-0.1, 0.07, 0.5])
def test_hue_is_that_of_hsv(colors, turn):
    expected = per_pixel(colors, lambda h, s, v: ((h + turn) % 1, s, v))
    torch.testing.assert_close(turn_hue(colors, turn), expected, atol=1e-4, rtol=0)


def test_a_change_is_a_function_of_the_generator(colors):
    image = (colors * 255).to(torch.uint8)
    results = [distort(image, PhotometricSettings(), np.random.default_rng(seed)) for seed in (1, 1, 2, 3)]
    assert torch.equal(results[0], results[1]) and results[0].dtype == torch.uint8 and results[0].shape == image.shape
    assert len({tuple(result.flatten().tolist()) for result in results}) == 3


def test_each_change_happens_half_of_the_time_within_its_range():
    gray = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    for name, lowest, highest in (("brightness", 68, 132), ("contrast", 50, 150)):
        settings = PhotometricSettings(**{**OFF, name: getattr(PhotometricSettings(), name)})
        values = [int(distort(gray, settings, np.random.default_rng(seed))[0, 0, 0]) for seed in range(300)]
        changed = [value for value in values if value != 100]
        assert 0.38 < len(changed) / 300 < 0.62
        assert lowest <= min(values) < lowest + 5 and highest - 5 < max(values) <= highest
    red = torch.tensor([200, 100, 100], dtype=torch.uint8)[:, None, None].expand(3, 2, 2)
    settings = PhotometricSettings(**{**OFF, "hue": 18})
    hues = []
    for seed in range(300):
        pixel = distort(red, settings, np.random.default_rng(seed))[:, 0, 0].double() / 255
        hues.append((colorsys.rgb_to_hsv(*pixel.tolist())[0] * 180 + 90) % 180 - 90)
    assert -18.6 < min(hues) < -16 and 16 < max(hues) < 18.6 and 0.42 < np.mean(np.abs(hues) > 0.5) < 0.58


def test_contrast_comes_before_or_after_saturation():
    """Brightness and contrast saturate at white in one order, and not in the other."""
    pixel = torch.tensor([250, 200, 150], dtype=torch.uint8)[:, None, None].expand(3, 1, 1)
    settings = PhotometricSettings(brightness=0, contrast=(1.5, 1.5), saturation=(0.5, 0.5), hue=0)
    found = {tuple(distort(pixel, settings, np.random.default_rng(seed)).flatten().tolist()) for seed in range(200)}
    assert len(found) == 5  # none, contrast, saturation, both in two orders


def test_settings_without_any_change_change_nothing(colors):
    image = (colors * 255).to(torch.uint8)
    for seed in range(20):
        assert torch.equal(distort(image, PhotometricSettings(**OFF), np.random.default_rng(seed)), image)


def test_ranges_begin_with_the_lower_end():
    with pytest.raises(ValueError, match=r"contrast is \(1.5, 0.5\); expected the lower end first"):
        PhotometricSettings(contrast=(1.5, 0.5))
