"""Command lines that ask a network for knowledge graphs: which graph, which questions, what to write.

Nothing here imports torch, so that scripts show their help at once.
"""

import argparse
from pathlib import Path

OF_FILES = ("json", "timeline", "overlay", "output", "smooth", "track", "window", "stride", "above")
"""Options of tools/predict.py that are for files."""


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options with which tools/predict.py asks about a graph."""
    group = parser.add_argument_group("knowledge graphs")
    add_graph_argument(group)
    group.add_argument(
        "--ask", action="append", default=[], metavar="QUESTION", help="head, relation and tail between tabs, one a ?"
    )
    group.add_argument("--questions", type=Path, metavar="FILE", help="a file of questions, one a line")
    group.add_argument("--all", metavar="RELATION", help="ask for the tail of every entity, and show the best facts")
    group.add_argument("--new", action="store_true", help="leave out answers that are facts of the graph already")


def add_graph_argument(parser: argparse._ActionsContainer, required: bool = False) -> None:
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", required=required, help="facts: head, relation, tail on each line"
    )


def check_question_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stops at options that would do nothing or contradict each other."""
    ways = [f"--{name}" for name in ("ask", "questions", "all") if getattr(args, name)]
    if not args.graph:
        if ways or args.new:
            parser.error(f"{(ways or ['--new'])[0]} asks about a graph; name its file of facts with --graph")
        return
    if not ways:
        parser.error("--graph needs a question: --ask, --questions or --all")
    if "--all" in ways and len(ways) > 1:
        parser.error(f"--all asks questions of its own; leave out {ways[0]}")
    if args.places:
        parser.error(f"--graph answers questions, and {args.places[0]} is none; ask it with --ask")
    given = [f"--{name}" for name in OF_FILES if getattr(args, name)]
    if given:
        parser.error(f"{given[0]} is for videos and images; leave it out with --graph")
