"""Shows why an answer on a graph is likely: the paths of facts that lead to it.

    python tools/explain.py --graph FACTS.tsv --ask $'aspirin\\ttreats\\t?'          the three best answers, newest run
    python tools/explain.py --graph FACTS.tsv --ask $'aspirin\\ttreats\\theadache'   this answer
    python tools/explain.py --graph FACTS.tsv --ask $'?\\ttreats\\tfever' --top 1 --paths 10 --csv paths.csv -o why.png

Paths are ranked by the score that the network gives the answer when it sees only that path; the score without the path
is shown, too. The triple in question is never among the facts: a known answer is explained by the other facts.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow it down

from tools.common.arguments import add_run_arguments, parse_arguments, positive, split_arguments
from tools.common.errors import clear_errors
from tools.prediction.question_arguments import add_graph_argument

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parse(argv)
    from tools.prediction.explanations import explain_questions  # imports torch: too slow for --help

    explain_questions(args)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    add_graph_argument(parser, required=True)
    parser.add_argument(
        "--ask", action="append", required=True, metavar="QUESTION",
        help="head, relation and tail, separated by tabs; ? for an end explains its best answers",
    )  # fmt: skip
    parser.add_argument("--top", type=positive, default=3, metavar="N", help="answers to explain for each question (3)")
    parser.add_argument("--new", action="store_true", help="leave out answers that are already facts of the graph")
    parser.add_argument("--paths", type=positive, default=3, metavar="K", help="paths to show for each answer (3)")
    parser.add_argument(
        "--candidates", type=positive, default=100, metavar="N", help="paths to choose these from (100)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a row for each fact of each path")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.png", help="also draw the paths")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="settings to change")
    args = parse_arguments(parser, argv)
    args.overrides, others = split_arguments(args.arguments)
    if others:
        parser.error(f"{others[0]} is not a setting; ask questions with --ask, and name the graph with --graph")
    if args.candidates < args.paths:
        parser.error(f"got --candidates {args.candidates}, fewer than the {args.paths} paths to show")
    if args.output and args.output.suffix.lower() != ".png":
        parser.error(f"got -o {args.output}; paths are drawn as PNG, so the name must end with .png")
    return args


if __name__ == "__main__":
    clear_errors(main)
