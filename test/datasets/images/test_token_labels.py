"""Token labels follow their image through the training view, and are cropped where it is."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from datasets.file_list import FileList
from datasets.images import ImageError, TokenLabelImages, TokenLabelSettings, TokenLabelView, token_targets
from datasets.images.token_labels import read_label_map
from datasets.images.transforms import TrainImageViewSettings
from datasets.seeding import seeded_by
from datasets.synthetic.image_shapes import draw_image

GRID = 6
SIDE = 16  # pixels of a cell


def picture_of_numbers():
    """An image whose cells are gray by their number, and the label map that says so: class n in cell n."""
    numbers = np.arange(GRID * GRID).reshape(GRID, GRID)
    gray = np.kron(40 + 5 * numbers, np.ones((SIDE, SIDE))).astype(np.uint8)
    label_map = torch.stack([torch.full((GRID, GRID), 9.0), torch.from_numpy(numbers).float()])[:, None]
    return Image.fromarray(gray).convert("RGB"), label_map  # [2, 1, h, w]


@pytest.mark.parametrize("policy", [None, "rand-m9-n1-mstd0.5-inc1", "rand-m9-n2-mstd0.5-inc1"])
def test_the_map_follows_its_image(policy):
    """Cells whose center pixel still has one of the gray levels must hold that level's number."""
    moving = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
    settings = TrainImageViewSettings(
        size=GRID * SIDE, scale=(1, 1), aspect=(1, 1), auto_augment=policy, color_jitter=0, interpolation="bilinear"
    )
    view = TokenLabelView(settings)
    if policy:
        view.operations.ops = [operation for operation in view.operations.ops if operation.name in moving]
    image, label_map = picture_of_numbers()
    moved = compared = 0
    for seed in range(40):
        pixels, labels, crop = view(image, label_map, np.random.default_rng(seed))
        assert crop.tolist() == [0, 0, 1, 1]
        moved += not torch.equal(labels, label_map)
        centers = pixels[0, SIDE // 2 :: SIDE, SIDE // 2 :: SIDE].long()  # [GRID, GRID]
        numbers, rest = (centers - 40) // 5, (centers - 40) % 5
        exact = (rest == 0) & (numbers >= 0) & (numbers < GRID * GRID) & (labels[0, 0] > 0)
        errors = (labels[1, 0][exact].long() - numbers[exact]).abs()
        assert errors.float().mean() < 0.35  # the center may lie on an edge
        assert set(labels[0].unique().tolist()) <= {0.0, 9.0}
        compared += int(exact.sum())
    assert 10 <= moved <= 38 and compared > 500


def test_crops_are_reported_where_they_were():
    """The mean gray of a crop that is upscaled without borders is that of its part of the image."""
    settings = TrainImageViewSettings(size=64, scale=(0.1, 0.3), flip=0, color_jitter=0, interpolation="bilinear")
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))  # gray = x
    view = TokenLabelView(settings)
    for seed in range(5):
        image = Image.fromarray(ramp).convert("RGB")
        pixels, _, (left, top, right, bottom) = view(image, torch.zeros(2, 1, 3, 3), np.random.default_rng(seed))
        assert abs(pixels.float().mean() - 200 * (left + right) / 2) < 1.5
        assert 0 <= top < bottom <= 1 and 0.1 < (right - left) * (bottom - top) / 1 < 0.35


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_pixels_are_those_of_the_first_transforms(interpolation):
    """torchvision.transforms, on which earlier versions were built: the same draws in the same order."""
    settings = TrainImageViewSettings(size=48, interpolation=interpolation)
    view, jitter = TokenLabelView(settings), ColorJitter(0.4, 0.4, 0.4)
    image = Image.fromarray(draw_image("ring", np.random.default_rng(1), (90, 120)))
    for seed in range(8):
        found, _, (left, top, right, bottom) = view(image, torch.zeros(2, 1, 3, 3), np.random.default_rng(seed))
        with seeded_by(np.random.default_rng(seed)):
            flipped = F.hflip(image) if random.random() < 0.5 else image
            changed = jitter(flipped)
            box = RandomResizedCrop.get_params(changed, settings.scale, settings.aspect)
            expected = F.resized_crop(changed, *box, [48, 48], InterpolationMode(interpolation))
        assert torch.equal(found, F.pil_to_tensor(expected))
        assert torch.allclose(torch.stack([top, left, bottom - top, right - left]) * torch.tensor([90, 120, 90, 120]),
                              torch.tensor(box, dtype=torch.float32))  # fmt: skip


