"""Samples for segmentation: images of any size with a label map each, in lists.

A batch for training has `images`, a list of uint8 [3, h, w], and `label_maps`, uint8 [h, w] each, 255 where ignored.
One for evaluation has the views of the images, `label_maps` at the size of the files, and `original`, int64 [B, 2],
(H, W) of the files; for images without labels there are no `label_maps`.
"""

from typing import Any, ClassVar

import numpy as np
import torch

from datasets.dense.detection_samples import list_of_samples
from datasets.dense.label_maps import LabelMapFiles, LabelMapItem
from datasets.dense.transforms import Sample, make_sample
from datasets.dense.views import EvalView, SegmentationView
from datasets.file_list import FileItem, FileList
from datasets.image_file import read_image
from datasets.samples import EvalSamples, TrainSamples


class SegmentationSamples(TrainSamples):
    """Training samples for segmentation; see the top of this file and `TrainSamples`.

    Args:
        files: images and label maps.
        view: the random view.
        seed: the run's seed.
        stream, weights: see `TrainSamples`.
    """

    items: LabelMapFiles

    def __init__(
        self,
        files: LabelMapFiles,
        view: SegmentationView,
        seed: int,
        stream: str = "train",
        weights: np.ndarray | None = None,
    ):
        super().__init__(files, seed, stream, weights=weights)
        self.view = view

    def read(self, item: LabelMapItem, rng: np.random.Generator) -> dict[str, Any]:
        return _entries(self.view(self._sample(item), rng))

    def as_in_file(self, index: int) -> dict[str, Any]:
        """What `read` gives for item `index`, before any transform; for display. Raises ImageError."""
        return _entries(self._sample(self.items[index]))

    def read_whole(self, item: LabelMapItem, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(np.array(read_image(item.path)))[None]

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return list_of_samples(samples, stacked=())

    def _sample(self, item: LabelMapItem) -> Sample:
        image = read_image(item.path)
        return make_sample(image, label_map=self.items.read_labels(item, image.size[::-1]))


def _entries(sample: Sample) -> dict[str, Any]:
    parts = {"images": sample.image, "label_maps": sample.label_map}
    return {name: value.as_subclass(torch.Tensor) for name, value in parts.items()}


class SegmentationImages(EvalSamples):
    """Images for the evaluation of a segmentor, or for prediction; see the top of this file and `EvalSamples`.

    Args:
        files: images and label maps, or a `FileList` of images alone (`datasets.images.find_images`).
        view: the fixed view; with several, `images` of a batch has all of an image one after another.
    """

    stays_on_cpu: ClassVar[tuple[str, ...]] = ("original",)

    def __init__(self, files: LabelMapFiles | FileList, view: EvalView):
        super().__init__(files)
        self.view = view

    def read(self, item: LabelMapItem | FileItem) -> dict[str, Any]:
        is_labeled = isinstance(item, LabelMapItem)
        image = read_image(item.path, None if is_labeled else self.items.contents.get(item.index))
        sample = make_sample(image)
        entries = {"images": [view.as_subclass(torch.Tensor) for view in self.view(sample.image)]}
        entries["original"] = torch.tensor(sample.size, dtype=torch.int64)
        if is_labeled:
            entries["label_maps"] = torch.from_numpy(self.items.read_labels(item, sample.size))
        return entries

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        samples = [{name: value for name, value in sample.items() if name != "label"} for sample in samples]
        batch = list_of_samples(samples, stacked=("original",))
        return {**batch, "images": [view for views in batch["images"] for view in views]}
