"""Tables of class names, in the common formats: lines, CSV, JSON.

Ours has a line `label<TAB>name` for each class: `read_class_names` reads back exactly what `class_table` has written.
A table with ambiguous numbering is rejected, because classes that are off by one train and score like any others.
"""

import csv
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets.text_files import existing_path, numbered_lines, read_json, shorten, whole_numbers
from settings import did_you_mean

FORMS = "expected lines `label name`, CSV with a column of labels and one of names, one name per line, or JSON"
JSON_FORMS = 'expected JSON of the form ["name", ...], {"name": label, ...} or {"label": "name", ...}'
HEADER_WORDS = {
    *("id", "ids", "idx", "index", "indices", "nr", "number", "num", "code", "label", "labels", "class"),
    *("classes", "classid", "classname", "name", "names", "category", "categories", "action", "activity", "synset"),
    *("description", "display"),
}
UNFIT = {"Cc": "a control character", "Zl": "a line break", "Zp": "a line break", "Cs": "bytes that are not UTF-8"}
"""What a class name must not contain, by Unicode category: line files cannot, or not all programs can read it back."""

Pairs = list[tuple[int, str]]


def class_name(text: str, where: str) -> str:
    """`text` as the name of a class: composed (NFC), without whitespace or byte order marks at its ends.

    Raises ValueError, which begins with `where`, if nothing is left, or if a line of UTF-8 text cannot hold it.
    """
    name = unicodedata.normalize("NFC", re.sub(r"^[\s\ufeff]+|[\s\ufeff]+$", "", text))
    if not name:
        raise ValueError(f"{where}: the class name {text!r} is blank; rename the class")
    if name.isprintable():
        return name
    for character in name:
        if unfit := UNFIT.get(unicodedata.category(character)):
            raise ValueError(f"{where}: the class name {shorten(name)} holds {unfit}; rename the class")
    return name


