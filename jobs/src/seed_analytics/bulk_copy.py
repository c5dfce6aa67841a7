"""COPY of numpy arrays in PostgreSQL's binary format.

Writing rows one by one costs about a microsecond per field in Python, which is minutes for the log of ten thousand
learners; here each column is laid out in one numpy operation. The format is that of the manual's page on COPY,
section "Binary Format": per row the number of fields, per field its length (-1: null) and its bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql as pgsql

from seed_analytics.db import Connection

Array = npt.NDArray[Any]

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_ROWS_AT_ONCE = 50_000
_POSTGRES_EPOCH = np.datetime64("2000-01-01", "D")


def copy_arrays(conn: Connection, table: str, columns: Mapping[str, Array]) -> int:
    """Append rows to a table.

    Args:
        conn: a connection.
        table: the table's name, with its schema where that is not on the search path.
        columns: name -> array, all of one length; masked elements become null. ``S`` (UTF-8 bytes) or ``U`` is text,
            ``bool`` boolean, ``int32`` integer, ``int64`` bigint, ``float64`` double precision, ``datetime64[D]``
            date, any finer ``datetime64`` timestamptz (UTC); not-a-time becomes null.

    Returns:
        The number of rows.

    Raises:
        TypeError: an array has another type.

    """
    names = pgsql.SQL(", ").join(map(pgsql.Identifier, columns))
    n_rows = len(next(iter(columns.values())))
    statement = pgsql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(pgsql.Identifier(*table.split(".")), names)
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_HEADER)
        for chunk in _chunks(columns, n_rows):
            copy.write(chunk)
        copy.write(_TRAILER)
    return n_rows


def _chunks(columns: Mapping[str, Array], n_rows: int) -> Iterator[bytes]:
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        yield _rows([values[start : start + _ROWS_AT_ONCE] for values in columns.values()])


def _rows(columns: list[Array]) -> bytes:
    fields = [_field(values) for values in columns]
    n_rows = len(columns[0])
    count = np.full((n_rows, 1), len(fields), ">i2").view(np.uint8)
    parts, kept = [count], [np.ones_like(count, bool)]
    for payload, length in fields:
        parts += [length.astype(">i4").reshape(-1, 1).view(np.uint8), payload]
        # Shorter texts and nulls leave the end of their place unused: those bytes are not sent.
        kept += [np.ones((n_rows, 4), bool), np.arange(payload.shape[1]) < length[:, None]]
    rows: bytes = np.hstack(parts)[np.hstack(kept)].tobytes()
    return rows


def _field(values: Array) -> tuple[Array, Array]:
    """Return the bytes of each element, shape (rows, width), and how many of them count (-1: null), shape (rows,)."""
    null = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    match data.dtype.kind:
        case "b":
            data = data.astype(np.uint8)
        case "i" if data.dtype.itemsize in {4, 8}:
            data = data.astype(f">i{data.dtype.itemsize}")
        case "f" if data.dtype.itemsize == 8:  # noqa: PLR2004 (bytes of a double)
            data = data.astype(">f8")
        case "M":
            null = null | np.isnat(data)
            # Days since 2000-01-01 are a date, microseconds since then a timestamptz.
            unit, integer = ("D", ">i4") if np.datetime_data(data.dtype)[0] == "D" else ("us", ">i8")
            data = (data - _POSTGRES_EPOCH).astype(f"timedelta64[{unit}]").astype(np.int64).astype(integer)
        case "U":
            data = np.char.encode(data, "utf-8")
        case "S":
            pass
        case _:
            raise TypeError(f"COPY of a column of type {data.dtype} is not supported")
    width = data.dtype.itemsize
    length = np.char.str_len(data) if data.dtype.kind == "S" else np.full(len(data), width)
    payload = np.ascontiguousarray(data).view(np.uint8).reshape(len(data), width)
    return payload, np.where(null, -1, length)
