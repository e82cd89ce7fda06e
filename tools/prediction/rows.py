"""Predicts on files or on a live stream for tools/predict.py: a row for each prediction, as soon as it is made."""

import argparse
import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from datasets.video.stream import is_stream
from engine.launch import check_one_process
from engine.progress import progress_bar
from inference import Prediction, Predictor
from inference.predictor import check_predicts
from inference.timeline import Segment
from inference.trained import weights_digest
from settings import SettingsError
from tools.common.loading_runs import find_run
from tools.prediction.row_file import CsvFormat, JsonFormat, RowFile, printable

log = logging.getLogger(__name__)

LONGEST_PATH = 48  # characters in the table
ALL_READ, SOME_READ, NONE_READ = 0, 1, 2


def open_predictor(args: argparse.Namespace) -> Predictor:
    """The predictor for the command's arguments. Raises SettingsError under torchrun: the work is not shared."""
    check_one_process("tools/predict.py")
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    recipe = find_run(args, args.overrides)
    check_predicts(recipe.task_class, recipe.settings.task)
    places = {"config": args.config, "run_dir": args.run_dir, "average": args.average}
    return Predictor(args.checkpoint, args.overrides, **places, top=args.top)


def predict_rows(args: argparse.Namespace) -> int:
    """Predicts on the files or the stream of the command -> its exit status."""
    predictor = open_predictor(args)
    streams = [place for place in args.places if is_stream(place)]
    if streams and len(args.places) > 1:
        raise SettingsError(f"{streams[0]}: a stream must be the only input; start a command for each")
    if streams:
        return _predict_stream(predictor, streams[0], args)
    inputs = predictor.find_inputs(args.places)
    paths = [item.path for item in inputs]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(file) for file in _open_files(predictor, args, paths)]
        done = min((file.num_rows for file in files), default=0)
        if done:
            log.info("%d of %d files are done", done, len(paths))
        num_failed = sum(bool(row.failure) for row in files[0].kept[:done]) if files else 0
        bar = stack.enter_context(progress_bar(len(paths), done, predictor.task.ranks, "predicting", "file"))
        table = Table(paths, args.above)
        one_by_one = predictor.task.ranks.device.type == "cpu"  # a GPU needs batches to be fast
        for number, prediction in enumerate(predictor.predict_found(inputs, range(done), one_by_one), done):
            for file in files:
                file.add(number, prediction)
            table.show(prediction)
            bar.update()
            num_failed += not prediction
    return exit_status(len(paths), num_failed)


def _predict_stream(predictor: Predictor, source: str, args: argparse.Namespace) -> int:
    """A row for each window, until the stream ends or the user stops it."""
    for path in filter(None, (args.csv, args.json)):
        if path.is_file() and path.stat().st_size:
            raise SettingsError(f"{path} already exists, and a stream cannot be continued; name another file")
    num_windows = num_failed = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(file) for file in _open_files(predictor, args, [], has_windows=True)]
        table = Table([source], args.above)
        windows = predictor.windows(source, args.window, args.stride)
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end a stream
            for prediction in windows:
                for file in files:
                    file.add(num_windows, prediction)
                table.show(prediction)
                num_windows += 1
                num_failed += not prediction
    return exit_status(num_windows, num_failed)


def exit_status(num_inputs: int, num_failed: int) -> int:
    """0: a prediction for all, 1: not for some, 2: for none."""
    if num_failed:
        log.warning("no prediction for %d of %d", num_failed, num_inputs)
    if num_failed == num_inputs:
        return NONE_READ
    return SOME_READ if num_failed else ALL_READ


def _open_files(
    predictor: Predictor, args: argparse.Namespace, paths: Sequence[str], has_windows: bool = False
) -> Iterator[RowFile]:
    key = make_key(predictor, args)
    num_guesses = min(args.top, len(predictor.class_names))
    if args.csv:
        yield RowFile(args.csv, CsvFormat(num_guesses, args.above, has_windows), key, paths)
    if args.json:
        yield RowFile(args.json, JsonFormat(num_guesses, args.above), key, paths)


def make_key(predictor: Predictor, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that rows depend on besides the files."""
    weights = {"sha256": weights_digest(predictor.weights), "average": args.average}
    if predictor.acceleration is not None:
        weights["acceleration"] = predictor.acceleration.method
    options = {name: getattr(args, name) for name in ("top", "above", "window", "stride")}
    return {"weights": weights, "settings": predictor.task.answer_key(), **options}


class Table:
    """Shows predictions on standard output: a line each, or for a single file a line for each guess."""

    def __init__(self, paths: Sequence[str], above: float):
        self._above, self._is_single = above, len(paths) == 1
        self._path_width = min(LONGEST_PATH, max(map(len, paths), default=0))
        self._width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def show(self, prediction: Prediction) -> None:
        tqdm.write("\n".join(self._lines(prediction)), file=sys.stdout)

    def _lines(self, prediction: Prediction) -> list[str]:
        if prediction.failure:
            return [_failure_line(prediction.path, prediction.failure)]
        guesses = [
            f"{100 * probability:6.2f} % {name}"
            for name, probability in prediction.guesses
            if probability >= self._above
        ]
        if self._is_single and prediction.seconds is None:
            return [printable(prediction.path), *(f"  {guess.rstrip()}" for guess in guesses)]
        if prediction.seconds is None:
            place = prediction.path
            place = printable(place if len(place) <= LONGEST_PATH else "..." + place[3 - LONGEST_PATH :])
            place = place.ljust(self._path_width)
        else:
            place = " - ".join(map(clock, prediction.seconds))
        return ["  ".join([place, *guesses]).rstrip()[: self._width]]


def _failure_line(path: str, reason: str) -> str:
    return f"no prediction for {printable(path)}: {reason}"


def show_failure(path: str, reason: str) -> None:
    tqdm.write(_failure_line(path, reason), file=sys.stdout)


def show_segments(path: str, segments: Sequence[Segment]) -> None:
    """A line for each segment of a timeline."""
    lines = [printable(path)]
    for start, end, label, probability in segments:
        what = f"{100 * probability:6.2f} % {label}" if label else "  not sure"
        lines.append(f"  {clock(start)} - {clock(end)}  {what}")
    tqdm.write("\n".join(lines), file=sys.stdout)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss.s"""
    minutes, rest = divmod(round(max(0.0, seconds), 1), 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{rest:04.1f}"
