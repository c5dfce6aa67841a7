"""The rights that docs/install.md gives: every command runs as a role that has these and no others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from seed_analytics.local import Postgres
from seed_analytics.platform_tables import create_platform_tables
from seed_analytics.settings import STAGES
from seed_analytics.simulate import simulate
from support import ROOT, Database, invoke

NAME = "least_privilege"
ROLE = "seed_analytics"
LEARNERS, WEEKS = 300, 16


def statements() -> str:
    """Return the guide's SQL, for the database of this file."""
    (block,) = re.findall(r"```sql\n(.+?)```", (ROOT / "docs" / "install.md").read_text(), re.DOTALL)
    return block.replace("DATABASE seedtest", f"DATABASE {NAME}")


@pytest.fixture(scope="module")
def granted(postgres: Postgres) -> Iterator[Database]:
    """The platform's tables with their owner's rows, our tables and KPIs by the role, and its URL."""
    url = postgres.create_database(NAME)
    with psycopg.connect(url, autocommit=True) as owner:
        create_platform_tables(owner)
        simulate(owner, learners=LEARNERS, weeks=WEEKS, seed=1)
        # What everybody may do by default must not stand in for a grant.
        owner.execute(f"REVOKE ALL ON DATABASE {NAME} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC")
        owner.execute(statements())  # type: ignore[arg-type]
        role_url = url.replace("postgres@", f"{ROLE}@", 1)
        try:
            assert invoke("migrate", env={"DATABASE_URL": role_url}) == 0
            assert invoke("compute-weekly-kpis", f"--kpi-lookback-weeks={WEEKS}", env={"DATABASE_URL": role_url}) == 0
            yield Database(role_url, owner)
        finally:
            owner.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(ROLE)))
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.mark.parametrize("command", ["check-inputs", *STAGES])
def test_a_command_runs_with_the_rights_of_the_guide(
    command: str, granted: Database, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(granted, command, IRT_UPDATE_QUESTION_META="true") == 0, capsys.readouterr().err


def test_verify_runs_with_the_rights_of_the_guide(
    granted: Database, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(granted, "verify") == 0, capsys.readouterr().err


@pytest.mark.parametrize("table", ["attempt", "question", "features_topic_daily", "weekly_kpi"])
def test_no_row_of_the_platform_can_be_deleted_with_the_rights_of_the_guide(table: str, granted: Database) -> None:
    with psycopg.connect(granted.url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
