"""Re-encodes videos so that training reads them quickly.

    python tools/convert_videos.py SOURCE DESTINATION                        every video below a folder, for training
    python tools/convert_videos.py SOURCE DESTINATION --recipe short288      as GloRe's authors did
    python tools/convert_videos.py SOURCE DESTINATION --short-side 80        smaller, for a network with views of 64
    python tools/convert_videos.py SOURCE DESTINATION --part 3/8             on the third of eight machines

After an interruption the same command continues: it skips files that are complete, made by this recipe and newer than
their source. DESTINATION/conversion_failures.csv lists the videos that could not be converted, and those that were
converted although parts of them are damaged. Exit status: 0, or 1 if a video could not be converted. A converted video
has every frame of its source, in order and at its time; the report counts what damaged videos have lost.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.worker_pool import default_num_workers
from tools.common.arguments import parse_arguments, positive, positive_number
from tools.common.errors import clear_errors

RECIPES = ("training", "short288", "short256", "short160")
"""The keys of `datasets.video.recipes.RECIPES`, whose module imports torch."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with videos, at any depth")
    parser.add_argument("destination", type=Path, help="folder for the results: same folders and names, as .mp4")
    parser.add_argument("--recipe", choices=RECIPES, default="training", help="how to re-encode (default: training)")
    parser.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="maximum (default: the recipe's, such as 256 for training)"
    )
    parser.add_argument(
        "--workers", type=positive, default=default_num_workers(1), metavar="N", help="number of processes"
    )
    parser.add_argument(
        "--timeout", type=positive_number, default=600, metavar="SECONDS", help="limit for one video (default: 600)"
    )
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="only part I of N, counted from 1")
    parser.add_argument("--pyav", action="store_true", help="use PyAV even if there is an ffmpeg program")
    args = parse_arguments(parser, argv)
    if args.short_side is not None and args.short_side < 16:
        parser.error(f"got --short-side {args.short_side}; expected at least 16 pixels")

    from tools.preparation.conversion import convert_videos  # imports torch: too slow for --help

    if not convert_videos(args):
        sys.exit(1)


def _part(text: str) -> tuple[int, int]:
    try:
        part, num_parts = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N, such as 3/8") from None
    if not 1 <= part <= num_parts:
        raise argparse.ArgumentTypeError(f"{text!r}; expected 1/{num_parts} to {num_parts}/{num_parts}")
    return part, num_parts


if __name__ == "__main__":
    clear_errors(main)
