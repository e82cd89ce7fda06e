"""Standard JSON, in which NaN and infinities become null, and files with a JSON object per line."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any


def to_json(values: dict[str, Any], indent: int | None = None) -> str:
    """`values` as JSON text. JSON has no NaN and no infinity, so they become null, wherever they are."""
    return json.dumps(_plain(values), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file; [] if it does not exist. Skips a line that was truncated when its process died."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows
