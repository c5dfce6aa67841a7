"""Public data sets in the platform's tables, so that the stages run on what real learners did."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from seed_analytics.datasets import memphis, oulad
from seed_analytics.db import Connection
from seed_analytics.errors import UsageFault

ADAPTERS = {"oulad": oulad, "memphis": memphis}
"""Name of a data set -> the module that recognises its files and loads them."""


def recognise(directory: Path) -> str | None:
    """Return the name of the data set whose files a directory holds, or None."""
    return next((n for n, adapter in ADAPTERS.items() if all((directory / f).is_file() for f in adapter.FILES)), None)


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
        counts: dict[str, int] = ADAPTERS[name].load(conn, directory, now)
        return counts
    known = "; ".join(f"{name}: {', '.join(adapter.FILES)}" for name, adapter in ADAPTERS.items())
    raise UsageFault(f"{directory} holds no data set that is known here. Known ones and their files: {known}.")
