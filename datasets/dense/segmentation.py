"""Masks of objects in the formats of COCO files: polygons, and run lengths with or without compression.

polygons       [[x1, y1, x2, y2, x3, y3, ...], ...], in pixels; several make up one mask
run lengths    {"size": [height, width], "counts": [n0, n1, ...]}: column by column, n0 zeros, n1 ones, ...
compressed     the same with "counts" as text
"""

from typing import Any

import numpy as np

from datasets.text_files import shorten

MIN_POLYGON = 6  # numbers: three corners


def segmentation_fault(segmentation: Any, size: tuple[int, int]) -> str:
    """What is wrong with a segmentation of an image of `size` (H, W); "" if nothing."""
    if isinstance(segmentation, list):
        return next(filter(None, map(_polygon_fault, segmentation)), "")
    if not isinstance(segmentation, dict):
        kind = type(segmentation).__name__
        return f"its segmentation is of type {kind}; expected a list of polygons, or run lengths (size and counts)"
    found, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(counts, str | list) or not isinstance(found, list) or len(found) != 2:
        return f"its segmentation is {shorten(segmentation)}; expected run lengths with size [height, width] and counts"
    if tuple(found) != tuple(size):
        return (
            f"its run lengths are of size {found[1]} x {found[0]}, but its image of {size[1]} x {size[0]}; "
            "size is [height, width], and both must be equal"
        )
    if isinstance(counts, str):  # COCO's own evaluation hangs on some that are damaged
        try:
            counts = read_counts(counts)
        except ValueError as error:
            return str(error)
    if not all(type(count) is int and count >= 0 for count in counts):
        return f"its run lengths are {shorten(counts)}; expected whole numbers from 0"
    if sum(counts) != size[0] * size[1]:
        return f"its run lengths add up to {sum(counts)} pixels, but its image has {size[0] * size[1]}"
    return ""


def _polygon_fault(polygon: Any) -> str:
    if not isinstance(polygon, list) or not all(type(number) in (int, float) for number in polygon):
        return f"a polygon is {shorten(polygon)}; expected a list of numbers x1, y1, x2, y2, ..."
    if len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers, an odd count; expected pairs x, y"
    if len(polygon) < MIN_POLYGON:
        return f"a polygon has {len(polygon)} numbers; expected at least {MIN_POLYGON}, three corners"
    return ""


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask of a segmentation without fault: uint8 [H, W], 0 or 1."""
    counts = _run_lengths(segmentation, size)
    values = np.arange(len(counts), dtype=np.uint8) % 2
    return np.ascontiguousarray(np.repeat(values, counts).reshape(size[::-1]).T)


def segmentation_area(segmentation: Any, size: tuple[int, int]) -> int:
    """The number of pixels in the mask of a segmentation without fault."""
    return sum(_run_lengths(segmentation, size)[1::2])


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> list[int]:
    """The counts of a segmentation without fault. pycocotools draws the polygons."""
    if isinstance(segmentation, list):
        from pycocotools import mask as coco_mask

        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        segmentation["counts"] = segmentation["counts"].decode("ascii")
    counts = segmentation["counts"]
    return read_counts(counts) if isinstance(counts, str) else counts


def read_counts(text: str) -> list[int]:
    """The run lengths in COCO's text. Raises ValueError if it ends within a number or has other characters.

    Each number is written in groups of 5 bits, the lowest first, one character (from "0") each, whose bit 5 says that
    more follow; the last bit is the sign. From the fourth number on it is the difference to that two before.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        group = ord(letter) - 48
        if not 0 <= group < 64:
            raise ValueError(f"its run lengths are damaged: the character {letter!r}")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift or not counts:
        raise ValueError("its run lengths are damaged: the text ends early")
    return counts


def box_of(mask: np.ndarray) -> list[int]:
    """The box of a mask that is not empty, as COCO writes it: x, y, width, height."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask bool [H, W] as COCO's compressed run lengths, fit for JSON."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
