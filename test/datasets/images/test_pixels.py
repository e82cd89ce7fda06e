"""Image batches on the device: normalization by hand, erasing, mixing with matching label shares."""

import random

import numpy as np
import pytest
import torch

from datasets.images import EraseSettings, Pixels, PixelSettings
from datasets.mixing import MixSettings


def seed(number):
    random.seed(number), np.random.seed(number), torch.manual_seed(number)


def pixels(erase=None, mix=None, **options):
    options = {"num_classes": 4, "label_smoothing": 0.0} | options
    return Pixels(PixelSettings(), EraseSettings(**erase or {}), MixSettings(**mix or {}), **options)


@pytest.fixture
def images():
    return torch.randint(0, 256, (8, 3, 16, 20), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def test_normalization(images):
    found = pixels(memory_format=torch.channels_last)(images)
    mean, std = torch.tensor(PixelSettings().mean), torch.tensor(PixelSettings().std)
    expected = (images / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_without_settings_training_sees_what_evaluation_sees(images):
    found, labels = pixels().in_training(images, LABELS)
    assert torch.equal(found, pixels()(images)) and torch.equal(labels, LABELS)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_overwrites_rectangles(images, mode):
    seed(1)
    found, _ = pixels(erase={"probability": 1, "mode": mode}).in_training(images, LABELS)
    changed = (found != pixels()(images)).any(1)  # [B, H, W]
    assert changed.flatten(1).any(1).all() and not changed.all()
    seed(1)
    again, _ = pixels(erase={"probability": 1, "mode": mode}).in_training(images, LABELS)
    assert torch.equal(found, again)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("mix", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixed_labels_are_shares(images, mix, mode):
    seed(3)
    found, labels = pixels(mix=mix | {"mode": mode}, label_smoothing=0.1).in_training(images, LABELS)
    assert labels.shape == (8, 4)
    torch.testing.assert_close(labels.sum(1), torch.ones(8))
    assert labels.min() > 0 and (labels.argmax(1) == LABELS).sum() >= 0 and not torch.equal(found, pixels()(images))


def test_mixup_by_hand(images):
    """Every image is lambda of itself and 1 - lambda of the one opposite in the batch; so is its label."""
    seed(5)
    found, labels = pixels(mix={"mixup": 0.8}).in_training(images, LABELS)
    own = labels[0, 0].item()
    plain = pixels()(images)
    torch.testing.assert_close(found, own * plain + (1 - own) * plain.flip(0))
    assert labels[0, 3].item() == pytest.approx(1 - own)


def test_settings_that_do_nothing_are_refused():
    with pytest.raises(ValueError, match="without mixup or cutmix, mode does nothing"):
        MixSettings(mode="elem")
    assert MixSettings(**MixSettings().model_dump()) == MixSettings()  # a resolved recipe names every default
