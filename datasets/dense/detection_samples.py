"""Samples for detection: images of any size with boxes, and masks if the set has them, in lists.

A batch for training has `images`, a list of uint8 [3, h, w]; `boxes`, float32 [N, 4] each, x1, y1, x2, y2 in pixels of
the image; `labels`, int64 [N]; `ignored`, float32 [M, 4], boxes of crowds; `masks`, uint8 [N, h, w], if the set has
them; `scale`, float64 [B, 2], pixels of the image per pixel of the file (x, y); `original`, int64 [B, 2], (H, W) of the
file. One for evaluation has `images`, `scale` and `original`; the truth is `CocoImages.ground_truth`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from datasets.dense.coco import CocoImages, CocoItem
from datasets.dense.grouping import grouped_order
from datasets.dense.transforms import Sample, make_sample
from datasets.dense.views import DetectionView, EvalView
from datasets.file_list import FileItem, FileList
from datasets.image_file import ImageError, read_image
from datasets.samples import EvalSamples, TrainSamples


def read_coco_image(item: CocoItem) -> Image.Image:
    """The image of an item. Raises ImageError if it cannot be read, or is of another size than its entry says."""
    image = read_image(item.path)
    height, width = item.size
    if image.size != (width, height):
        found = f"{image.size[0]} x {image.size[1]}"
        raise ImageError(item.path, f"is {found} pixels, but its entry (image id {item.id}) says {width} x {height}")
    return image


def list_of_samples(samples: list[dict[str, Any]], stacked: Sequence[str]) -> dict[str, Any]:
    """A batch whose entries are lists over the samples, but for those to be stacked."""
    batch = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {name: torch.stack(values) if name in stacked else values for name, values in batch.items()}


class DetectionSamples(TrainSamples):
    """Training samples for detection; see the top of this file and `TrainSamples`.

    Args:
        images: a set of `read_coco`, usually `with_objects`.
        view: the random view.
        seed: the run's seed.
        group_size: images per step on all ranks together, which get one orientation (see `grouped_order`); None: no
            grouping.
        stream: see `TrainSamples`.
    """

    stays_on_cpu: ClassVar[tuple[str, ...]] = ("scale", "original")
    items: CocoImages

    def __init__(
        self,
        images: CocoImages,
        view: DetectionView,
        seed: int,
        group_size: int | None = None,
        stream: str = "train",
    ):
        super().__init__(images, seed, stream)
        self.view, self.group_size = view, group_size

    def epoch_order(self, epoch: int) -> np.ndarray:
        if self.group_size is None:
            return super().epoch_order(epoch)
        height, width = self.items.sizes.T
        return grouped_order(self._generator(epoch), width >= height, self.group_size, epoch * len(self))

    def read(self, item: CocoItem, rng: np.random.Generator) -> dict[str, Any]:
        return _entries(self.view(self._sample(item), rng), item)

    def as_in_file(self, index: int) -> dict[str, Any]:
        """What `read` gives for item `index`, before any transform; for display. Raises ImageError."""
        item = self.items[index]
        return _entries(self._sample(item), item)

    def read_whole(self, item: CocoItem, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(np.array(read_coco_image(item)))[None]

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return list_of_samples(samples, stacked=("scale", "original"))

    def _sample(self, item: CocoItem) -> Sample:
        image, objects = read_coco_image(item), self.items.objects(item.index)
        return make_sample(image, objects.boxes, objects.labels, objects.ignored, objects.masks)


def _entries(sample: Sample, item: CocoItem) -> dict[str, Any]:
    """A sample as the entries of a batch, plain tensors."""
    entries = {"images": sample.image, "boxes": sample.boxes, "labels": sample.labels, "ignored": sample.ignored}
    if sample.masks is not None:
        entries["masks"] = sample.masks
    entries = {name: value.as_subclass(torch.Tensor) for name, value in entries.items()}
    original = torch.tensor(item.size, dtype=torch.int64)
    return {**entries, "scale": torch.tensor(sample.scale, dtype=torch.float64), "original": original}


class DetectionImages(EvalSamples):
    """Images for the evaluation of a detector, or for prediction; see the top of this file and `EvalSamples`.

    Args:
        images: a set of `read_coco`, or a `FileList` of images alone (`datasets.images.find_images`).
        view: the fixed view; with several, `images` of a batch has all of an image one after another.
    """

    stays_on_cpu: ClassVar[tuple[str, ...]] = ("scale", "original")

    def __init__(self, images: CocoImages | FileList, view: EvalView):
        super().__init__(images)
        self.view = view

    def read(self, item: CocoItem | FileItem) -> dict[str, Any]:
        if isinstance(item, CocoItem):
            image = read_coco_image(item)
        else:
            image = read_image(item.path, self.items.contents.get(item.index))
        sample = make_sample(image)
        views = [view.as_subclass(torch.Tensor) for view in self.view(sample.image)]
        size, seen = sample.size, views[0].shape[-2:]
        scale = torch.tensor([seen[1] / size[1], seen[0] / size[0]], dtype=torch.float64)
        return {"images": views, "scale": scale, "original": torch.tensor(size, dtype=torch.int64)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        samples = [{name: value for name, value in sample.items() if name != "label"} for sample in samples]
        batch = list_of_samples(samples, stacked=("scale", "original"))
        return {**batch, "images": [view for views in batch["images"] for view in views]}
