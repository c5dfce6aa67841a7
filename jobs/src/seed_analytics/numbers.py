"""JSON with numbers at full precision and null where a number does not exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson


def dumps(value: Any) -> bytes:
    """Write JSON as RFC 8259 has it: NaN and infinity become null; numpy's numbers and arrays are welcome."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    # An array that is not contiguous, or of another type than numbers; a Decimal, an address.
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def by_key(columns: dict[str, list[Any]], key: str) -> dict[str, dict[str, Any]]:
    """Turn columns into an object by one of them: ``{"term": [..], "z": [..]}`` -> ``{term: {"z": ..}}``."""
    rest = [name for name in columns if name != key]
    return {str(name): {other: columns[other][row] for other in rest} for row, name in enumerate(columns[key])}
