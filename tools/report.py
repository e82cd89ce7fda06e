"""Writes an HTML page about a run, or one that compares several. The page needs no other file and makes no request.

    python tools/report.py runs/demo/glore_motion                     writes runs/demo/glore_motion/report.html
    python tools/report.py runs/demo/glore_motion runs/demo/other     writes comparison.html into the first of them

Runs and evaluations write this page themselves when they end.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_replaces_page


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run directory; several are compared")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write the page")
    parser.add_argument(
        "--evaluation", metavar="NAME", help="a folder below evaluations/ (default: the newest; of several runs, the "
        "newest that all have)"
    )  # fmt: skip
    args = parse_arguments(parser, argv)
    if args.output is not None:
        check_replaces_page(args.output, "choose another file with -o")
    from report.page import write_page  # imports torch: too slow for --help

    print(write_page(args.runs, args.output, args.evaluation))


if __name__ == "__main__":
    clear_errors(main)