def class_names_from(texts: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of classes in order of their labels. Raises ValueError for none, an unfit one and one that repeats."""
    if not texts:
        raise ValueError(f"{where}: no class names; give at least one")
    names = tuple(class_name(text, where) for text in texts)
    first: dict[str, int] = {}
    for label, name in enumerate(names):
        if first.setdefault(name, label) != label:
            raise ValueError(f"{where}: labels {first[name]} and {label} both have the class name {name!r}")
    return names


def label_finder(class_names: Sequence[str]) -> Callable[[str, str], int]:
    """A function (name, where) -> label that raises ValueError for a name not in `class_names`."""
    labels = {name: label for label, name in enumerate(class_names)}

    def label_of(name: str, where: str) -> int:
        if name not in labels:
            name = class_name(name, where)
        if name not in labels:
            raise ValueError(f"{where} is not one of the {len(labels)} class names{did_you_mean(name, labels)}")
        return labels[name]

    return label_of


def class_table(class_names: Sequence[str]) -> str:
    """The text of a table of class names: a line `label<TAB>name` each, for `read_class_names`."""
    return "".join(f"{label}\t{_quote(name)}\n" for label, name in enumerate(class_names))


def read_class_names(path: str | Path, is_of_pixels: bool = False) -> tuple[str, ...]:
    """Class names in order of their labels.

    Args:
        path: one of, with labels from 0 or from 1,
            - lines `label name`, separated by a tab or spaces;
            - CSV with a column of labels and one of names, in either order, separated by commas, semicolons or tabs;
            - one name per line;
            - JSON: ["name", ...], {"name": label, ...} or {"label": "name", ...}.
            Lines and CSV may have a header, except one name per line. Double quotes around a name are dropped.
        is_of_pixels: labels are values of label maps, so they must be from 0.

    Raises FileNotFoundError, and ValueError for a table that has gaps, repeats a name, or may mean several things.
    """
    path = existing_path(Path(path).expanduser(), "file of class names")
    lines = [line.strip() for _, line in numbered_lines(path)]
    is_json = path.suffix.lower() == ".json" or lines[0].startswith(("{", "["))
    names = _read_json(path, is_of_pixels) if is_json else _read_lines(path, lines, is_of_pixels)
    return class_names_from([_unquote(name) for name in names], str(path))


# Lines and CSV -----------------------------------------------------------------------------------------------------


def _read_lines(path: Path, lines: list[str], is_of_pixels: bool) -> list[str]:
    for split in (_split_at_tabs, _split_at_commas, _split_at_blanks):
        rows = split(path, lines)
        if rows is not None:
            if len(rows) > 1 and _is_header(rows[0]):
                del rows[0]
            pairs = _pair(path, *map(list, zip(*rows, strict=True)), is_ours=split is _split_at_tabs)
            if pairs is not None:
                return _in_order(path, pairs, is_of_pixels)
    if _is_header(lines[:1]):
        raise ValueError(f"{path}:1: is {lines[0]!r} a class, or a header? Remove it, or number the lines from 0")
    if len(lines) == 1 and re.search("[,;]", lines[0]):
        raise ValueError(f"{path}: its only line holds commas; {FORMS}")
    if _is_numbered(lines):
        raise ValueError(f"{path}: its lines have numbers, but not all of them, or in another form; {FORMS}")
    return lines


def _split_at_tabs(path: Path, lines: list[str]) -> list[list[str]] | None:
    """Two columns; None if a line has no tab. Raises ValueError for more columns."""
    rows = [re.split(r"\s*\t\s*", line) for line in lines]
    return None if any(len(row) < 2 for row in rows) else _of_two(path, rows)


def _split_at_commas(path: Path, lines: list[str]) -> list[list[str]] | None:
    """Two columns of CSV; None if no column holds labels: names hold commas, too."""
    for delimiter in ",;":
        try:
            rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
        except csv.Error:
            continue
        below = rows[1:] or rows
        if all(len(row) > 1 for row in rows) and (
            whole_numbers(row[0] for row in below) or whole_numbers(row[-1] for row in below)
        ):
            return _of_two(path, rows)
    return None


def _split_at_blanks(path: Path, lines: list[str]) -> list[list[str]] | None:
    """Label and name; None if a line, other than a header, does not begin with a label."""
    rows = [line.split(None, 1) for line in lines]
    below = rows[1:] if _is_header(rows[0]) else rows
    is_numbered = all(len(row) == 2 for row in rows) and whole_numbers(row[0] for row in below)
    return rows if is_numbered else None


def _of_two(path: Path, rows: list[list[str]]) -> list[list[str]]:
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"{path}: expected two columns, a label and a name, in double quotes if it holds commas; "
                             f"found {shorten(row)}")  # fmt: skip
    return [[field.strip() for field in row] for row in rows]


def _is_header(fields: Sequence[str]) -> bool:
    words = [re.findall(r"[^\W_]+", field.lower()) for field in fields]
    return all(words) and all(word in HEADER_WORDS for of_field in words for word in of_field)


def _is_numbered(lines: list[str]) -> bool:
    """Whether half of the lines or more begin or end with numbers that count from 0 or 1."""
    first = [re.match(r"\W*(\d{1,9})(?:\s*[^\w\s]|\s)", line) for line in lines]
    last = [re.search(r"[^\w.](\d{1,9})$", line) for line in lines]
    names = {line[: match.start()] for line, match in zip(lines, last, strict=True) if match}
    if len(names) == 1:
        last = []  # "gesture 1", "gesture 2", ... are names
    for found in (first, last):
        numbers = [int(match[1]) for match in found if match]
        if len(numbers) >= min(max(2, len(lines) / 2), len(lines)) and _counts(numbers):
            return True
    return False


# JSON --------------------------------------------------------------------------------------------------------------


def _read_json(path: Path, is_of_pixels: bool) -> list[str]:
    content: Any = read_json(path)
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        return content
    if isinstance(content, dict) and content:
        if all(type(label) is int for label in content.values()):
            return _in_order(path, [(label, name) for name, label in content.items()], is_of_pixels)
        if all(isinstance(value, str) for value in content.values()):
            pairs = _pair(path, list(content), list(content.values()))
            if pairs is not None:
                return _in_order(path, pairs, is_of_pixels)
    raise ValueError(f"{path}: {JSON_FORMS}; found {shorten(content)}")


# Both --------------------------------------------------------------------------------------------------------------


def _pair(path: Path, first: list[str], second: list[str], is_ours: bool = False) -> Pairs | None:
    """Labels and names from two columns; None if neither holds whole numbers.

    If both do, the labels are those that count from 0 or 1. If both count so, the first column has the labels of a
    table of ours; another table is rejected.
    """
    columns, labels = (first, second), [whole_numbers(column) for column in (first, second)]
    if all(labels):
        counts = [_counts(column) for column in labels]
        if all(counts) and first != second and not is_ours:
            raise ValueError(f"{path}: both columns could be the labels, because all names are numbers; {FORMS}, and "
                             "give the names with a tab: `label<TAB>name`")  # fmt: skip
        place = 1 if counts == [False, True] else 0
    elif any(labels):
        place = 0 if labels[0] else 1
    else:
        return None
    return list(zip(labels[place], columns[1 - place], strict=True))


def _counts(labels: Sequence[int]) -> bool:
    """Whether labels are 0, 1, ... or 1, 2, ..., each once, in any order."""
    first = min(labels)
    return first in (0, 1) and sorted(labels) == list(range(first, first + len(labels)))


def _in_order(path: Path, pairs: Pairs, is_of_pixels: bool) -> list[str]:
    labels = [label for label, _ in pairs]
    if not _counts(labels):
        raise ValueError(
            f"{path}: the {len(labels)} indices must be 0 to {len(labels) - 1}, or 1 to {len(labels)}, each once; "
            f"found {len(set(labels))} different ones from {min(labels)} to {max(labels)}"
        )
    if is_of_pixels and min(labels) == 1:
        raise ValueError(
            f"{path}: its labels are 1 to {len(labels)}, but label maps count from 0; add a line that says what pixels "
            "of 0 are, such as `0 background`. If they are to be ignored, also set data.ignored_label=0"
        )
    return [name for _, name in sorted(pairs)]


def _quote(name: str) -> str:
    """`name`, quoted as in CSV if `_unquote` would take quotes of its own for such."""
    is_quoted = len(name) > 1 and name[0] == name[-1] == '"'
    return '"{}"'.format(name.replace('"', '""')) if is_quoted else name


def _unquote(text: str) -> str:
    """`text` without quotes around it, `""` inside standing for `"`; as it is if the quotes belong to its words."""
    text = text.strip()
    inner = text[1:-1].split('""')
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"' and not any('"' in part for part in inner)
    return '"'.join(inner) if is_quoted else text
