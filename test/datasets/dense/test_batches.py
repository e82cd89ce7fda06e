"""Batches on the device, against a direct computation."""

import numpy as np
import pytest
import torch

from datasets.dense.batches import batch_size_of, normalize_and_pad, pad_label_maps
from datasets.images import Pixels, PixelSettings
from datasets.images.pixels import EraseSettings
from datasets.mixing import MixSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def test_a_batch_equals_a_direct_computation():
    some = images((40, 60), (33, 20))
    batch = normalize_and_pad(some, MEAN, STD)
    assert batch.shape == (2, 3, 64, 64) and batch.dtype == torch.float32
    mean, std = (np.float32(255) * np.float32(values)[:, None, None] for values in (MEAN, STD))
    for place, image in zip(batch.numpy(), some, strict=True):
        expected = np.zeros((3, 64, 64), np.float32)
        expected[:, : image.shape[1], : image.shape[2]] = (image.numpy().astype(np.float32) - mean) / std
        assert np.array_equal(place, expected)


def test_normalization_is_that_of_classification():
    (image,) = images((64, 32))
    pixels = Pixels(PixelSettings(mean=MEAN, std=STD), EraseSettings(), MixSettings(), 2, 0.0)
    assert torch.equal(normalize_and_pad([image], MEAN, STD), pixels(image[None]))


def test_sizes():
    assert batch_size_of([(33, 20), (10, 64)]) == (64, 64) and batch_size_of([(32, 32)]) == (32, 32)
    assert normalize_and_pad(images((5, 9)), MEAN, STD, multiple=1).shape == (1, 3, 5, 9)
    assert normalize_and_pad(images((5, 9)), MEAN, STD, size=(50, 41)).shape == (1, 3, 50, 41)
    with pytest.raises(ValueError, match=r"an image of 9 x 5 does not fit in a batch of 8 x 5 \(w x h\)"):
        normalize_and_pad(images((5, 9)), MEAN, STD, size=(5, 8))
    with pytest.raises(ValueError, match="a batch needs at least one image"):
        normalize_and_pad([], MEAN, STD)


def test_label_maps_are_ignored_where_they_are_padded():
    maps = [torch.full((3, 2), 4, dtype=torch.uint8), torch.full((1, 5), 255, dtype=torch.uint8)]
    batch = pad_label_maps(maps, (4, 5))
    assert batch.dtype == torch.int64 and batch.shape == (2, 4, 5)
    assert (batch[0, :3, :2] == 4).all() and (batch == 4).sum() == 6 and (batch == 255).sum() == 34
    with pytest.raises(ValueError, match="an image of 2 x 3 does not fit in a batch of 5 x 2"):
        pad_label_maps(maps, (2, 5))
