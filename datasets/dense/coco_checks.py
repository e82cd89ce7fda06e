"""Faults of a file in COCO format, one function per part; all messages name the entry and what is expected.

Reading such a file stops at the first fault; `tools/check_images.py` lists all of them.
"""

import math
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from datasets.dense.segmentation import segmentation_fault
from datasets.image_file import MAX_PIXELS
from datasets.text_files import shorten

PARTS = ("images", "annotations", "categories")
CORNERS_HINT = "; are they x1, y1, x2, y2? COCO's are x, y, width, height"
MIN_SIDE = 1  # of a box, in pixels: a smaller one is degenerate


def top_fault(content: Any) -> str:
    """What is wrong with the file's parts as a whole; "" if nothing."""
    if not isinstance(content, dict):
        kind = {list: "a list"}.get(type(content), type(content).__name__)
        return f"is {kind}; expected COCO format, an object with {', '.join(PARTS)}"
    missing = [name for name in PARTS if name not in content]
    if missing:
        return (
            f"has no {' and no '.join(missing)}, but {shorten(sorted(content))}; expected COCO format, an object with "
            f"the lists {', '.join(PARTS)}"
        )
    for name in PARTS:
        entries = content[name]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return f"{name} is {shorten(entries)}; expected a list of objects"
    return ""


def image_faults(images: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """(position, fault) of each image entry that has one."""
    seen: set[int] = set()
    for position, image in enumerate(images):
        if not is_id(image.get("id")) or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            yield position, f"image {shorten(image)}: expected a whole number as id, and a file_name"
        elif not all(type(image.get(side)) is int and image[side] > 0 for side in ("height", "width")):
            yield position, f"image {image['id']}: expected height and width in pixels; found {shorten(image)}"
        elif image["height"] * image["width"] > MAX_PIXELS:
            found = f"{image['width']} x {image['height']} pixels"
            yield position, f"image {image['id']}: it is of {found}; the limit is {MAX_PIXELS // 10**6} million"
        elif image["id"] in seen:
            yield position, f"image id {image['id']} appears twice; ids must differ"
        else:
            seen.add(image["id"])


def repeated_images(images: list[dict[str, Any]]) -> dict[int, int]:
    """Id of each image whose file an earlier one has -> the id of the first.

    To each of them, the objects of the others are background.
    """
    first: dict[str, int] = {}
    firsts = {image["id"]: first.setdefault(os.path.normpath(image["file_name"]), image["id"]) for image in images}
    return {number: earlier for number, earlier in firsts.items() if number != earlier}


def category_fault(categories: list[dict[str, Any]]) -> str:
    """What is wrong with the categories; "" if nothing."""
    ids, names = set(), set()
    for category in categories:
        number, name = category.get("id"), category.get("name")
        if not is_id(number) or not isinstance(name, str) or not name.strip():
            return f"category {shorten(category)}: expected a whole number as id, and a name"
        if number in ids or name in names:
            return (
                f"category {number} {name!r}: its {'id' if number in ids else 'name'} appears twice; both must differ"
            )
        ids.add(number), names.add(name)
    return "" if categories else "has no categories; expected at least one, with id and name"


def annotation_fault(
    annotation: dict[str, Any],
    sizes: Mapping[int, tuple[int, int]],
    categories: Collection[int],
    needs_masks: bool = False,
) -> str:
    """What is wrong with an annotation; "" if nothing.

    Args:
        annotation: the entry.
        sizes: id of an image -> (H, W).
        categories: ids of the categories.
        needs_masks: whether it must have a segmentation, which is then checked as well.
    """
    if not _is_known(annotation.get("image_id"), sizes):
        return f"it is of image {shorten(annotation.get('image_id'))}, which is not among the images"
    if not _is_known(annotation.get("category_id"), categories):
        return f"its category_id is {shorten(annotation.get('category_id'))}, which is not among the categories"
    if fault := box_fault(annotation.get("bbox")):
        return fault
    if annotation.get("iscrowd", 0) not in (0, 1):
        return f"iscrowd is {shorten(annotation['iscrowd'])}; expected 0 or 1"
    area = annotation.get("area")
    if area is not None and (type(area) not in (int, float) or not math.isfinite(area)):
        return f"its area is {shorten(area)}; expected a number of pixels"
    if not needs_masks:
        return ""
    segmentation = annotation.get("segmentation")
    if segmentation is None or segmentation == []:
        return "it has no segmentation, but masks are learned; model.head_options.mask_convs=null learns boxes alone"
    return segmentation_fault(segmentation, sizes[annotation["image_id"]])


def is_id(number: Any) -> bool:
    """Whether it is an integer of up to 64 bits, as tables store them."""
    return type(number) is int and abs(number) < 2**63


def _is_known(number: Any, ids: Collection[int]) -> bool:
    return type(number) is int and number in ids


def box_fault(box: Any) -> str:
    """What is wrong with the form of a box; "" if nothing."""
    if not isinstance(box, list) or len(box) != 4 or not all(type(number) in (int, float) for number in box):
        return f"its bbox is {shorten(box)}; expected [x, y, width, height] in pixels"
    if not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        return f"its bbox is {box}; expected finite numbers, and a width and height of at least 0"
    return ""


def geometry_fault(box: list[float], size: tuple[int, int]) -> str:
    """What makes a box useless or suspicious in an image of `size` (H, W); "" if nothing.

    Reading tolerates these: boxes are clipped to their image, and those without an area are left out of training.
    """
    x, y, width, height = box
    if width < MIN_SIDE or height < MIN_SIDE:
        return f"its box is degenerate: {width:g} x {height:g} pixels"
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        return f"its box {box} is outside the image of {size[1]} x {size[0]}"
    if x < -1 or y < -1 or x + width > size[1] + 1 or y + height > size[0] + 1:
        return f"its box {box} reaches beyond the image of {size[1]} x {size[0]}"
    return ""
