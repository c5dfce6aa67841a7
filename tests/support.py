"""What tests call: the command as users run it, and a database to look at."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from seed_analytics import cli
from seed_analytics.local import Postgres, RService
from seed_analytics.settings import SERVICES

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # data and schemas that are beside the project, not part of it
CRDS = SHARED / "crds"
# What each stage publishes, beside the keys P, sigma and S of weekly_kpi.
TABLES = {
    "calibrate-irt-weekly": ("irt_fit_meta", "irt_item_params", "irt_abilities"),
    "cluster-segments": ("cluster_fit_meta", "user_segments"),
    "fit-survival-churn": ("survival_fit_meta", "survival_risk"),
    "forecast-prophet": ("prophet_fit_meta", "anomalies"),
    "fit-bayesian-growth": ("brms_fit_meta",),
}
ADDED = ("seed", "versions", "elapsed_secs")  # by a service to what its function returns


def close(left: Any, right: Any, tolerance: float = 1e-12, at: str = "") -> None:
    """Two replies, equal in every number to `tolerance` and exactly in all else."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), at
        for name in left:
            close(left[name], right[name], tolerance, f"{at}.{name}")
    elif isinstance(left, list):
        assert len(left) == len(right), at
        for place, pair in enumerate(zip(left, right, strict=True)):
            close(*pair, tolerance, f"{at}[{place}]")
    elif isinstance(left, float) or isinstance(right, float):
        assert left == pytest.approx(right, rel=tolerance, abs=tolerance), at
    else:
        assert left == right, at


def until(condition: Callable[[], bool], within: float = 60) -> None:
    """Wait until a condition is met, for so many seconds at most."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {within:.0f} s"
        time.sleep(0.02)


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


def shuffle(database: Database) -> None:
    """Lay the rows of the log and of the KPIs in another order, the same one every time."""
    database("SELECT setseed(0.5)")
    for table in ("attempt", "weekly_kpi"):
        database(f"CREATE TEMP TABLE shuffled AS SELECT * FROM {table} ORDER BY random()")
        database(f"TRUNCATE {table}")
        database(f"INSERT INTO {table} SELECT * FROM shuffled")
        database("DROP TABLE shuffled")


def invoke(*argv: str, env: dict[str, str] | None = None) -> int:
    """Run ``seed-analytics ARGV`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["seed-analytics", *argv])
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def run_with(services: dict[str, RService], database: Database, *argv: str, **env: str) -> int:
    """Run a command against a database and the real services; `env` adds to its environment."""
    found = {"DATABASE_URL": database.url}
    for prefix, name in SERVICES.items():
        found[f"{prefix}_BASE_URL"] = services[name].base_url
        found[f"{prefix}_INTERNAL_TOKEN"] = services[name].token
    return invoke(*argv, env=found | env)


def copy_of(postgres: Postgres, template: str, name: str) -> Iterator[Database]:
    """Yield a database that is a copy of another one, and drop it afterwards."""
    url = postgres.create_database(name, template=template)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET timezone TO 'UTC'")
        yield Database(url, conn)
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
