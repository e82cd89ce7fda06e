"""Checks before a long task that its results can be written after it."""

import tempfile
from pathlib import Path

from settings import SettingsError


def check_folder(folder: Path, remedy: str) -> None:
    """Raises SettingsError, which ends with `remedy`, if files cannot be written in `folder`. It need not exist yet."""
    try:
        nearest = folder.absolute()
        while not nearest.exists():
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise SettingsError(f"cannot write in {folder}: {error.strerror}; {remedy}") from error


def check_file(path: Path, remedy: str) -> None:
    """Raises SettingsError, which ends with `remedy`, if the file `path` cannot be written or replaced."""
    if path.is_dir():
        raise SettingsError(f"cannot write {path}: it is a folder; {remedy}")
    check_folder(path.parent, remedy)
    try:
        if path.exists():
            with open(path, "ab"):
                pass
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; {remedy}") from error
