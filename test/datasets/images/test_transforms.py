"""Views of images, against the pipelines that the papers' recipes were made with."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from datasets.images import EvalImageView, EvalImageViewSettings, TrainImageView, TrainImageViewSettings
from datasets.seeding import seeded_by
from datasets.synthetic.image_shapes import draw_image

RECIPE = {"size": 48, "auto_augment": "rand-m9-mstd0.5-inc1"}


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(draw_image("star", np.random.default_rng(1), (90, 131)))


@pytest.mark.parametrize(
    ("size", "fraction", "mode"), [(64, 0.875, "center"), (96, 1.0, "center"), (64, None, "squash")]
)
def test_evaluation_equals_timm(image, size, fraction, mode):
    theirs = create_transform(
        size, is_training=False, use_prefetcher=True, interpolation="bicubic", crop_pct=fraction or 1.0, crop_mode=mode
    )
    view = EvalImageView(EvalImageViewSettings(size=size, crop_fraction=fraction))(image)
    assert view.dtype == torch.uint8 and view.shape == (3, size, size)
    assert np.array_equal(view, theirs(image))


@pytest.mark.parametrize("settings", [RECIPE, {"size": 48}, {"size": 48, "color_jitter": 0, "interpolation": "random"}])
def test_a_training_view_is_a_function_of_its_generator(image, settings):
    view = TrainImageView(TrainImageViewSettings(**settings))
    views = [view(image, np.random.default_rng(seed)) for seed in (1, 1, 2, 3)]
    assert views[0].dtype == torch.uint8 and views[0].shape == (3, 48, 48)
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2]) and not torch.equal(views[2], views[3])


def test_a_training_view_is_timms(image):
    """With the global generators seeded alike, timm's pipeline for training gives the same pixels."""
    theirs = create_transform(
        48, is_training=True, use_prefetcher=True, auto_augment=RECIPE["auto_augment"], interpolation="bicubic"
    )
    for seed in range(3):
        ours = TrainImageView(TrainImageViewSettings(**RECIPE))(image, np.random.default_rng(seed))
        with seeded_by(np.random.default_rng(seed)):
            assert np.array_equal(ours, theirs(image))


def test_global_generators_go_on_as_before():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draw()
    with pytest.raises(KeyError), seeded_by(np.random.default_rng(7)):
        inside = draw()
        raise KeyError
    assert [first, draw()] == expected and inside not in expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (1, 0.5)}, "scale is .* expected the lower end first"),
        ({"interpolation": "lanczos"}, "should match pattern"),
        ({"sice": 3}, "sice"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainImageViewSettings(**settings)
