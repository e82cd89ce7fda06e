"""Tables of reports."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Any]) -> None:
    """Writes a CSV file in UTF-8.

    Text that is not UTF-8, such as an odd path, is escaped, so that it does not make the table unreadable elsewhere.
    """
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def share_cell(value: float) -> str:
    """A fraction as a cell of a table; empty for NaN."""
    return "" if value != value else f"{value:.6f}"
