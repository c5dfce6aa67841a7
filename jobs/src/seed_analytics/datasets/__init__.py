"""Public data sets and exports in the platform's tables, so that the stages run on what real learners did."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from seed_analytics.datasets import exports, memphis, oulad
from seed_analytics.db import Connection
from seed_analytics.errors import UsageFault

ADAPTERS = {"oulad": oulad, "memphis": memphis}
"""Name of a public data set -> the module that knows its files and loads them."""


def recognise(directory: Path) -> str | None:
    """Return the name of the data set whose files a directory holds, or None."""
    for name, adapter in ADAPTERS.items():
        if all((directory / file).is_file() for file in adapter.FILES):
            return name
    return "exports" if exports.find(directory, "attempt") else None


def load(conn: Connection, directory: Path, now: datetime) -> dict[str, int]:
    """Recognise the data set in a directory and load it; what an earlier load or simulation left is replaced.

    Args:
        conn: a connection in autocommit mode.
        directory: holds the files of one data set.
        now: the moment at which the data are to end; dates are moved by whole weeks, so weekdays stay.

    Returns:
        The number of rows by table.

    Raises:
        UsageFault: no known data set is there.
        InputFault: the platform's tables hold rows that were neither simulated nor loaded.

    """
    if name := recognise(directory):
        adapter: Any = ADAPTERS.get(name, exports)
        counts: dict[str, int] = adapter.load(conn, directory, now)
        return counts
    known = "; ".join(f"{name}: {', '.join(adapter.FILES)}" for name, adapter in ADAPTERS.items())
    raise UsageFault(
        f"{directory} holds no data set that is known here. Known ones and their files: {known}; "
        "exports of the platform's own tables: attempt.csv or attempt.parquet."
    )
