"""Command lines with options anywhere between the other arguments, and a suggestion for a misspelt option."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from settings import SUITE, did_you_mean


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """`parser.parse_args`, but `model.name=X --checkpoint FILE data.val=Y` and the like are read in any order.

    Exits with status 2 and a message if an option or an argument is unknown.
    """
    args, unknown = parser.parse_known_intermixed_args(argv)
    misspelt = [word.partition("=")[0] for word in unknown if word.startswith("-")]
    if misspelt:
        options = [option for action in parser._actions for option in action.option_strings]
        parser.error(f"there is no option {misspelt[0]}{did_you_mean(misspelt[0], options)}")
    if unknown:
        parser.error(f"unexpected arguments: {' '.join(unknown)}")
    return args


def command(script: str) -> str:
    """How to start a script of the suite from this folder, for messages: `./run_local.sh tools/predict.py`."""
    launcher = "./run_local.sh" if Path.cwd() == SUITE else shlex.quote(str(SUITE / "run_local.sh"))
    return f"{launcher} {script}"
