"""Converts boxes in Pascal VOC's XML, and masks in which each object has its own value, to COCO format."""

import logging
import math
import os
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.dense.label_values import read_label_file
from datasets.dense.segmentation import box_of, encode_mask
from datasets.file_list import FileError
from datasets.find_files import is_passed_over
from datasets.image_file import SUFFIXES, read_image
from settings import did_you_mean

log = logging.getLogger(__name__)

VOID = 255
"""The value of borders around the objects of VOC."""


def coco_from_voc(
    annotations: Path, images: Path, names: Sequence[str] | None = None, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The boxes of XML files in COCO format; objects marked `difficult` become crowds, as they are not scored.

    VOC counts pixels from 1 and includes the last: the box 1, 1, 2, 2 is [0, 0, 2, 2] in COCO. Boxes without a pixel of
    the image are left out, and those that reach beyond it by more than a pixel are clipped, both with a warning.

    Args:
        annotations: folder of the XML files.
        images: folder of the images, which the XML files name.
        names: the files to use, without `.xml`, such as those of a list of VOC's ImageSets; None: all, sorted.
        class_names: the classes, in order of their category ids from 1; None: those that occur, sorted.

    Raises FileError for a file that is missing, not XML of this format, has an unknown class, states another size than
    its image has, or names the same image as another file.
    """
    names = sorted(path.stem for path in _files_of(annotations, ".xml")) if names is None else names
    if not names:
        raise FileError(annotations, "has no XML files")
    files = [(annotations / f"{name}.xml", _read_voc(annotations / f"{name}.xml")) for name in names]
    _check_named_images(files, images)
    found = sorted({kind for _, (_, _, objects) in files for kind, _, _ in objects})
    class_names = found if class_names is None else list(class_names)
    content, empty, cut = _new_content(class_names), [], []
    for path, (file_name, size, objects) in files:
        image = _add_image(content, images, file_name)
        _check_size(path, size, image)
        for kind, corners, is_difficult in objects:
            if kind not in class_names:
                reason = f"has an object of class {kind!r}, which is not one of the {len(class_names)} class names"
                raise FileError(path, reason + did_you_mean(kind, class_names))
            x1, y1, x2, y2 = corners
            shown = f"{path}: {kind}, xmin ymin xmax ymax {x1:g} {y1:g} {x2:g} {y2:g}"
            left, top = max(0.0, x1 - 1), max(0.0, y1 - 1)
            box = [left, top, min(x2, image["width"]) - left, min(y2, image["height"]) - top]
            if min(box[2:]) > 0:
                _add_annotation(content, image, class_names.index(kind), box, int(is_difficult))
                if max(-x1, -y1, x2 - 1 - image["width"], y2 - 1 - image["height"]) > 0:
                    cut.append(shown)
            else:
                empty.append(shown)
    if empty:
        log.warning("boxes without a pixel of their image, left out: %d, first %s", len(empty), empty[0])
    if cut:
        log.warning("boxes that reach beyond their image, cut at its border: %d, first %s", len(cut), cut[0])
    return content


def _files_of(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{suffix}") if not is_passed_over(path.name))


def _check_named_images(files: Sequence[tuple[Path, tuple[str, Any, Any]]], images: Path) -> None:
    """Raises FileError for an image that two files name; logs those that name another than the one of their own name.

    Renamed copies of XML files often name their old image.
    """
    stems = {image.stem for image in images.iterdir() if image.suffix.lower() in SUFFIXES}
    first: dict[str, Path] = {}
    others = []
    for path, (name, _, _) in files:
        if path.stem != Path(name).stem and path.stem in stems:
            others.append(f"{path}, which names {name}")
        if (earlier := first.setdefault(os.path.normpath(name), path)) is not path:
            raise FileError(
                path, f"names the image {name}, as {earlier} does; correct the filename in one, or remove it"
            )
    if others:
        log.warning(
            "XML files that name another image than that of their own name: %d, first %s", len(others), others[0]
        )


def _check_size(path: Path, size: tuple[int, int] | None, image: dict[str, Any]) -> None:
    found = image["width"], image["height"]
    if size not in (None, found):
        turned = ", turned upright as EXIF says; draw boxes on the upright image" if size == found[::-1] else ""
        said, there = (f"{width} x {height}" for width, height in (size, found))
        raise FileError(path, f"says that its image is {said}, but {image['file_name']} is {there}{turned}")


def _read_voc(path: Path) -> tuple[str, tuple[int, int] | None, list[tuple[str, list[float], bool]]]:
    """File name of the image, its width and height (None: not said), and its objects.

    Of an object: class, corners x1, y1, x2, y2, and whether it is difficult.
    """
    try:
        tree = ElementTree.parse(path).getroot()
        objects = []
        for entry in tree.iter("object"):
            corners = [float(entry.find("bndbox").find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")]
            if not all(map(math.isfinite, corners)):
                raise ValueError(f"a box is {corners}")
            objects.append((entry.find("name").text.strip(), corners, entry.findtext("difficult", "0").strip() == "1"))
        size = tuple(int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
        return tree.find("filename").text.strip(), size if min(size) > 0 else None, objects
    except FileNotFoundError:
        raise FileError(path, "does not exist") from None
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        reason = f"is not VOC's XML: expected filename, and objects with name and bndbox ({error})"
        raise FileError(path, reason) from None


def coco_from_instances(masks: Path, images: Path, category: str, suffix: str = "") -> dict[str, Any]:
    """Boxes and masks of one class from PNGs in which 0 is background and every other value is one object.

    255 is not an object if the other values are far below it: it is VOC's border around objects. PNGs may have 16 bits.

    Args:
        masks: folder of the PNGs.
        images: folder of the images: that of `a<suffix>.png` is `a`, with any suffix of an image.
        category: name of the class.
        suffix: suffix of the masks' names, such as `_mask`.

    Raises FileError for a mask without image or of another size, and for two images of one name.
    """
    content = _new_content([category])
    paths = [path for path in _files_of(masks, ".png") if path.stem.endswith(suffix)]
    if not paths:
        raise FileError(masks, f"has no PNG files{suffix and f' whose names end in {suffix}'}")
    by_stem: dict[str, str] = {}
    for image in sorted(set(images.iterdir()) - set(paths)):
        if image.suffix.lower() in SUFFIXES and not is_passed_over(image.name):
            if image.stem in by_stem:
                raise FileError(image, f"has the name of {by_stem[image.stem]}; which one do masks belong to?")
            by_stem[image.stem] = image.name
    composed = {unicodedata.normalize("NFC", stem): stem for stem in by_stem}
    with_border: list[Path] = []
    for path in paths:
        stem = path.stem.removesuffix(suffix)
        if stem not in by_stem:  # unless its accents are stored in another way, as on macOS
            stem = composed.get(unicodedata.normalize("NFC", stem), stem)
        if stem not in by_stem:
            raise FileError(path, f"has no image {stem} in {images}{did_you_mean(stem, by_stem, 0.8)}")
        image, values = _add_image(content, images, by_stem[stem]), read_label_file(str(path), takes_wide=True)
        if values.shape != (image["height"], image["width"]):
            found = f"{values.shape[1]} x {values.shape[0]}"
            raise FileError(path, f"is {found}, but its image is {image['width']} x {image['height']}")
        found = np.unique(values[values > 0]).tolist()
        if found[-1:] == [VOID] and len(found) > 1 and found[-2] != VOID - 1:
            found.pop()
            with_border.append(path)
        for value in found:
            mask = values == value
            _add_annotation(content, image, 0, box_of(mask), 0, encode_mask(mask), int(mask.sum()))
    if with_border:
        log.warning(
            "%d is taken for a border, and no object, in %d PNGs, first %s", VOID, len(with_border), with_border[0]
        )
    return content


def split_content(content: dict[str, Any], rows: Iterable[int]) -> dict[str, Any]:
    """The part of a file in COCO format for some of its images, by their rows."""
    images = [content["images"][row] for row in rows]
    ids = {image["id"] for image in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    return {**content, "images": images, "annotations": annotations}


def _new_content(class_names: Sequence[str]) -> dict[str, Any]:
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]
    return {"images": [], "annotations": [], "categories": categories}


def _add_image(content: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    size = read_image(str(folder / name)).size  # upright, as training reads it
    image = {"id": len(content["images"]) + 1, "file_name": name, "width": size[0], "height": size[1]}
    content["images"].append(image)
    return image


def _add_annotation(content, image, label, box, iscrowd, segmentation=None, area=None) -> None:
    entry = {"id": len(content["annotations"]) + 1, "image_id": image["id"], "category_id": label + 1, "bbox": box}
    entry |= {"area": box[2] * box[3] if area is None else area, "iscrowd": iscrowd}
    content["annotations"].append(entry if segmentation is None else {**entry, "segmentation": segmentation})
