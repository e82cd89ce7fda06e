"""Draws the figure at the top of the README from a finished run of the demo.

    ./run_local.sh                                          trains the demo
    python tools/draw_demo.py runs/demo/glore_motion        writes docs/demo.png

It shows the first validation video of each class with the network's prediction, the training curves, and the confusion
matrix. It reads the run's metrics.jsonl and its newest evaluation.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from settings import SUITE
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run directory of the demo")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", default=SUITE / "docs/demo.png")
    args = parse_arguments(parser, argv)

    from report.run_files import open_run_files  # imports torch: too slow for --help
    from tools.pictures.demo_picture import draw_demo

    draw_demo(open_run_files(args.run), args.output)


if __name__ == "__main__":
    clear_errors(main)
