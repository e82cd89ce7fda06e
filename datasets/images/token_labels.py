"""Token labels: a stronger network's classes for every cell of an image, cropped with the training view.

Paper: Jiang et al., All Tokens Matter: Token Labeling for Training Better Vision Transformers, NeurIPS 2021,
https://arxiv.org/abs/2104.10858; the maps are cropped by RoI-align as in Yun et al. (ReLabel, CVPR 2021).
Authors' code: https://github.com/zihangJiang/TokenLabeling (tlt/data), which releases the maps of ImageNet
(label_top5_train_nfnet): `<class>/<image>.pt` holds [2, K, h, w], the K best scores of each cell and their classes.

Differences: a geometric change of the image moves the map by the same operation, cell by cell; and a crop's left edge
is its x and the top its y, which the authors' code swaps. torchvision takes seconds to import: only functions that use
it import it.
"""

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from datasets.file_list import FileItem, FileList
from datasets.image_file import ImageError, read_image
from datasets.images.transforms import TrainImageViewSettings
from datasets.samples import TrainSamples
from datasets.seeding import seeded_by
from settings import Settings

INTERPOLATIONS = ("bilinear", "bicubic")
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel")
"""timm's operations that move pixels."""


class TokenLabelSettings(Settings):
    """Where the label maps of the training images are."""

    CHANGEABLE = ("root",)

    root: str = Field(description="folder of the maps: <class>/<image>.pt, [2, K, h, w] of scores and classes")
    grid: int = Field(7, gt=0, le=1000, description="number of rows and of columns of cells in the network's output")


def read_label_map(path: Path, num_classes: int) -> torch.Tensor:
    """The label map of a file: float32 [2, K, h, w], scores and classes.

    Raises ImageError if the file is missing, damaged, or not a label map for `num_classes` classes.
    """
    try:
        label_map = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ImageError(str(path), "no such label map; is data.token_labels.root right?") from None
    except Exception as error:  # a broken file may raise anything
        raise ImageError(str(path), f"not a readable label map ({type(error).__name__})") from error
    if not isinstance(label_map, torch.Tensor) or label_map.dim() != 4 or len(label_map) != 2:
        raise ImageError(str(path), "not a label map: expected one tensor [2, K, h, w] of scores and classes")
    label_map = label_map.float()
    if not (label_map[1].min() >= 0 and label_map[1].max() < num_classes):
        raise ImageError(str(path), f"its classes go up to {label_map[1].max():g}, but there are {num_classes}")
    return label_map


