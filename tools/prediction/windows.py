"""Predicts on sliding windows over long videos for tools/predict.py: tables, plots, and labels on the video."""

import argparse
import contextlib
import csv
import io
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from datasets.file_list import FileError
from datasets.video.container import file_range, stamp
from datasets.video.stream import rate_and_length
from engine.checkpoint import write_atomically
from engine.progress import progress_bar
from inference import Prediction, Predictor
from inference.overlay import write_overlay
from inference.timeline import find_segments, write_segments
from inference.timeline_plot import plot_timeline
from settings import SettingsError
from tools.common.output_files import check_file, check_folder, check_keeps_inputs, distinct_names
from tools.prediction.row_file import CsvFormat, RowFile
from tools.prediction.rows import exit_status, make_key, open_predictor, show_failure, show_segments

log = logging.getLogger(__name__)

MAX_UNEVEN = 1.5  # longest window over shortest, and rest after the last window over stride, without a warning


def predict_windows(args: argparse.Namespace) -> int:
    """Writes the output of `--timeline` and `--overlay` -> the command's exit status."""
    if args.timeline:
        check_folder(args.timeline, "choose another one with --timeline")
    if args.overlay:
        check_file(args.overlay, "choose another one with --overlay")
    predictor = open_predictor(args)
    predictor.check_windows(args.places[0])
    paths = [item.path for item in predictor.find_inputs(args.places)]
    if args.overlay and len(paths) > 1:
        raise SettingsError(f"--overlay draws on a single video; {args.places[0]} has {len(paths)}")
    if args.overlay:
        check_keeps_inputs(args.overlay, paths, "choose another file with --overlay")
    if getattr(predictor.task, "multi_label", False):
        log.warning("a timeline shows the most probable label of each window; its table of windows has the others, too")
    names = distinct_names(paths)
    _check_tables(predictor, paths, names, args)
    num_failed = 0
    for path, name in zip(paths, names, strict=True):
        try:
            windows = _predict_one(predictor, path, name, args)
        except FileError as error:
            show_failure(path, error.reason)
            num_failed += 1
            continue
        if args.overlay:
            log.info("drawing %s", args.overlay)
            write_overlay(path, windows, predictor.class_names, args.overlay, args.above)
    return exit_status(len(paths), num_failed)


def _check_tables(predictor: Predictor, paths: Sequence[str], names: Sequence[str], args: argparse.Namespace) -> None:
    """Raises SettingsError before the first prediction if a table in the folder is from other options or videos."""
    for path, name in zip(paths, names, strict=True):
        if args.timeline and (table := args.timeline / f"{name}.windows.csv").exists():
            with contextlib.suppress(FileError), _open_table(predictor, path, table, args):
                pass


def check_rate(path: str, windows: Sequence[Prediction], duration: float) -> None:
    """Warns if windows, which have equal numbers of frames, differ in length or leave part of the video out."""
    lengths = [end - start for start, end in (window.seconds for window in windows)]
    left_out = duration - windows[-1].seconds[1]
    strides = [after.seconds[0] - before.seconds[0] for before, after in itertools.pairwise(windows)]
    if max(lengths) > MAX_UNEVEN * min(lengths):
        log.warning(
            "%s: its frame rate varies, and windows have equal numbers of frames: they last %.1f to %.1f s, and the "
            "last %.1f s are in none. For even windows, convert it first: ffmpeg -i IN -vf fps=30 OUT",
            *(path, min(lengths), max(lengths), max(0.0, left_out)),
        )
    elif left_out > MAX_UNEVEN * max([*strides, max(lengths)]):
        log.warning(
            "%s: the last %.1f of %.1f s are in no window: they have too few frames for one, because the frame rate "
            "drops or the file is cut off. If the rate drops, convert it first: ffmpeg -i IN -vf fps=30 OUT",
            *(path, left_out, duration),
        )


def _predict_one(predictor: Predictor, path: str, name: str, args: argparse.Namespace) -> list[Prediction]:
    """Predicts on all windows of a video, shows its segments, and writes its timeline."""
    _, duration = rate_and_length(path)  # raises VideoError before anything is written
    with contextlib.ExitStack() as stack:
        table = None
        if args.timeline:
            table = stack.enter_context(_open_table(predictor, path, args.timeline / f"{name}.windows.csv", args))
        windows = [_read_window(path, row.text) for row in table.kept] if table else []
        bar = stack.enter_context(progress_bar(round(duration), 0, predictor.task.ranks, name, unit="s"))
        for number, window in enumerate(predictor.windows(path, args.window, args.stride, len(windows)), len(windows)):
            if table:
                table.add(number, window)
            windows.append(_rounded(window))
            bar.update(round(min(duration, window.seconds[1])) - bar.n)
    check_rate(path, windows, duration)
    segments = find_segments(windows, args.above, duration)
    show_segments(path, segments)
    if args.timeline:
        write_atomically(args.timeline / f"{name}.segments.csv", lambda file: write_segments(segments, file))
        picture = args.timeline / f"{name}.png"
        plot_timeline(windows, segments, predictor.class_names, os.path.basename(path), picture)
        log.info("%s: the timeline is in %s", path, picture)
    return windows


def _open_table(predictor: Predictor, path: str, table: Path, args: argparse.Namespace) -> RowFile:
    video = dict(zip(("bytes", "modified"), stamp(file_range(path)[0]), strict=True))
    num_guesses = min(args.top, len(predictor.class_names))
    rows = CsvFormat(num_guesses, has_windows=True, has_paths=False)
    return RowFile(table, rows, make_key(predictor, args) | {"video": video})


def _rounded(window: Prediction) -> Prediction:
    """A window rounded as in its row of the table, so that an interruption changes no segment."""
    guesses = tuple((name, round(probability, 6)) for name, probability in window.guesses)
    start, end = window.seconds
    return Prediction(window.path, guesses, window.failure, seconds=(round(start, 3), round(end, 3)))


def _read_window(path: str, row: str) -> Prediction:
    """A window from its row in the table."""
    start, end, *cells, failure = next(csv.reader(io.StringIO(row, newline="")))
    pairs = zip(cells[::2], cells[1::2], strict=True)
    guesses = tuple((name, float(probability)) for name, probability in pairs if probability)
    return Prediction(path, guesses, failure, seconds=(float(start), float(end)))
