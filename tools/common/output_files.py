"""Checks before a long task that its results can be written afterwards, and writes tables atomically."""

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence, Set
from itertools import count
from pathlib import Path
from typing import Any

from settings import SettingsError

PROBE_BYTES = 4096


def check_folder(folder: Path, remedy: str) -> None:
    """Raises SettingsError, ending with `remedy`, if files cannot be written in `folder`, which need not exist yet."""
    try:
        nearest = folder.absolute()
        while not nearest.exists():
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise SettingsError(f"cannot write in {folder}: {error.strerror}; {remedy}") from error


def check_file(path: Path, remedy: str) -> None:
    """Raises SettingsError, ending with `remedy`, if the file `path` cannot be written or replaced."""
    if path.is_dir():
        raise SettingsError(f"cannot write {path}: it is a folder; {remedy}")
    check_folder(path.parent, remedy)
    try:
        if path.exists():
            with open(path, "ab"):
                pass
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; {remedy}") from error


def check_replaces_text(path: Path, remedy: str) -> None:
    """Raises SettingsError, ending with `remedy`, if `path` cannot be written, or would replace a file that is no text.

    Lists and pages are text, so any other file, such as a video, was named by mistake.
    """
    if b"\0" in _start_of(path, remedy):
        raise SettingsError(f"{path} exists and is not a text file, so it is not replaced; {remedy}")


def check_replaces_page(path: Path, remedy: str) -> None:
    """Raises SettingsError, ending with `remedy`, if `path` cannot be written, or would replace a file that is no page.

    Files of runs, such as recipes, are text, too.
    """
    start = _start_of(path, remedy).lstrip()
    if start and not start.lower().startswith(b"<!doctype html"):
        raise SettingsError(f"{path} exists and is not an HTML page, so it is not replaced; {remedy}")


def _start_of(path: Path, remedy: str) -> bytes:
    """The first bytes of a file that can be written; none if it does not exist yet."""
    check_file(path, remedy)
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(PROBE_BYTES)


def check_keeps_inputs(output: Path, inputs: Iterable[str], remedy: str) -> None:
    """Raises SettingsError, ending with `remedy`, if writing `output` would replace one of the `inputs`.

    If `output` is a folder, no input may be in it.
    """
    for path in inputs:
        place = os.path.dirname(os.path.abspath(path)) if output.is_dir() else path
        if output.exists() and os.path.exists(place) and os.path.samefile(output, place):
            raise SettingsError(f"{output} {'holds the input' if output.is_dir() else 'is the input'} {path}; {remedy}")


def check_outputs(
    outputs: Iterable[tuple[Path, str]], inputs: Iterable[Path | None], check: Callable[[Path, str], None] = check_file
) -> None:
    """Raises SettingsError for an output, given with its remedy, that fails `check`, is an input or another output.

    None stands for an input that was not given.
    """
    inputs, taken = [str(path.expanduser()) for path in inputs if path is not None], set()
    for path, remedy in outputs:
        check(path, remedy)
        check_keeps_inputs(path, inputs, remedy)
        place = os.path.realpath(path)
        if place in taken:
            raise SettingsError(f"two outputs would be written to {path}; {remedy}")
        taken.add(place)


def distinct_names(
    paths: Iterable[str], files_of: Callable[[str], Set[str]] = lambda name: frozenset([name])
) -> list[str]:
    """A name for each input's output files: its own, with a number appended if another input's files have the same.

    `files_of`: the names of the files that are written for a name.
    """
    names, taken = [], set()
    for path in paths:
        stem = Path(path).stem
        candidates = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        names.append(next(name for name in candidates if taken.isdisjoint(files_of(name))))
        taken |= files_of(names[-1])
    return names


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file: all of it, or nothing. Raises CheckpointError if the disk is full."""
    from engine.checkpoint import write_atomically  # imports torch: too slow for --help

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_atomically(path, write)
