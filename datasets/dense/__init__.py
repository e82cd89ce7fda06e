"""Images for detection and segmentation, from the file to a batch.

detection      COCO json -> `coco` -> `detection_samples` (`views`, `transforms`) -> dataloader -> device -> `batches`
segmentation   list, folders, ADE20K, Cityscapes -> `label_maps` -> `segmentation_samples` -> the same
"""

from datasets.dense.batches import normalize_and_pad, pad_label_maps
from datasets.dense.coco import CocoImages, read_coco, with_objects
from datasets.dense.detection_samples import DetectionImages, DetectionSamples
from datasets.dense.label_maps import LabelMapFiles, read_label_maps
from datasets.dense.photometric import PhotometricSettings
from datasets.dense.segmentation_samples import SegmentationImages, SegmentationSamples
from datasets.dense.views import (
    DetectionView,
    DetectionViewSettings,
    EvalView,
    EvalViewSettings,
    RangeCropSettings,
    SegmentationView,
    SegmentationViewSettings,
)

__all__ = [
    "CocoImages", "DetectionImages", "DetectionSamples", "DetectionView", "DetectionViewSettings", "EvalView",
    "EvalViewSettings", "LabelMapFiles", "PhotometricSettings", "RangeCropSettings", "SegmentationImages",
    "SegmentationSamples", "SegmentationView", "SegmentationViewSettings", "normalize_and_pad", "pad_label_maps",
    "read_coco", "read_label_maps", "with_objects",
]  # fmt: skip
