"""Finds faults in a set of images, boxes, masks and label maps, without stopping at the first.

A check of a file never raises. The faults of a COCO file itself come from `coco_checks`; boxes that reading would clip
or leave out are faults here, because they are usually mistakes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.dense.coco_checks import (
    CORNERS_HINT,
    annotation_fault,
    category_fault,
    geometry_fault,
    image_faults,
    repeated_images,
    top_fault,
)
from datasets.dense.label_maps import LabelMapFiles
from datasets.dense.label_values import IGNORED, LabelValues, read_label_file
from datasets.dense.segmentation import box_of, decode_segmentation
from datasets.file_list import FileError
from datasets.image_file import is_turned, range_fault, read_image
from datasets.text_files import read_json

MIN_OVERLAP, FITS = 0.5, 0.9  # intersection over union of a box and that of its mask: to be no fault; to be the same
MAX_PIXELS_OFF = 2  # in any of a box's numbers; then its overlap does not matter: small boxes are rarely exact


@dataclass(frozen=True)
class Entry:
    """One image to check, with what its set says about it.

    Args:
        path: of the image.
        size: (H, W) according to the set; None: not given.
        label_path: of its label map, or None.
        values: the values that the label map may have.
          num_objects: number of annotations.
          annotations: those with a mask and without a known fault.
          faults: those known before the image is read.
    """

    path: str
    size: tuple[int, int] | None = None
    label_path: str | None = None
    values: LabelValues | None = None
    num_objects: int = 0
    annotations: tuple[dict[str, Any], ...] = ()
    faults: tuple[str, ...] = ()


def coco_entries(path: Path, root: Path) -> Iterator[Entry]:
    """The images of a COCO file, each with the faults of its own entry and annotations.

    Raises ValueError if the file has no images, annotations or categories to speak of.
    """
    content = read_json(path)
    if fault := top_fault(content) or category_fault(content["categories"]):
        raise ValueError(f"{path}: {fault}")
    if not content["images"]:
        raise ValueError(f"{path} lists no images; expected at least one")
    bad = dict(image_faults(content["images"]))
    images = [image for position, image in enumerate(content["images"]) if position not in bad]
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    categories = {category["id"] for category in content["categories"]}
    annotations: dict[int, list[dict[str, Any]]] = {number: [] for number in sizes}
    for number, annotation in enumerate(content["annotations"]):
        if type(annotation.get("image_id")) is int and annotation["image_id"] in sizes:
            annotations[annotation["image_id"]].append(annotation)
        else:
            name = annotation.get("id", number)
            yield Entry(str(path), faults=(f"annotation {name}: {annotation_fault(annotation, sizes, categories)}",))
    for fault in bad.values():
        yield Entry(str(path), faults=(fault,))
    repeated = repeated_images(images)
    for image in images:
        own = annotations[image["id"]]
        faults = [_annotation_fault(entry, sizes, categories) for entry in own]
        good = tuple(entry for entry, fault in zip(own, faults, strict=True) if not fault and entry.get("segmentation"))
        if image["id"] in repeated:
            faults.append(f"image {image['id']}: it is the file of image {repeated[image['id']]}; list each file once")
        yield Entry(
            str(root / image["file_name"]), sizes[image["id"]],
            num_objects=len(own), annotations=good, faults=tuple(filter(None, faults)),
        )  # fmt: skip


def _annotation_fault(annotation: dict[str, Any], sizes: dict[int, tuple[int, int]], categories: set[int]) -> str:
    size = sizes[annotation["image_id"]]
    fault = annotation_fault(annotation, sizes, categories, bool(annotation.get("segmentation")))
    fault = fault or geometry_fault(annotation["bbox"], size)
    return f"annotation {annotation.get('id', '?')}: {fault}" if fault else ""


def _mask_fault(annotation: dict[str, Any], size: tuple[int, int]) -> str:
    """Faults that show only when a mask is decoded."""
    mask = decode_segmentation(annotation["segmentation"], size)
    fault = _misplaced_fault(annotation["bbox"], box_of(mask)) if mask.any() else "its mask is empty"
    return f"annotation {annotation.get('id', '?')}: {fault}" if fault else ""


def _misplaced_fault(box: list[float], mask_box: list[int]) -> str:
    """What is wrong with a box x, y, width, height, given that of its mask; "" if nothing."""
    x, y, width, height = box
    overlap, as_corners = _overlap(box, mask_box), _overlap([x, y, width - x, height - y], mask_box)
    are_corners = as_corners > FITS > overlap
    if (overlap >= MIN_OVERLAP and not are_corners) or np.abs(np.subtract(box, mask_box)).max() <= MAX_PIXELS_OFF:
        return ""
    hint = CORNERS_HINT if are_corners else ""
    return f"its box {box} and that of its mask, {mask_box}, overlap by {100 * overlap:.0f} %{hint}"


def _overlap(box: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes x, y, width, height; 0 if a side is not positive."""
    sides = [min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i]) for i in (0, 1)]
    if min(*sides, *box[2:]) <= 0:
        return 0.0
    shared = sides[0] * sides[1]
    return shared / (box[2] * box[3] + other[2] * other[3] - shared)


def label_map_entries(files: LabelMapFiles) -> Iterator[Entry]:
    """The images of a set with label maps."""
    for item in files:
        yield Entry(item.path, label_path=item.label_path, values=files.values)


def check_entry(entry: Entry) -> dict[str, Any]:
    """The findings: path, width, height, turned, objects (annotations, or classes of a label map), list of faults; for
    a label map also pixels, int64 [256], how often each label and `IGNORED` occur.

    `turned` is 1 if the stored pixels are not upright according to EXIF: labels must be drawn on the upright image.
    """
    row: dict[str, Any] = {"path": entry.path, "objects": entry.num_objects}
    if entry.faults and entry.size is None and entry.label_path is None:  # about the set, not about an image
        return {**row, "objects": "", "faults": list(entry.faults)}
    faults = [*entry.faults, *filter(None, (_mask_fault(item, entry.size) for item in entry.annotations))]
    try:
        image = read_image(entry.path)
        row |= {"width": image.width, "height": image.height, "turned": int(is_turned(entry.path))}
        if entry.size is not None and image.size != entry.size[::-1]:
            stated = f"{entry.size[1]} x {entry.size[0]}"
            faults.insert(0, f"is {image.width} x {image.height} pixels, but its entry says {stated}")
        if fault := range_fault(entry.path):
            faults.append(fault)
        if entry.label_path is not None:
            row["pixels"] = _count_labels(entry, image.size[::-1])
            row["objects"] = np.count_nonzero(row["pixels"][:IGNORED])
    except FileError as error:
        shown = f"{error.path}: {error.reason}" if error.path != entry.path else error.reason
        faults.insert(0, shown)
    except Exception as error:  # whatever happens with one file, the others are still checked
        faults.insert(0, f"cannot be checked: {type(error).__name__}: {error}")
    return {**row, "faults": faults}


def _count_labels(entry: Entry, size: tuple[int, int]) -> np.ndarray:
    """How often each label occurs in its label map: int64 [256]. Raises ImageError."""
    stored = read_label_file(entry.label_path)
    if stored.shape != size:
        reason = f"is {stored.shape[1]} x {stored.shape[0]}, but its image is {size[1]} x {size[0]}"
        raise FileError(entry.label_path, reason)
    counts = np.bincount(entry.values(stored, entry.label_path).flat, minlength=256)
    if not counts[:IGNORED].any():
        raise FileError(entry.label_path, "ignores every pixel")
    return counts
