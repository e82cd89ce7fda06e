"""Exports a trained network for other programs: ONNX, 8-bit ONNX for CPUs, torch.export.

    python tools/export.py -o exported                              the newest run, as ONNX
    python tools/export.py --run-dir runs/demo/glore_motion --formats onnx,int8,torch -o exported
    python tools/export.py -c RECIPE --checkpoint FILE -o exported --formats int8 my_videos/
    python tools/export.py --run-dir runs/demo/scene_segmentation -o exported --size 512,1024    a segmentor

Each file is compared with the network at three batch sizes, on the validation list (or the files given), and for speed.
NAME.json has the results, the preprocessing and the class names. docs/export.md shows how to use the files.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from settings import SettingsError, did_you_mean
from tools.common.arguments import add_run_arguments, parse_arguments, split_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_folder

log = logging.getLogger(__name__)
FORMATS = ("onnx", "int8", "torch")
COUNTS = {"calibrate": 64, "compare": 200, "batch": 1, "repeats": 10}
"""Options that apply only to classifiers, and their defaults."""


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    # These import torch: too slow for --help.
    from engine.distributed import join_ranks
    from engine.run import start_logging
    from inference.export import ExportOptions, export_network, summary
    from inference.export.segmentor import export_segmentor
    from inference.features import check_task, files_to_extract
    from inference.trained import TrainedNetwork, find_weights, load_model
    from tasks.detection import Detection
    from tasks.segmentation import Segmentation
    from tools.common.loading_runs import find_run

    task_class, settings, run = find_run(args, [*args.overrides, "run.device=cpu"])
    is_segmentor = issubclass(task_class, Segmentation)
    if issubclass(task_class, Detection):
        raise SettingsError(
            "detectors cannot be exported, because their outputs have no fixed shape; use inference.load_trained"
        )
    is_plain = args.formats == ("onnx",) and not args.places and COUNTS.items() <= vars(args).items()
    if is_segmentor and not is_plain:
        raise SettingsError("segmentors are exported only as ONNX and compared on random images; drop other options")
    if args.size and not is_segmentor:
        raise SettingsError("--size is for segmentors; classifiers take views of the size in their recipe")
    if not is_segmentor:
        check_task(task_class, settings)
    check_folder(args.output, "choose another folder with -o")
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        weights = find_weights(run, args.checkpoint)
        trained = TrainedNetwork(task, load_model(task, weights, ranks, args.average), weights)
        if is_segmentor:
            description = export_segmentor(trained, args.output, args.size)
            facts = description["files"]["onnx"]
            log.info("%s: differs by %.1e of the largest logit", facts["file"], facts["max_relative_difference"])
            return
        options = ExportOptions(args.formats, args.calibrate, args.compare, args.batch, args.repeats)
        description = export_network(trained, lambda: files_to_extract(task, args.places), args.output, options)
    log.info("%s", summary(description))


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where to write the files")
    parser.add_argument(
        "--formats",
        type=_formats,
        default=("onnx",),
        metavar="LIST",
        help="onnx, int8 and torch, separated by commas (onnx)",
    )
    parser.add_argument("--calibrate", type=_count, metavar="N", help="files that calibrate int8's ranges (64)")
    parser.add_argument(
        "--compare",
        type=_count,
        metavar="N",
        help="other files to compare predictions on (200)",
    )
    parser.add_argument("--size", type=_size, metavar="H,W", help="segmentors: image size (as in training)")
    parser.add_argument("--batch", type=_count, metavar="N", help="batch size for timing (1)")
    parser.add_argument("--repeats", type=_count, metavar="N", help="timed batches; 0: no timing (10)")
    parser.add_argument(
        "arguments", nargs="*", metavar="FILE | key=value",
        help="videos, images or folders to calibrate and compare with (the validation list), and settings to change",
    )  # fmt: skip
    parser.set_defaults(**COUNTS)
    args = parse_arguments(parser, argv)
    if not args.batch:
        parser.error("got --batch 0; it must be at least 1")
    args.overrides, args.places = split_arguments(args.arguments)
    return args


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) >= 32 for part in parts):
        raise argparse.ArgumentTypeError(f"expected H,W of at least 32 pixels each, such as 512,512, not {text!r}")
    return int(parts[0]), int(parts[1])


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in FORMATS:
            hint = did_you_mean(name, FORMATS)
            raise argparse.ArgumentTypeError(f"no format is called {name!r}{hint} (choices: {', '.join(FORMATS)})")
    return names


if __name__ == "__main__":
    clear_errors(main)
