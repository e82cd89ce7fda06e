"""Finds the videos that training could not read, and indexes the frames of all others.

    python tools/check_videos.py LIST                   reads the packets of every video: can it be opened, is it whole?
    python tools/check_videos.py FOLDER --full          decodes every frame as well

Writes two files beside the list or folder: LIST.checked.csv, with a row for each video, and LIST.index, which saves
training and evaluation on this list a pass over every video. Running the same command again checks only videos that
are new, have changed or had a fault. Exit status: 0, or 1 if a video has a fault.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.worker_pool import default_num_workers
from tools.common.arguments import parse_arguments, positive, positive_number
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="list of videos in any form that recipes accept, or a folder")
    parser.add_argument("--root", type=Path, help="folder that the list's paths are relative to (default: its own)")
    parser.add_argument("--split", help="the split to check, if the list has several")
    parser.add_argument(
        "--index", type=Path, metavar="FILE", help="index to write (default: SOURCE.index); lists may share one"
    )
    parser.add_argument("--full", action="store_true", help="decode every frame: finds damage inside files")
    parser.add_argument(
        "--workers", type=positive, default=default_num_workers(1), metavar="N", help="number of processes"
    )
    parser.add_argument(
        "--timeout", type=positive_number, default=120, metavar="SECONDS", help="limit for one video (default: 120)"
    )
    args = parse_arguments(parser, argv)

    from tools.preparation.video_checks import check_videos  # imports torch: too slow for --help

    if not check_videos(args):
        sys.exit(1)


if __name__ == "__main__":
    clear_errors(main)
