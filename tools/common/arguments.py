"""Command lines: options anywhere among the other arguments, suggestions for misspelled ones, the next command.

Nothing here imports torch, so that scripts that defer their other imports parse arguments and show help at once.
"""

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from settings import SUITE, did_you_mean


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that select a recipe, a run and its weights."""
    parser.add_argument("-c", "--config", metavar="RECIPE", help="a recipe (default: the run's recipe)")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a run directory (default: the recipe's, or the newest run)"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="best, last or a file, which carries its recipe (default: best, else last)"
    )
    parser.add_argument("--average", action="store_true", help="use the averaged weights if the file has both")


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """`parser.parse_args`, but options and settings may come in any order: `model.name=X --checkpoint FILE data.val=Y`.

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


def positive(text: str) -> int:
    """The type of an option that is a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


def positive_number(text: str) -> float:
    """The type of an option that is a finite number above 0, such as seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def split_arguments(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command's words into settings, key=value, and files, folders or streams."""
    settings = [word for word in words if "=" in word and "://" not in word and not Path(word).exists()]
    return settings, [word for word in words if word not in settings]


def launcher() -> str:
    """run_local.sh as the user can type it in the current folder, for messages that name the next command."""
    return "./run_local.sh" if Path.cwd() == SUITE else shlex.quote(str(SUITE / "run_local.sh"))
