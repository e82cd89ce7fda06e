"""Image shapes: a small synthetic set of images whose class is the shape they show.

One large two-colored shape, at any position and slightly rotated, lies on a textured background, in a JPEG or PNG file.
It is the image counterpart of `motion_shapes`: an image network learns it in minutes, from real encoded files.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from datasets.synthetic.drawing import SHAPES, draw_background, draw_colors, draw_mask, draw_shape
from datasets.synthetic.folder import SPLITS, arguments_of, make_folder_once, write_lists
from settings import Settings

FORMATS = {".jpg": {"quality": 85}, ".png": {}}
PLACES = (0.25, 0.75)  # of a shape's center, as shares of the image's sides
SIZES = (0.7, 1)  # from the smallest to the largest of `drawing.RADII`
TURNS = (-0.05, 0.05)  # of a full turn
VERSION = 1  # of the whole set: a new number makes existing folders count as other data


class ImageShapesSettings(Settings):
    """The set that `make_image_shapes` makes."""

    num_train: int = Field(1200, gt=0, le=10_000_000, description="number of training images")
    num_val: int = Field(301, gt=0, le=10_000_000, description="number of validation images")
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    size: int = Field(72, ge=32, le=10_000, description="shorter side, in pixels")


def make_image_shapes(
    folder: str | Path, num_train: int = 1200, num_val: int = 301, seed: int = 0, size: int = 72
) -> Path:
    """Writes the set as encoded images, unless the folder has it already, and returns the folder.

        folder/train/<shape>/<shape>_<number>.jpg or .png       and the same under val/
        folder/train.txt, val.txt, mapping_table.txt            the lists and the class names

    Args:
        num_train, num_val: how many images; classes alternate, so their counts differ by at most one.
        seed: of all random numbers.
        size: shorter side in pixels; the longer side is equal or a third longer, landscape or portrait.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed, "size": size}

    def build(staging: Path) -> None:
        for split, num_images in zip(SPLITS, (num_train, num_val), strict=True):
            _make_split(staging, split, num_images, seed, size)

    return make_folder_once(folder, {"version": VERSION, **arguments}, build)


def _make_split(folder: Path, split: str, num_images: int, seed: int, size: int) -> None:
    labels = [index % len(SHAPES) for index in range(num_images)]
    paths = []
    for index, label in enumerate(labels):
        shape = list(SHAPES)[label]
        rng, suffix, sides = _draw_file(seed, split, index, size)
        path = f"{split}/{shape}/{shape}_{index:04d}{suffix}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_image(shape, rng, sides)).save(folder / path, **FORMATS[suffix])
        paths.append(path)
    write_lists(folder, split, list(SHAPES), labels, paths)


def _draw_file(seed: int, split: str, index: int, size: int) -> tuple[np.random.Generator, str, tuple[int, int]]:
    """Draws format and (height, width) of a file of the set; the generator then draws the image."""
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    suffix = str(rng.choice(list(FORMATS)))
    height, width = rng.permutation([size, rng.choice([size, size * 4 // 3])]).tolist()
    return rng, suffix, (height, width)


def mask_of_image(folder: str | Path, split: str, index: int) -> np.ndarray:
    """Where the shape is in image `index` of a set's list: float32 [H, W], the fraction of each pixel that it covers.

    Args:
        folder: a set of `make_image_shapes`.
        split: "train" or "val".
        index: row of the image in the list of the split, from 0.

    Raises:
        FileNotFoundError: the folder holds no such set.
    """
    arguments = arguments_of(folder)
    rng, _, sides = _draw_file(arguments["seed"], split, index, arguments["size"])
    _draw_background(rng, sides)
    phases, _ = _draw_place(rng)
    return draw_mask([(list(SHAPES)[index % len(SHAPES)], phases)], sides, num_frames=1)[0]


def draw_image(shape: str, rng: np.random.Generator, size: tuple[int, int] = (72, 96)) -> np.ndarray:
    """Draws one image of a shape: uint8 RGB [H, W, 3]; `size` is (H, W)."""
    canvas = _draw_background(rng, size)
    draw_shape(canvas, shape, *_draw_place(rng))
    return canvas[:, 0].round().astype(np.uint8).transpose(1, 2, 0)


def _draw_background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return draw_background(rng, size, num_frames=1, speeds=(0, 0))  # [3, 1, H, W]


def _draw_place(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Phases [1, 4] and colors [2, 3] of the shape."""
    x, y = rng.uniform(*PLACES, 2)
    radius, turn = rng.uniform(*SIZES), rng.uniform(*TURNS)
    return np.array([[x, y, radius, turn]]), draw_colors(rng)
