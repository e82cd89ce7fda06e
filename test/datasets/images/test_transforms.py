"""Views of images, against the pipelines with which the papers' recipes were made."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import tv_tensors
from torchvision.transforms import functional as F

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


def test_global_generators_are_restored():
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


def pillow_view(image, size, fraction):
    """The evaluation view by Pillow's operations alone -> uint8 [3, size, size]."""
    if fraction is None:
        resized = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        short = int(size / fraction)
        scale = short / min(image.size)
        width, height = (short if side == min(image.size) else int(side * scale) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = resized.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)  # [H, W, 3] -> [3, H, W]


@pytest.mark.parametrize("fraction", [0.875, 0.9, 1.0, None])
@pytest.mark.parametrize("sides", [(90, 131), (131, 90), (80, 80), (50, 61)])
def test_evaluation_has_pillows_pixels(sides, fraction):
    image = Image.fromarray(draw_image("cross", np.random.default_rng(2), sides))
    view = EvalImageView(EvalImageViewSettings(size=64, crop_fraction=fraction))(image)
    assert isinstance(view, tv_tensors.Image) and view.dtype == torch.uint8
    assert torch.equal(view, pillow_view(image, 64, fraction))


def test_evaluation_has_the_pixels_of_the_first_transforms(image):
    """torchvision.transforms.functional, on which earlier versions were built."""
    for size, fraction in ((64, 0.875), (48, None)):
        resized = [size, size] if fraction is None else [int(size / fraction)]
        old = F.center_crop(F.resize(image, resized, F.InterpolationMode.BICUBIC), [size, size])
        view = EvalImageView(EvalImageViewSettings(size=size, crop_fraction=fraction))(image)
        assert torch.equal(view, F.pil_to_tensor(old))


@pytest.mark.parametrize("sides", [(90, 4), (91, 4), (4, 92), (5, 301)])
def test_of_long_images_only_the_middle_is_resized(sides):
    """Up to rounding: the ratio of the cropped image to the resized one is not exactly that of the whole."""
    image = Image.fromarray(draw_image("ring", np.random.default_rng(3), (100, 100))).resize(sides[::-1])
    view = EvalImageView(EvalImageViewSettings(size=64))(image)
    assert (view.int() - pillow_view(image, 64, 0.875).int()).abs().max() <= 2


@pytest.mark.parametrize("sides", [(4000, 1), (1, 4000), (1, 65535)])
@pytest.mark.parametrize("fraction", [0.875, None])
def test_long_images_take_little_memory(sides, fraction, monkeypatch):
    largest = 0
    resize = Image.Image.resize

    def measured(image, size, *args, **options):
        nonlocal largest
        largest = max(largest, size[0] * size[1], size[0] * image.size[1])  # Pillow resizes rows first
        return resize(image, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", measured)
    image, rng = Image.new("RGB", sides[::-1], (9, 90, 200)), np.random.default_rng(1)
    view = EvalImageView(EvalImageViewSettings(size=64, crop_fraction=fraction))(image)
    assert view.shape == (3, 64, 64) and view.float().std((1, 2)).max() == 0
    assert TrainImageView(TrainImageViewSettings(size=64))(image, rng).shape == (3, 64, 64)
    assert largest <= 64 * 65535


def test_boxes_and_masks_follow_their_image():
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[20:60, 60:100] = 255
    mask = tv_tensors.Mask(torch.from_numpy(pixels[None, :, :, 0] // 255))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[60, 20, 100, 60]]), format="XYXY", canvas_size=(80, 160))
    view = EvalImageView(EvalImageViewSettings(size=64, crop_fraction=0.8))
    image, mask, boxes = view(Image.fromarray(pixels), mask, boxes)
    assert torch.equal(mask[0] > 0, image[0] > 127)
    rows, columns = torch.where(mask[0])
    assert boxes.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        *((name, True) for name in ("rand", "rand-m9-mstd0.5-inc1", "rand-n3-p0.7-mmax20-tweights", "v0r-mstd1")),
        *((name, True) for name in ("augmix-m5-w4-d2-b1-a1.5", "original", "3a")),
        *((name, False) for name in ("", "rand-m9-foo5", "rand-m", "rand-minf", "random", "v1", "original-m9")),
        *((name, False) for name in ("Rand-m9", "rand_m9", "rand-m-9", "rand-n1000", "rand-m9 ", "augmix-a0")),
    ],
)
def test_policies_are_those_that_timm_reads(name, is_known):
    if is_known:
        TrainImageView(TrainImageViewSettings(size=32, auto_augment=name))
    else:
        with pytest.raises(ValueError, match=r"timm has no policy|is empty"):
            TrainImageViewSettings(auto_augment=name)
