"""JSON with numbers at full precision and null where a number does not exist."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np


def jsonable(value: Any) -> Any:
    """Return the value with numpy scalars and arrays unpacked, tuples as lists and NaN or infinity as None."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any) -> str:
    """Write JSON as RFC 8259 has it: NaN and infinity become null."""
    return json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"), default=str)


def by_key(columns: dict[str, list[Any]], key: str) -> dict[str, dict[str, Any]]:
    """Turn columns into an object by one of them: ``{"term": [..], "z": [..]}`` -> ``{term: {"z": ..}}``."""
    rest = [name for name in columns if name != key]
    return {str(name): {other: columns[other][row] for other in rest} for row, name in enumerate(columns[key])}
