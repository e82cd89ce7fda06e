"""Scene shapes: a small synthetic set for detection and segmentation, with the same images for all tasks.

Every image shows up to four two-colored shapes of the six kinds over a textured background; later shapes hide earlier
ones, and some are cut off by the image border. Masks and boxes are exact, for the visible parts. Some images have a
crowd, many small shapes of a kind that form one region (`iscrowd`); some are empty.

    detection      boxes of the six kinds                    COCO json
    instances      their masks, as run lengths               the same file
    segmentation   the class of each pixel, ground included  index PNGs, 255 where it is not defined

A shape that is nearly hidden (less than a quarter of it, or fewer than 24 pixels, visible) is not an object of the
json, and its pixels are 255, as are those of crowds and the one-pixel rim of each shape. Moving scenes: `scene_clips`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from datasets.class_table import class_table
from datasets.dense.segmentation import box_of, encode_mask
from datasets.synthetic.drawing import SHAPES, draw_background, draw_colors
from datasets.synthetic.folder import SPLITS, make_folder_once
from datasets.synthetic.image_shapes import FORMATS, TURNS
from datasets.synthetic.scenes import (
    CLASS_NAMES,
    SceneObject,
    categories,
    draw_scene_frames,
    label_map,
    size_phase,
    visible_masks,
)
from settings import Settings

NUM_SHAPES = (1, 4)  # fewest and most in a picture
RADII = (0.16, 0.34)  # of a shape, as shares of the picture's short side
CROWD_RADII = (0.05, 0.07)
NUM_OF_CROWD = (6, 10)
CROWD_SPREAD = 0.3  # of a crowd's members, in x and in y, as a share of the short side
PLACES = (0.04, 0.96)  # of a shape's center, as shares of the sides
EMPTY_SHARE, CROWD_SHARE, PORTRAIT_SHARE = 0.04, 0.1, 0.2  # of all pictures
VERSION = 1  # of the whole set: a new number makes existing folders count as other data


class SceneShapesSettings(Settings):
    """The set that `make_scene_shapes` makes."""

    num_train: int = Field(400, gt=0, le=10_000_000, description="number of training pictures")
    num_val: int = Field(100, gt=0, le=10_000_000, description="number of validation pictures")
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    size: int = Field(96, ge=48, le=10_000, description="shorter side, in pixels; the longer one is a third longer")


def make_scene_shapes(
    folder: str | Path, num_train: int = 400, num_val: int = 100, seed: int = 0, size: int = 96
) -> Path:
    """Writes the set as encoded images, unless the folder has it already, and returns the folder.

        folder/images/train/scene_<number>.jpg or .png        and the same under val/
        folder/labels/train/scene_<number>.png                the class of each pixel: 0 ground, 1 ... 6 kinds, 255
        folder/instances_train.json, instances_val.json       COCO; file names relative to folder/images/<split>
        folder/train.txt, val.txt                             image <tab> label map, relative to the folder
        folder/mapping_table.txt                              value of the label maps <tab> class name

    Args:
        num_train, num_val: how many pictures.
        seed: of all random numbers.
        size: shorter side in pixels; the longer side is a third longer, one picture in five is portrait.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    arguments = {"num_train": num_train, "num_val": num_val, "seed": seed, "size": size}

    def build(staging: Path) -> None:
        for split, num_images in zip(SPLITS, (num_train, num_val), strict=True):
            _make_split(staging, split, num_images, seed, size)
        (staging / "mapping_table.txt").write_text(class_table(CLASS_NAMES))

    return make_folder_once(folder, {"version": VERSION, "set": "scene_shapes", **arguments}, build)


def _make_split(folder: Path, split: str, num_images: int, seed: int, size: int) -> None:
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    images, annotations, lines = [], [], []
    for index in range(num_images):
        rng = np.random.default_rng((seed, SPLITS.index(split), index))
        suffix = str(rng.choice(list(FORMATS)))
        sides = (size, size * 4 // 3) if rng.random() >= PORTRAIT_SHARE else (size * 4 // 3, size)
        picture, labels, objects = draw_scene_picture(rng, sides)
        name = f"scene_{index:04d}"
        path, label_path = f"images/{split}/{name}{suffix}", f"labels/{split}/{name}.png"
        Image.fromarray(picture).save(folder / path, **FORMATS[suffix])
        Image.fromarray(labels).save(folder / label_path)
        images.append({"id": index + 1, "file_name": name + suffix, "height": sides[0], "width": sides[1]})
        for entry in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **entry})
        lines.append(f"{path}\t{label_path}\n")
    content = {"images": images, "annotations": annotations, "categories": categories()}
    (folder / f"instances_{split}.json").write_text(json.dumps(content))
    (folder / f"{split}.txt").write_text("".join(lines))


def draw_scene_picture(
    rng: np.random.Generator, size: tuple[int, int] = (96, 128)
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Draws one image of the set; `size` is (H, W).

    Returns:
        the picture, uint8 RGB [H, W, 3]; the class of each pixel, uint8 [H, W]; the objects, in the form of COCO's
        annotations without their ids.
    """
    background = draw_background(rng, size, num_frames=1, speeds=(0, 0))  # [3, 1, H, W]
    objects = _draw_objects(rng, size)
    visible, is_object = visible_masks(objects, size, num_frames=1)
    visible, is_object = visible[:, 0], is_object[:, 0]
    entries = [
        {
            "category_id": 1 + list(SHAPES).index(thing.kind),
            "bbox": box_of(mask),
            "area": int(mask.sum()),
            "segmentation": encode_mask(mask),
            "iscrowd": int(thing.is_crowd),
        }
        for thing, mask, counts in zip(objects, visible, is_object, strict=True)
        if counts
    ]
    return draw_scene_frames(background, objects)[0], label_map(objects, visible, is_object), entries


def _draw_objects(rng: np.random.Generator, size: tuple[int, int]) -> list[SceneObject]:
    if rng.random() < EMPTY_SHARE:
        return []
    objects = [_draw_crowd(rng, size)] if rng.random() < CROWD_SHARE else []
    for _ in range(rng.integers(*NUM_SHAPES, endpoint=True)):
        x, y = rng.uniform(*PLACES, 2)
        phases = np.array([[x, y, size_phase(rng.uniform(*RADII)), rng.uniform(*TURNS)]])
        objects.append(SceneObject(str(rng.choice(list(SHAPES))), [phases], [draw_colors(rng)]))
    return objects


def _draw_crowd(rng: np.random.Generator, size: tuple[int, int]) -> SceneObject:
    """Many small shapes of one kind around a point, behind all others."""
    kind, count = str(rng.choice(list(SHAPES))), rng.integers(*NUM_OF_CROWD, endpoint=True)
    center, spread = rng.uniform(0.25, 0.75, 2), CROWD_SPREAD * min(size) / np.array(size[::-1])
    phases = []
    for _ in range(count):
        x, y = center + rng.uniform(-0.5, 0.5, 2) * spread * 2
        phases.append(np.array([[x, y, size_phase(rng.uniform(*CROWD_RADII)), rng.uniform(*TURNS)]]))
    return SceneObject(kind, phases, [draw_colors(rng) for _ in phases], is_crowd=True)
