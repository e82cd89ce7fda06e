"""Reads an image file as 8-bit RGB, the same way for images and for folders of frames.

Pillow decodes, but clips values of more than 8 bits. So gray values are converted to 8 bits by their format's range:

    16 bits   the high byte, as Pillow does for 16-bit colors; 12 bits of a TIFF likewise
      float     0 is black and 1 is white; other values, including NaN, are rejected
      others    signed integers and 32-bit integers have no agreed range: rejected

Images are turned upright according to EXIF. Transparency is dropped, keeping the colors under it, as timm and
torchvision do. Of an animation or a file with several pages, the first image is read.
"""

import os
import stat
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from datasets.file_list import FileError
from datasets.find_files import why_unopened

SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".bw", ".dds", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe"),
    *(".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".rgb", ".rgba"),
    *(".sgi", ".tga", ".tif", ".tiff", ".webp"),
)
"""Suffixes of images that Pillow's own wheel decodes, in lower case. AVIF needs Pillow 11.3."""

UNREAD_SUFFIXES = (".cr2", ".dng", ".exr", ".hdr", ".heic", ".heif", ".jxl", ".nef", ".raw", ".svg")
"""Suffixes of images that are not read, in lower case."""

MAX_PIXELS, MAX_SIDE = 100_000_000, 65_535
"""Larger images are rejected before they are decoded: a file of a few bytes can claim any size."""

MIN_16_BIT_WHITE = 4096
"""An image of 16 bits whose values all lie below holds 12 bits or fewer: the high byte is at most 15."""

_SCALE_DOWN = f"the limit is {MAX_PIXELS // 10**6} million, {MAX_SIDE:,} on a side; scale it down or cut it up"
_NO_RANGE = "which have no agreed black and white; save it with 8 or 16 bits, or as floats from 0 to 1"
_16_BIT_FORMATS = ("JPEG2000", "PNG", "PPM")  # they have no more than 16 bits, though Pillow may give 32
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's orientation; 1 is upright


class ImageError(FileError):
    """An image that cannot be read."""


def read_image(path: str, content: Any = None) -> Image.Image:
    """The image of a file: upright, in mode RGB, 8 bits per channel.

    With `content`, called `path` in messages, the image of an open binary file, a Pillow image, or an array or tensor,
    uint8 [H, W, 3].

    Raises ImageError if the file is missing, damaged, not an image, too large, or has values without a known black and
    white.
    """
    try:
        if content is not None and not hasattr(content, "read"):
            return _to_rgb(path, content.copy() if isinstance(content, Image.Image) else _from_pixels(path, content))
        if content is None:
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe would wait forever
                raise ImageError(path, "is not a regular file")
        with Image.open(path if content is None else content) as image:
            if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                raise ImageError(path, f"has {image.width} x {image.height} pixels; {_SCALE_DOWN}")
            return _to_rgb(path, image)
    except FileError:  # raised above, or by a time limit
        raise
    except FileNotFoundError as error:
        raise ImageError(path, why_unopened(path, error)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"has too many pixels; {_SCALE_DOWN}") from error
    except Exception as error:  # on damaged files, Pillow's decoders may raise anything
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0].removesuffix(f" {path!r}")
        raise ImageError(path, reason or type(error).__name__) from error


def is_turned(path: str) -> bool:
    """Whether the stored pixels are not upright according to EXIF, so that `read_image` rotates or mirrors them.

    Raises OSError if the file is not an image.
    """
    with Image.open(path) as image:
        return _orientation(image) in _TO_UPRIGHT


def range_fault(path: str) -> str:
    """What is wrong with the range of a gray image of 16 bits that `read_image` turns nearly black; "" if nothing."""
    with Image.open(path) as image:
        if not image.mode.startswith("I") or _num_bits(image) < 16:
            return ""
        highest = image.getextrema()[1]
    if not 0 < highest < MIN_16_BIT_WHITE:
        return ""
    return (
        f"holds 16-bit values of at most {highest}, which are read as nearly black, up to {highest >> 8} of 255; scale "
        "them to the whole range, or save the image with 8-bit values"
    )


def _num_bits(image: Image.Image) -> int:
    """Of a gray image of 12 or 16 bits."""
    return 12 if getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample) == (12,) else 16


def _from_pixels(path: str, content: Any) -> Image.Image:
    pixels = content.numpy(force=True) if hasattr(content, "detach") else np.asarray(content)  # a tensor, of a GPU too
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(path, f"is {pixels.dtype} {list(pixels.shape)}; expected an image, uint8 [H, W, 3]")
    return Image.fromarray(pixels)


def _to_rgb(path: str, image: Image.Image) -> Image.Image:
    image.load()
    transpose = _TO_UPRIGHT.get(_orientation(image))
    image.info.pop("transparency", None)  # of a palette: Pillow would warn that RGB has none
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if 2 in np.atleast_1d(tags.get(ExifTags.Base.SampleFormat, 1)):
        raise ImageError(path, f"holds signed numbers, {_NO_RANGE}")
    if image.mode == "F" or image.mode.startswith("I"):
        gray = _float_to_bytes(path, image) if image.mode == "F" else _integers_to_bytes(path, image)
        if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is 0; Pillow heeds it up to 8 bits
            np.subtract(255, gray, out=gray)
        image = Image.fromarray(gray)
    rgb = image.convert("RGB")
    return rgb if transpose is None else rgb.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1 where it is unknown or its bytes are damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged tag may raise anything, but affects no pixel
        return 1


def _integers_to_bytes(path: str, image: Image.Image) -> np.ndarray:
    """The 8 high bits of an image of 12 or 16 bits: uint8 [H, W]."""
    if image.mode == "I" and image.format not in _16_BIT_FORMATS:
        raise ImageError(path, f"holds whole numbers of 32 bits, {_NO_RANGE}")
    return (np.asarray(image) >> (_num_bits(image) - 8)).astype(np.uint8)


def _float_to_bytes(path: str, image: Image.Image) -> np.ndarray:
    """An image of floats from 0 to 1: uint8 [H, W]."""
    values = np.array(image)  # a copy
    low, high = values.min(), values.max()  # NaN if any value is
    if not (low >= 0 and high <= 1):
        found = "NaN" if np.isnan(low) else f"numbers from {low:g} to {high:g}"
        raise ImageError(path, f"holds {found}; expected floats from 0 (black) to 1 (white)")
    values *= 255
    return np.rint(values, out=values).astype(np.uint8)
