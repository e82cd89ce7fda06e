"""A table that grows by one row per prediction, and continues where an interrupted command left off."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.json_io import to_json
from inference.prediction import Prediction
from settings import SettingsError, differences
from tools.common.output_files import check_file

REMEDY = "name another file, or delete this one to start over"


class Kept(NamedTuple):
    """A row that an earlier command wrote."""

    text: str
    name: str
    """What the row is about: a path, or the start of a window."""
    failure: str


class CsvFormat:
    """A header, then a line for each prediction: path, or start and end in seconds; guesses; failure."""

    def __init__(self, num_guesses: int, above: float = 0.0, has_windows: bool = False, has_paths: bool = True):
        self._num_guesses, self._above = num_guesses, above
        self._first = ["path"] * has_paths + ["start", "end"] * has_windows
        guesses = [f"{name}{n}" for n in range(1, num_guesses + 1) for name in ("guess", "probability")]
        self._columns = [*self._first, *guesses, "failure"]
        self.header = _csv_line(self._columns)

    def encode(self, prediction: Prediction) -> str:
        place = [prediction.path] if "path" in self._first else []
        if "start" in self._first:
            place += ["", ""] if prediction.seconds is None else [f"{time:.3f}" for time in prediction.seconds]
        guesses = [guess for guess in prediction.guesses[: self._num_guesses] if guess[1] >= self._above]
        cells = [cell for name, probability in guesses for cell in (name, f"{probability:.6f}")]
        cells += [""] * (2 * self._num_guesses - len(cells))
        return _csv_line([*place, *cells, " ".join(prediction.failure.split())])

    def decode(self, text: str) -> list[Kept]:
        """The complete rows at the start of `text`, which follows the header."""
        kept = []
        for cells in csv.reader(io.StringIO(text, newline="")):
            if len(cells) != len(self._columns):
                break
            kept.append(Kept(_csv_line(cells), cells[0], cells[-1]))
        return kept


class JsonFormat:
    """JSON lines: an object for each prediction, with probabilities in full precision."""

    header = ""

    def __init__(self, num_guesses: int, above: float = 0.0):
        self._num_guesses, self._above = num_guesses, above

    def encode(self, prediction: Prediction) -> str:
        guesses = [
            {"class": name, "probability": probability}
            for name, probability in prediction.guesses[: self._num_guesses]
            if probability >= self._above
        ]
        row: dict[str, Any] = {"path": printable(prediction.path)}
        if prediction.seconds is not None:
            row |= dict(zip(("start", "end"), prediction.seconds, strict=True))
        return to_json({**row, "guesses": guesses, "failure": prediction.failure}) + "\n"

    def decode(self, text: str) -> list[Kept]:
        kept = []
        for line in text.splitlines(keepends=True):
            try:
                row = json.loads(line)
                kept.append(Kept(line, row["path"], row["failure"]))
            except (ValueError, KeyError, TypeError):
                break
        return kept


class RowFile:
    """The file `path`, open for more rows; `<path>.key.json` beside it says what its rows were made with.

    A file of rows made with the same `key` is continued; a row torn by the interruption is cut off. An empty file is
    new, and anything that is not a regular file, such as a pipe, is written without looking back.

    Args:
        key: everything that rows depend on, as plain types.
        names: the files that the rows are about, in order, as far as known.

    Raises SettingsError if the file cannot be written, or has other contents: other rows, rows of another key, or rows
    of files that have changed since.
    """

    def __init__(self, path: Path, file_format: CsvFormat | JsonFormat, key: dict[str, Any], names: Sequence[str] = ()):
        self.path, self._format = path, file_format
        is_regular = path.is_file() or path.is_dir() or not path.exists()
        if is_regular:
            check_file(path, "choose another file")
        self.kept = self._read(key, names) if is_regular and path.exists() and path.stat().st_size else []
        self.num_rows = len(self.kept)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_regular:
                self._key_path.write_text(to_json(key, indent=2) + "\n", encoding="utf-8")
            self._file = open(path, "r+b" if self.kept else "wb")  # noqa: SIM115 (closed by __exit__)
            if self.kept:
                start = self._format.header + "".join(row.text for row in self.kept)
                self._file.truncate(len(start.encode()))
                self._file.seek(0, io.SEEK_END)
            else:
                self._append(self._format.header)
        except OSError as error:
            raise SettingsError(f"cannot write {path}: {error.strerror}; choose another file") from error

    @property
    def _key_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.key.json")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def add(self, number: int, prediction: Prediction) -> None:
        """Writes row `number`, unless the file already has it. Raises SettingsError if the disk is full."""
        if number >= self.num_rows:
            self._append(self._format.encode(prediction))
            self.num_rows += 1

    def _append(self, text: str) -> None:
        try:
            self._file.write(printable(text).encode())
            self._file.flush()
        except OSError as error:
            message = f"cannot write {self.path}: {error.strerror}; free some space, and the same command continues"
            raise SettingsError(message) from error

    def _read(self, key: dict[str, Any], names: Sequence[str]) -> list[Kept]:
        try:
            before = json.loads(self._key_path.read_text(encoding="utf-8"))
            content = self.path.read_bytes()
        except (OSError, ValueError):
            raise SettingsError(f"{self.path} already exists, and is not from this command; {REMEDY}") from None
        if changes := differences(before, json.loads(to_json(key))):
            name, (old, new) = next(iter(changes.items()))
            raise SettingsError(f"{self.path} was written with other settings ({name}: {old} -> {new}); {REMEDY}")
        text = content[: content.rfind(b"\n") + 1].decode("utf-8", "replace")
        if not text.startswith(self._format.header):
            if self._format.header.startswith(text):  # the header was torn
                return []
            raise SettingsError(f"{self.path} has been changed: its header differs; {REMEDY}")
        kept = self._format.decode(text[len(self._format.header) :])
        if not text[len(self._format.header) :].startswith("".join(row.text for row in kept)):
            raise SettingsError(f"{self.path} has been changed; {REMEDY}")
        for row, expected in zip(kept, map(printable, names), strict=False):
            if row.name != expected:
                raise SettingsError(
                    f"{self.path} has a row for {row.name} where {expected} comes now: the files differ; {REMEDY}"
                )
        if names and len(kept) > len(names):
            raise SettingsError(f"{self.path} has {len(kept)} rows, but there are {len(names)} files now; {REMEDY}")
        written = self.path.stat().st_mtime
        if (changed := next((name for name in names[: len(kept)] if _changed_after(name, written)), None)) is not None:
            raise SettingsError(f"{changed} has changed since its row in {self.path} was written; {REMEDY}")
        return kept


def _changed_after(name: str, seconds: float) -> bool:
    """Whether a file was written, replaced or renamed after a time. A copy may have an old time, but a new inode."""
    try:
        status = os.stat(name)
    except OSError:  # a stream, or gone
        return False
    return max(status.st_mtime, status.st_ctime) > seconds


def printable(text: str) -> str:
    """`text` with escapes for the bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
