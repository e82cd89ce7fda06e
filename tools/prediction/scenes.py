"""Draws what a detector or segmentor finds in images and videos, for tools/predict.py --output.

FOLDER/NAME.png            the image with boxes and masks, or the classes of its pixels, drawn on it
FOLDER/NAME_classes.png    the class of each pixel, as its number (segmentors)
FOLDER/NAME.mp4            the video, frame by frame
FOLDER/predictions.jsonl   a line for each image or frame: its path, what is in it, or why there is no prediction
"""

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image

from datasets.file_list import FileError, Given
from datasets.image_file import read_image
from datasets.images.lists import IMAGES
from datasets.video import find_videos
from datasets.video.lists import VIDEOS
from engine.progress import progress_bar
from engine.task import Draws, Seen
from inference import Predictor
from inference.overlay import rewrite_video
from settings import SettingsError
from tools.common.output_files import check_folder
from tools.prediction.rows import exit_status, open_predictor, show_failure

log = logging.getLogger(__name__)

JSON_LINES = "predictions.jsonl"


def predict_scenes(args: argparse.Namespace) -> int:
    """Writes the pictures of all inputs of the command -> its exit status."""
    folder: Path = args.output
    check_folder(folder, "choose another one with --output")
    predictor = open_predictor(args)
    task = predictor.task
    if not isinstance(task, Draws):
        raise SettingsError(
            f"--output draws what a detector or segmentor finds, but this network is for {task.settings.task}; "
            "leave it out, or use --timeline or --overlay for videos"
        )
    videos, places = _split(args.places)
    if (args.smooth or args.track) and not videos:
        raise SettingsError("--smooth and --track are for videos, and there is none among the files")
    images = predictor.find_inputs(places) if places else []
    names = _names([*(item.path for item in images), *videos])
    task.over_time(args.smooth, args.track)  # says at once if the task cannot do it
    folder.mkdir(parents=True, exist_ok=True)
    num_failed = 0
    with open(folder / JSON_LINES, "w", encoding="utf-8") as lines:
        if images:
            num_failed += _draw_images(predictor, images, names, folder, lines)
        for video in videos:
            num_failed += not _draw_video(predictor, video, folder / f"{names[video]}.mp4", lines, args)
    log.info("%s: pictures, and %s", folder, JSON_LINES)
    return exit_status(len(names), num_failed)


def _split(places: Sequence[str]) -> tuple[list[str], list[str]]:
    """The videos among the places, also in folders, and the other places; a folder of videos alone is none of these."""
    videos, others = [], []
    for place in places:
        if os.path.isdir(place):
            held = [path for path in sorted(Path(place).rglob("*")) if path.is_file()]
            found = [str(path) for path in held if path.suffix.lower() in VIDEOS.suffixes]
            videos += found
            if not found or any(path.suffix.lower() in IMAGES.suffixes for path in held):
                others.append(place)
        elif Path(place).suffix.lower() in VIDEOS.suffixes:
            videos += [item.path for item in find_videos([place])]  # raises if there is no such file
        else:
            others.append(place)
    return videos, others


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A name for the files of each input: that of the input, with a number behind it if another has the same."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        stem = name = Path(path).stem
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        names[path] = name
        taken.add(name)
    return names


def _draw_images(
    predictor: Predictor, images: Sequence[Any], names: dict[str, str], folder: Path, lines: TextIO
) -> int:
    """Draws images -> for how many there is no prediction."""
    task, num_failed = predictor.task, 0
    with progress_bar(len(images), 0, task.ranks, "predicting", "image") as bar:
        for seen in task.see(predictor.model, images, one_by_one=task.ranks.device.type == "cpu"):
            _add_line(lines, task, seen)
            bar.update()
            if seen.failure:
                show_failure(seen.path, seen.failure)
                num_failed += 1
                continue
            name, pixels = names[seen.path], np.array(read_image(seen.path))
            drawn = task.draw(torch.from_numpy(pixels).movedim(2, 0), seen.outputs)
            Image.fromarray(drawn.movedim(0, 2).numpy()).save(folder / f"{name}.png")
            for kind, values in task.maps(seen.outputs).items():
                Image.fromarray(values.cpu().numpy()).save(folder / f"{name}_{kind}.png")
    return num_failed


def _draw_video(predictor: Predictor, path: str, target: Path, lines: TextIO, args: argparse.Namespace) -> bool:
    """Draws every frame of a video -> whether it could be read."""
    task, follow = predictor.task, predictor.task.over_time(args.smooth, args.track)
    with progress_bar(0, 0, task.ranks, os.path.basename(path), "frame") as bar:
        try:
            rewrite_video(path, target, _frame_drawer(predictor, path, follow, lines, bar.update))
        except FileError as error:
            show_failure(path, error.reason)
            return False
    return True


def _frame_drawer(
    predictor: Predictor,
    path: str,
    follow: Callable[[Any], Any],
    lines: TextIO,
    count: Callable[[], Any],
) -> Callable[[np.ndarray, float], np.ndarray]:
    task, number = predictor.task, 0

    def draw(pixels: np.ndarray, seconds: float) -> np.ndarray:
        nonlocal number
        frame = task.find_inputs([Given(path, pixels)])
        (seen,) = task.see(predictor.model, frame)
        if not seen.failure:
            seen = seen._replace(outputs=follow(seen.outputs))
        _add_line(lines, task, seen, frame=number, seconds=round(seconds, 6))
        number += 1
        count()
        if seen.failure:
            return pixels
        drawn = task.draw(torch.from_numpy(np.ascontiguousarray(pixels)).movedim(2, 0), seen.outputs)
        return np.ascontiguousarray(drawn.movedim(0, 2).numpy())

    return draw


def _add_line(lines: TextIO, task: Draws, seen: Seen, **where: float) -> None:
    found = {"failure": seen.failure} if seen.failure else task.facts(seen.outputs)
    lines.write(json.dumps({"path": seen.path, **where, **found}) + "\n")
