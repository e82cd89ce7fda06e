"""Draws what a detector or segmentor finds in images and videos, for tools/predict.py --output.

FOLDER/NAME.png            the image with boxes and masks, or pixel classes, drawn on it
FOLDER/NAME_classes.png    the class number of each pixel (segmentors)
FOLDER/NAME.mp4            the video, frame by frame
FOLDER/predictions.jsonl   a line for each image or frame: its path, and what is in it or why there is no prediction
"""

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.file_list import FileError, Given
from datasets.find_files import FileKind, find_files
from datasets.image_file import read_image
from datasets.images.lists import IMAGES
from datasets.video import find_videos
from datasets.video.lists import VIDEOS
from engine.checkpoint import cannot_write
from engine.progress import progress_bar
from engine.task import Draws, Seen
from inference import Predictor
from inference.overlay import rewrite_video
from settings import SettingsError
from tools.common.output_files import check_folder, check_keeps_inputs, distinct_names
from tools.prediction.rows import exit_status, open_predictor, show_failure

log = logging.getLogger(__name__)

JSON_LINES = "predictions.jsonl"
BOTH = FileKind("images or videos", (*VIDEOS.suffixes, *(s for s in IMAGES.suffixes if s not in VIDEOS.suffixes)))


def predict_scenes(args: argparse.Namespace) -> int:
    """Writes the images and videos for all inputs of the command -> its exit status."""
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
        raise SettingsError("--smooth and --track apply to videos, and none of the files is one")
    images = predictor.find_inputs(places) if places else []
    paths = [*(item.path for item in images), *videos]
    check_keeps_inputs(folder, paths, "its pictures could be replaced; choose another folder with --output")
    names = dict(zip(paths, distinct_names(paths, _files), strict=True))
    task.over_time(args.smooth, args.track)  # raises at once if the task does not support it
    folder.mkdir(parents=True, exist_ok=True)
    num_failed = 0
    lines = folder / JSON_LINES
    lines.write_text("")
    if images:
        num_failed += _draw_images(predictor, images, names, folder, lines)
    for video in videos:
        num_failed += not _draw_video(predictor, video, folder / f"{names[video]}.mp4", lines, args)
    log.info("%s: pictures, and %s", folder, JSON_LINES)
    return exit_status(len(names), num_failed)


def _split(places: Sequence[str]) -> tuple[list[str], list[str]]:
    """The videos and images among the places, including folders. A file that is neither counts as an image.

    A GIF counts as a video: it may be animated.
    """
    videos, images = [], []
    for place in places:
        if not os.path.isdir(place):
            is_video = Path(place).suffix.lower() in VIDEOS.suffixes
            videos += [item.path for item in find_videos([place])] if is_video else []  # raises if it does not exist
            images += [] if is_video else [place]
            continue
        found = find_files(Path(place), BOTH)
        if not found:
            raise SettingsError(f"{place}: no {BOTH.name} in it; expected files that end in {' '.join(BOTH.suffixes)}")
        for path in found:
            (videos if path.lower().endswith(VIDEOS.suffixes) else images).append(os.path.join(place, path))
    return videos, images


def _files(name: str) -> set[str]:
    """The files of `a.jpg` are named `a` and `a_classes`, so `a_classes.jpg` needs another name."""
    return {name, f"{name}_classes"}


def _draw_images(predictor: Predictor, images: Sequence[Any], names: dict[str, str], folder: Path, lines: Path) -> int:
    """Draws images -> the number without a prediction."""
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
            _write_png(folder / f"{name}.png", drawn.movedim(0, 2))
            for kind, values in task.maps(seen.outputs).items():
                _write_png(folder / f"{name}_{kind}.png", values)
    return num_failed


def _write_png(path: Path, values: torch.Tensor) -> None:
    try:
        Image.fromarray(values.cpu().numpy()).save(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def _draw_video(predictor: Predictor, path: str, target: Path, lines: Path, args: argparse.Namespace) -> bool:
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
    lines: Path,
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


def _add_line(lines: Path, task: Draws, seen: Seen, **where: float) -> None:
    found = {"failure": seen.failure} if seen.failure else task.facts(seen.outputs)
    try:
        with open(lines, "a", encoding="utf-8") as file:
            file.write(json.dumps({"path": seen.path, **where, **found}) + "\n")
    except OSError as error:
        raise cannot_write(lines, error) from error