class TokenLabelView:
    """Takes a random view of an image and its label map: flip, RandAugment or color jitter, crop, in this order."""

    def __init__(self, settings: TrainImageViewSettings):
        from torchvision.transforms import v2

        self.settings, self.operations = settings, None
        if settings.auto_augment:
            from timm.data.auto_augment import rand_augment_transform

            options: dict[str, Any] = {"translate_const": int(0.45 * settings.size), "img_mean": (124, 116, 104)}
            if settings.interpolation != "random":
                options["interpolation"] = Image.Resampling[settings.interpolation.upper()]
            self.operations = rand_augment_transform(settings.auto_augment, options)
        self.jitter = v2.ColorJitter(*[settings.color_jitter] * 3)
        self.crop = v2.RandomResizedCrop(settings.size, settings.scale, settings.aspect)

    def __call__(
        self, image: Image.Image, label_map: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """PIL RGB, map [2, K, h, w] -> uint8 [3, S, S], the transformed map [2, K, h, w], and the crop: float32 [4].

        The crop is its left, top, right and bottom, as fractions of the map.
        """
        from torchvision.transforms.v2 import functional as F

        settings = self.settings
        with seeded_by(rng):
            if random.random() < settings.flip:
                image, label_map = F.hflip(image), label_map.flip(3)
            if self.operations is None:
                image = self.jitter(image)
            else:
                image, label_map = self._augment(image, label_map)
            box = self.crop.make_params([image])  # top, left, height, width
            name = settings.interpolation
            name = random.choice(INTERPOLATIONS) if name == "random" else name
            view = F.resized_crop(image, **box, size=[settings.size] * 2, interpolation=F.InterpolationMode(name))
        left, top = box["left"], box["top"]
        edges = np.array([left, top, left + box["width"], top + box["height"]]) / [*image.size, *image.size]
        return F.to_image(view), label_map, torch.tensor(edges, dtype=torch.float32)

    def _augment(self, image: Image.Image, label_map: torch.Tensor) -> tuple[Image.Image, torch.Tensor]:
        """timm's RandAugment; geometric operations also transform an image of the cells' numbers, and so the map."""
        chosen = np.random.choice(
            self.operations.ops,
            self.operations.num_layers,
            replace=self.operations.choice_weights is None,
            p=self.operations.choice_weights,
        )
        cells, moved = _cells(image.size, label_map.shape[2:]), False
        for operation in chosen:
            state = random.getstate()
            image = operation(image)
            if operation.name in GEOMETRIC:
                same = copy.copy(operation)
                same.kwargs = {"resample": Image.Resampling.NEAREST, "fillcolor": -1}
                random.setstate(state)  # the same draws: whether, how far, in which direction
                cells, moved = same(cells), True
        return image, _take_cells(label_map, cells) if moved else label_map


def _cells(size: tuple[int, int], grid: Sequence[int]) -> Image.Image:
    """An image of width and height `size` whose pixels have the number of their cell, counted row by row."""
    rows, columns = (np.arange(length) * count // length for length, count in zip(size[::-1], grid, strict=True))
    return Image.fromarray((rows[:, None] * grid[1] + columns).astype(np.int32))


def _take_cells(label_map: torch.Tensor, cells: Image.Image) -> torch.Tensor:
    """The map [2, K, h, w] in which each cell is the one at its center in `cells`; scores are 0 where that is -1."""
    numbers = np.asarray(cells)
    rows, columns = (
        ((np.arange(count) + 0.5) * length / count).astype(int)
        for length, count in zip(numbers.shape, label_map.shape[2:], strict=True)
    )
    taken = torch.from_numpy(numbers[np.ix_(rows, columns)].astype(np.int64))  # [h, w]
    moved = label_map.flatten(2)[:, :, taken.clamp(min=0)]  # [2, K, h * w] -> [2, K, h, w]
    return moved * (taken >= 0)


class TokenLabelImages(TrainSamples):
    """Training images with `image`, uint8 [3, S, S], `label_map` [2, K, h, w] and `crop` [4]; see `TokenLabelView`.

    Raises ImageError if the first image has no valid label map.
    """

    def __init__(
        self,
        files: FileList,
        labels: TokenLabelSettings,
        view: TokenLabelView,
        num_classes: int,
        seed: int,
        stream: str = "train",
        repeats: int = 1,
        weights: np.ndarray | None = None,
    ):
        super().__init__(files, seed, stream, repeats, weights)
        self.root, self.view, self.num_classes = Path(labels.root).expanduser(), view, num_classes
        self._shape = self._label_map(files[0]).shape

    def _label_map(self, item: FileItem) -> torch.Tensor:
        image = Path(item.path)
        return read_label_map(self.root / image.parent.name / f"{image.stem}.pt", self.num_classes)

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        label_map = self._label_map(item)
        if label_map.shape != self._shape:
            shapes = f"{list(label_map.shape)}, that of the first image {list(self._shape)}"
            raise ImageError(item.path, f"its label map is {shapes}; all maps of a list must have one shape")
        image, label_map, crop = self.view(read_image(item.path), label_map, rng)
        return {"image": image, "label_map": label_map, "crop": crop}


def token_targets(
    label_maps: torch.Tensor, crops: torch.Tensor, num_classes: int, grid: int, label_smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Target class probabilities of each crop, and of each of its cells: [B, C] and [B, grid * grid, C].

    RoI-align averages the scores of the maps [B, 2, K, h, w] (0 for all other classes) over the crops [B, 4] and over
    their cells; their softmax is smoothed as the authors do.
    """
    from torchvision.ops import roi_align

    scores, classes = label_maps[:, 0], label_maps[:, 1].long()
    height, width = scores.shape[2:]
    maps = scores.new_zeros(len(scores), num_classes, height, width).scatter_(1, classes, scores)
    boxes = crops * crops.new_tensor([width, height, width, height]) - 0.5  # pixel centers are at integers
    boxes = torch.cat([torch.arange(len(boxes), device=boxes.device)[:, None], boxes], dim=1)  # [B, 5]
    off = label_smoothing / num_classes
    of_crop, of_cells = (
        roi_align(maps, boxes, output_size=(size, size)).softmax(dim=1) * (1 - label_smoothing + off) + off
        for size in (1, grid)
    )
    return of_crop.flatten(1), of_cells.flatten(2).mT  # [B, C, 1, 1] -> [B, C]; [B, C, g, g] -> [B, g * g, C]
