"""Finds out before the work whether its results can be written."""

import tempfile
from pathlib import Path

from settings import SettingsError


def check_writable(folder: Path) -> None:
    """Makes `folder` if there is none. Raises SettingsError if no file can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
