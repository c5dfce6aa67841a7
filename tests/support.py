"""What tests call: the command as users run it, and a database to look at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from seed_analytics import cli

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # data and schemas that are beside the project, not part of it


@dataclass
class Database:
    """A database of its own for one test, and the one connection through which the test looks at it."""

    url: str
    conn: psycopg.Connection[tuple[Any, ...]]

    def __call__(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        cursor = self.conn.execute(query, params or None)
        return cursor.fetchall() if cursor.description else []

    def runs(self, stage: str) -> list[tuple[Any, ...]]:
        """Status and reason of the stage's runs, the oldest first."""
        return self("SELECT status, reason FROM analytics_runs WHERE stage = %s ORDER BY started_at, run_id", stage)


def invoke(*argv: str, env: dict[str, str] | None = None) -> int:
    """Run ``seed-analytics ARGV`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["seed-analytics", *argv])
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)
