"""Images, from the file to a batch.

image file -> list -> dataiter -> transforms -> dataloader -> device -> pixels (normalize, erase, mix)
"""

from datasets.image_file import ImageError
from datasets.images.dataiter import ImageViews, TrainImages
from datasets.images.lists import find_images, read_images
from datasets.images.pixels import EraseSettings, Pixels, PixelSettings
from datasets.images.token_labels import TokenLabelImages, TokenLabelSettings, TokenLabelView, token_targets
from datasets.images.transforms import EvalImageView, EvalImageViewSettings, TrainImageView, TrainImageViewSettings

__all__ = [
    "EraseSettings", "EvalImageView", "EvalImageViewSettings", "ImageError", "ImageViews", "PixelSettings", "Pixels",
    "TokenLabelImages", "TokenLabelSettings", "TokenLabelView", "TrainImageView", "TrainImageViewSettings",
    "TrainImages", "find_images", "read_images", "token_targets",
]  # fmt: skip
