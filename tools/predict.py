"""Predicts on your own videos, images or graphs with a trained network, and shows each prediction as it is made.

    python tools/predict.py VIDEO [VIDEO ...]                       with the newest run
    python tools/predict.py --run-dir runs/demo/glore_motion --top 3 --csv guesses.csv FOLDER
    python tools/predict.py --checkpoint FILE --json guesses.jsonl FOLDER     FILE carries its recipe
    python tools/predict.py -c RECIPE --checkpoint FILE data.class_names=TABLE VIDEO ...    the authors' files
    python tools/predict.py --above 0.5 --top 157 VIDEO ...         multi-label: all likely classes
    python tools/predict.py rtsp://camera/1                         a live stream or a camera, window by window
    python tools/predict.py --timeline FOLDER LONG_VIDEO            what happens when: two tables and a plot
    python tools/predict.py --overlay labeled.mp4 VIDEO             the video with its labels drawn on
    python tools/predict.py --output FOLDER IMAGE VIDEO ...         boxes, masks or pixel classes drawn on them
    python tools/predict.py --output FOLDER --track VIDEO           objects keep their numbers from frame to frame
    python tools/predict.py --graph FACTS.tsv --ask $'aspirin\\ttreats\\t?' --ask $'?\\ttreats\\theadache'
    python tools/predict.py --graph FACTS.tsv --questions FILE --csv answers.csv
    python tools/predict.py --graph FACTS.tsv --all treats --new    the most probable facts that are not in the graph

A folder means all videos in it. A folder of frames, clip/img_00001.jpg, clip/img_00002.jpg, ..., and a member of a tar
file, shard.tar#folder/clip.mp4, are videos, too. The recipe sets the views of each video; for ten clips per video, for
example, add evaluation.num_clips=10.

After an interruption the same command continues its tables and keeps the rows already written. Exit status: 0 if there
is a prediction for every file, 1 if some have none, 2 if none has one or the command is wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from tools.common.arguments import add_run_arguments, parse_arguments, positive, positive_number, split_arguments
from tools.common.errors import clear_errors
from tools.prediction.question_arguments import add_question_arguments, check_question_arguments


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    if args.graph:
        from tools.prediction.graph_answers import predict_answers as predict
    elif args.output:
        from tools.prediction.scenes import predict_scenes as predict
    elif args.timeline or args.overlay:
        from tools.prediction.windows import predict_windows as predict  # imports torch: too slow for --help
    else:
        from tools.prediction.rows import predict_rows as predict
    if status := predict(args):
        sys.exit(status)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="guesses to show per file or question (5)")
    parser.add_argument(
        "--above", type=float, default=0.0, metavar="P", help="show only guesses with at least this probability (0)"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write a row for each file or answer to a CSV file"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write a line for each file to a JSON-lines file"
    )
    parser.add_argument(
        "--timeline", type=Path, metavar="FOLDER", help="predict on windows of long videos; write tables and plots"
    )
    parser.add_argument("--overlay", type=Path, metavar="FILE", help="write the video with its labels drawn on, as MP4")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="detectors and segmentors: write images and videos with the predictions drawn on, and a JSON-lines file",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="W",
        help="segmentation of videos: weight of earlier frames, from 0 (none) to below 1",
    )
    parser.add_argument("--track", action="store_true", help="detection in videos: number the objects over time")
    parser.add_argument(
        "--window",
        type=positive_number,
        metavar="SECONDS",
        help="length of a window (default: a clip, as in the recipe)",
    )
    parser.add_argument(
        "--stride", type=positive_number, metavar="SECONDS", help="from window to window (default: half a window)"
    )
    add_question_arguments(parser)
    parser.add_argument(
        "arguments", nargs="*", metavar="FILE | key=value", help="videos, images or folders, and settings to change"
    )
    args = parse_arguments(parser, argv)
    args.overrides, args.places = split_arguments(args.arguments)
    check_question_arguments(parser, args)
    if not args.places and not args.graph:
        parser.error("no file to predict on; name videos, images, folders or a stream, or a graph with --graph")
    _check_options(parser, args)
    return args


def _check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Rejects options that would have no effect or contradict each other."""
    if args.csv and args.json and os.path.realpath(args.csv) == os.path.realpath(args.json):
        parser.error(f"--csv and --json are the same file, {args.csv}; name two")
    if args.output and (args.timeline or args.overlay or args.csv or args.json):
        parser.error("--output writes its own files; leave out --timeline, --overlay, --csv and --json")
    if (args.smooth or args.track) and not args.output:
        parser.error("--smooth and --track apply to videos drawn by --output; name a folder with --output")
    if not 0 <= args.smooth < 1:
        parser.error(f"got --smooth {args.smooth:g}; it must be from 0 to below 1")
    has_stream = any("://" in place or place.startswith("/dev/video") for place in args.places)
    if (args.timeline or args.overlay) and (args.csv or args.json):
        parser.error("--timeline and --overlay have their own outputs; leave out --csv and --json")
    if (args.timeline or args.overlay) and has_stream:
        parser.error("--timeline and --overlay need a video file: a stream has no end, and cannot be read twice")
    if args.overlay and len(args.places) > 1:
        parser.error(f"--overlay draws on a single video; got {len(args.places)}")
    for name in ("window", "stride"):
        if getattr(args, name) is not None and not (args.timeline or args.overlay or has_stream):
            parser.error(f"--{name} has no effect on whole files; add --timeline or --overlay")


if __name__ == "__main__":
    clear_errors(main)
