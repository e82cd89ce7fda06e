"""Recipes of detection and segmentation on a few made pictures, small enough to train in a second."""

import copy
from pathlib import Path
from typing import Any

import torch

from datasets.synthetic.scene_shapes import make_scene_shapes
from engine.distributed import Ranks
from settings import parse_settings
from tasks import find_task

SIZE = 48  # of the pictures' shorter side, in pixels; the longer one has 64
ODD = 45  # shorter side in evaluation: 45 x 60
BACKBONES = ("hornet_debug_7x7", "eurnet_debug", "glnet_debug", "eat_debug", "glore_resnet_debug", "timm/test_resnet")
SMALL_DETECTOR = {
    "channels": 16, "fc_channels": 16, "mask_convs": 1, "norm": "group", "anchor_scale": 4, "rpn_samples": 16,
    "region_samples": 8, "level_proposals": 16, "test_level_proposals": 16, "proposals": 8, "test_proposals": 8,
    "max_detections": 5, "score_threshold": 0.0,
}  # fmt: skip
SMALL_SEGMENTOR = {"channels": 16, "auxiliary_channels": 8, "norm": "group"}


def make_scenes(folder: Path, num_train: int = 6, num_val: int = 5) -> Path:
    """With a crowd and a picture without objects for validation."""
    return make_scene_shapes(folder, num_train, num_val, seed=5, size=SIZE)


def segmentation_recipe(folder: Path, backbone: str = "hornet_debug_7x7") -> dict[str, Any]:
    """4 steps, an evaluation at the end, checkpoints at steps 2 and 4."""
    return {
        "task": "segmentation",
        "model": {"backbone": backbone, "head": "upernet", "head_options": SMALL_SEGMENTOR},
        "data": {
            "train": f"{folder}/train.txt",
            "val": f"{folder}/val.txt",
            "class_names": f"{folder}/mapping_table.txt",
            "train_view": {"short_side": SIZE, "scale": [0.9, 1.2], "crop": [41, 57]},
            "val_view": {"short_side": ODD},
            "num_workers": 0,
        },
        **_training(),
    }


def detection_recipe(folder: Path, backbone: str = "hornet_debug_7x7") -> dict[str, Any]:
    """The same for objects."""
    return {
        "task": "detection",
        "model": {"backbone": backbone, "head": "mask_rcnn", "head_options": SMALL_DETECTOR},
        "data": {
            "train": f"{folder}/instances_train.json",
            "root": f"{folder}/images/train",
            "val": f"{folder}/instances_val.json",
            "val_root": f"{folder}/images/val",
            "train_view": {"short_sides": [41, 50], "max_long_side": 80, "crop": None},
            "val_view": {"short_side": ODD},
            "num_workers": 0,
        },
        **_training(),
    }


def _training() -> dict[str, Any]:
    return {
        "optimizer": {"name": "adamw", "lr": 0.001},
        "train": {
            "num_epochs": 2, "batch_size": 3, "checkpoint_every_steps": 2, "log_every_steps": 1,
            "evaluate_every_epochs": 2,
        },
        "evaluation": {"images_per_forward": 2},
        "run": {"device": "cpu", "num_threads": 1},
    }  # fmt: skip


RECIPES = {"segmentation": segmentation_recipe, "detection": detection_recipe}


def make_task(recipe: dict[str, Any], **changes: Any) -> Any:
    """The task of a recipe on one rank, with changed settings: `data__val=...`."""
    recipe = copy.deepcopy(recipe)
    for key, value in changes.items():
        *sections, name = key.split("__")
        place = recipe
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    task_class = find_task(recipe, "a test")
    return task_class(parse_settings(task_class.Settings, recipe), Ranks(0, 1, torch.device("cpu")))
