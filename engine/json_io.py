"""Standard JSON: NaN and infinities become null."""

import json
import math
from typing import Any


def to_json(values: dict[str, Any], indent: int | None = None) -> str:
    """`values` as JSON text. JSON has no NaN and no infinity, so they become null."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
    return json.dumps(plain, indent=indent, allow_nan=False)
