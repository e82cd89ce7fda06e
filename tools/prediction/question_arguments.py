"""Command-line options for questions to a network for knowledge graphs: the graph, the questions, what to write.

Nothing here imports torch, so that scripts show their help at once.
"""

import argparse
from pathlib import Path

OF_FILES = ("json", "timeline", "overlay", "output", "smooth", "track", "window", "stride", "above")
"""Options of tools/predict.py that apply only to files."""


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds tools/predict.py's options for questions about a graph."""
    group = parser.add_argument_group("knowledge graphs")
    add_graph_argument(group)
    group.add_argument(
        "--ask", action="append", default=[], metavar="QUESTION", help="head, relation and tail between tabs; ? for one"
    )
    group.add_argument("--questions", type=Path, metavar="FILE", help="a file of questions, one per line")
    group.add_argument("--all", metavar="RELATION", help="ask for the tail of every entity, and show the best facts")
    group.add_argument("--new", action="store_true", help="leave out answers that are already facts of the graph")


def add_graph_argument(parser: argparse._ActionsContainer, required: bool = False) -> None:
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", required=required, help="facts: head, relation, tail on each line"
    )


def check_question_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Rejects options that would have no effect or contradict each other."""
    ways = [f"--{name}" for name in ("ask", "questions", "all") if getattr(args, name)]
    if not args.graph:
        if ways or args.new:
            parser.error(f"{(ways or ['--new'])[0]} asks about a graph; name its file of facts with --graph")
        return
    if not ways:
        parser.error("--graph needs a question: --ask, --questions or --all")
    if "--all" in ways and len(ways) > 1:
        parser.error(f"--all asks its own questions; leave out {ways[0]}")
    if args.places:
        parser.error(f"--graph answers questions, and {args.places[0]} is not one; ask with --ask")
    given = [f"--{name}" for name in OF_FILES if getattr(args, name)]
    if given:
        parser.error(f"{given[0]} is for videos and images; leave it out with --graph")
