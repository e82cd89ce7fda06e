"""The image dataiter: from a list of files to uint8 images, which `datasets.dataloader` batches."""

from typing import Any

import numpy as np
import torch

from datasets.file_list import FileItem, FileList
from datasets.image_file import ImageError, read_image
from datasets.images.transforms import EvalImageView, TrainImageView
from datasets.samples import EvalViews, TrainSamples

__all__ = ["ImageError", "ImageViews", "TrainImages", "read_image"]


class TrainImages(TrainSamples):
    """Training images: `image`, uint8 [3, S, S]; see `TrainSamples`."""

    def __init__(
        self,
        files: FileList,
        view: TrainImageView,
        seed: int,
        stream: str = "train",
        repeats: int = 1,
        weights: np.ndarray | None = None,
    ):
        super().__init__(files, seed, stream, repeats, weights)
        self.view = view

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        return {"image": self.view(read_image(item.path), rng)}

    def read_whole(self, item: FileItem, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(np.array(read_image(item.path)))[None]


class ImageViews(EvalViews):
    """One view of each image for evaluation, uint8 [1, 3, S, S]; see `EvalViews`."""

    num_views = 1

    def __init__(self, files: FileList, view: EvalImageView):
        super().__init__(files)
        self.view = view

    def read_views(self, item: FileItem) -> torch.Tensor:
        return self.view(read_image(item.path, self.items.contents.get(item.index)))[None]