def test_targets_by_hand():
    """One class in the left half, another in the right: halves as crops, and as cells of a whole crop."""
    scores = torch.full((1, 1, 8, 8), 5.0)
    classes = (torch.arange(8) >= 4).float().expand(1, 1, 8, 8)
    maps = torch.stack([scores, classes], dim=1).expand(3, -1, -1, -1, -1)  # [3, 2, 1, 8, 8]
    crops = torch.tensor([[0.0, 0, 0.5, 1], [0.5, 0, 1, 1], [0.0, 0, 1, 1]])
    of_crop, of_cells = token_targets(maps, crops, num_classes=3, grid=2, label_smoothing=0.0)
    assert of_crop.shape == (3, 3) and of_cells.shape == (3, 4, 3)
    assert of_crop[0].argmax() == 0 and of_crop[1].argmax() == 1 and of_crop[0, 0] > 0.97
    torch.testing.assert_close(of_crop[2, 0], of_crop[2, 1], atol=0.02, rtol=0)
    assert of_cells[2].argmax(1).tolist() == [0, 1, 0, 1]  # row by row
    torch.testing.assert_close(of_cells.sum(2), torch.ones(3, 4))
    smooth, _ = token_targets(maps, crops, num_classes=3, grid=2, label_smoothing=0.3)
    torch.testing.assert_close(smooth, of_crop * 0.8 + 0.1)


def test_files_that_are_not_label_maps(tmp_path):
    def refused(content, message):
        torch.save(content, tmp_path / "map.pt")
        with pytest.raises(ImageError, match=message):
            read_label_map(tmp_path / "map.pt", num_classes=5)

    refused(torch.zeros(3, 5, 4, 4), r"map\.pt: not a label map: expected one tensor \[2, K, h, w\]")
    refused({"a": 1}, "not a label map")
    refused(torch.full((2, 1, 4, 4), 7), "its classes go up to 7, but there are 5")
    (tmp_path / "map.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ImageError, match="not a readable label map"):
        read_label_map(tmp_path / "map.pt", num_classes=5)
    with pytest.raises(ImageError, match=r"none\.pt: no such label map; is data\.token_labels\.root right"):
        read_label_map(tmp_path / "none.pt", num_classes=5)


def test_an_image_whose_map_is_missing_or_odd_is_replaced(tmp_path):
    for number in range(4):
        for folder in ("images/cat", "maps/cat"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        picture_of_numbers()[0].save(tmp_path / f"images/cat/{number}.png")
        torch.save(picture_of_numbers()[1].half(), tmp_path / f"maps/cat/{number}.pt")
    (tmp_path / "maps/cat/2.pt").unlink()
    torch.save(torch.zeros(2, 1, 3, 3), tmp_path / "maps/cat/3.pt")
    names = [f"cat/{number}.png" for number in range(4)]
    files = FileList(names, [0] * 4, names, ["cat"], str(tmp_path / "images"))
    labels = TokenLabelSettings(root=str(tmp_path / "maps"))
    view = TokenLabelView(TrainImageViewSettings(size=32))
    samples = TokenLabelImages(files, labels, view, num_classes=36, seed=0)
    reasons = {}
    for sample in (samples[number] for number in range(4)):
        assert sample["image"].shape == (3, 32, 32) and sample["label_map"].shape == (2, 1, GRID, GRID)
        reasons |= {failure["index"]: failure["reason"] for failure in sample["failures"]}
    assert "no such label map" in reasons[2]
    assert "is [2, 1, 3, 3], that of the first image [2, 1, 6, 6]" in reasons[3]
    with pytest.raises(ImageError, match="no such label map"):
        TokenLabelImages(files, TokenLabelSettings(root=str(tmp_path)), view, num_classes=36, seed=0)
