"""Reads the text files that people write or download: lists, tables, CSV, JSON. Errors name the file and the line."""

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from settings import did_you_mean

CHARACTERS_AT_ONCE = 1 << 20  # that are split into lines
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,4000}")  # int() takes digits of any script, underscores, and no more than 4300


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without byte order marks, lines ending in "\\n".

    Raises ValueError for another encoding and for NUL characters, which no path can contain.
    """
    content = path.read_bytes()
    refuse_utf16(path, content)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, see byte {error.start}; save it as UTF-8") from None
    del content  # as large as the text
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\n\ufeff", "\n")  # joined files
    if "\0" in text:
        number = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}:{number}: holds a NUL character; expected UTF-8 text without any")
    return text


def refuse_utf16(path: Path, start: bytes) -> None:
    """Raises ValueError if a file that begins with these bytes says that it is UTF-16."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is UTF-16 text; expected UTF-8: save it as UTF-8")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    text = read_text(path)
    if text.isspace() or not text:
        raise ValueError(f"{path} is empty; expected a line for each entry")
    return ((number, line) for number, line in enumerate(_split_lines(text), 1) if line and not line.isspace())


def _split_lines(text: str) -> Iterator[str]:
    """The lines of `text.split("\n")`, with only a few in memory."""
    start = 0
    while (end := text.find("\n", start + CHARACTERS_AT_ONCE)) >= 0:
        yield from text[start:end].split("\n")
        start = end + 1
    yield from text[start:].split("\n")


def bad_line(path: Path, number: int, line: str, expected: str) -> ValueError:
    return ValueError(f"{path}:{number}: {expected}; found {shorten(line.strip())}")


def shorten(value: Any) -> str:
    """`repr(value)` for a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, with their line numbers. Fields have no whitespace at their ends."""
    return csv_rows_of(io.StringIO(read_text(path)), path)


def csv_rows_of(lines: Iterable[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """`csv_rows` of a file that is read line by line; `path` is for messages."""
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: not valid CSV: {error}; is a quote missing?") from None


def read_csv(path: Path, wanted: Iterable[str], what: str) -> list[tuple[int, dict[str, str]]]:
    """The rows below the header of a CSV file, with their line numbers.

    Raises ValueError if a column of `wanted` is missing (`what`: what the file should be) or any appears twice, and
    if a row has more or fewer fields than the header.
    """
    rows = csv_rows(path)
    _, columns = next(rows, (1, []))
    for column in filter(None, columns):
        if columns.count(column) > 1:
            raise ValueError(f"{path}:1: the column {column} appears {columns.count(column)} times; expected it once")
    if absent := sorted(set(wanted) - set(columns)):
        raise ValueError(f"{path}:1: no column {', '.join(absent)}; expected {what}, found {shorten(columns)}")
    table = []
    for number, fields in rows:
        if len(fields) != len(columns):
            expected = f"expected {len(columns)} fields, as in the header, with quotes around fields that hold commas"
            raise bad_line(path, number, ",".join(fields), expected)
        table.append((number, dict(zip(columns, fields, strict=True))))
    return table


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises ValueError for a key that appears twice, and for NaN and Infinity."""
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shorten(twice)} appears {keys.count(twice)} times; expected it once")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def whole_number(text: str) -> int | None:
    """The integer written in ASCII digits, with or without a minus sign; None for any other text."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def whole_numbers(texts: Iterable[str]) -> list[int] | None:
    """The texts as integers; None if one is not an integer."""
    numbers = [whole_number(text) for text in texts]
    return None if None in numbers else numbers


def parse_number(text: str) -> float:
    """`float(text)` for plain ASCII; ValueError for what only Python accepts as a number, such as 1_000."""
    if not text.isascii() or "_" in text:
        raise ValueError(f"expected a number, found {text!r}")
    return float(text)


def existing_path(path: Path, what: str) -> Path:
    """`path` if it exists; else raises FileNotFoundError, which names the missing part and suggests a similar name."""
    if path.exists():
        return path
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    lost = path.absolute().relative_to(parent).parts[0]
    raise FileNotFoundError(f"no {what} at {path}: {parent} has no {lost!r}{did_you_mean(lost, os.listdir(parent))}")
