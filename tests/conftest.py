"""Fixtures that every suite shares: a real PostgreSQL, the real R services, and the command as users run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import structlog
from postgres import MODES, Choice, ContainerPostgres, choose
from seed_analytics import cli, migrations, settings
from seed_analytics.local import Postgres, RService
from seed_analytics.platform_tables import create_platform_tables
from seed_analytics.simulate import simulate
from support import CRDS, SERVICES, Database, copy_of, invoke, run_with

LEARNERS, WEEKS, SEED = 300, 16, 1


POSTGRES = pytest.StashKey[Choice]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=MODES,
        default="auto",
        help="PostgreSQL of the tests: in a container (POSTGRES_IMAGE), or embedded; auto: in a container where Docker has the image",
    )
    chart = parser.getgroup("chart")
    chart.addoption("--helm", default="", help="3 or 4 (pinned), or a path (the one on PATH, else 4)")
    chart.addoption("--crds", type=Path, default=CRDS, help="folder of the operators' CRDs (%(default)s)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[POSTGRES] = choose(config.getoption("--postgres"))


def pytest_report_header(config: pytest.Config) -> str:
    choice = config.stash[POSTGRES]
    return f"PostgreSQL: {f'container of {choice.image}' if choice.image else 'embedded'} ({choice.why})"


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[Postgres | ContainerPostgres]:
    """A PostgreSQL server for the session."""
    image = pytestconfig.stash[POSTGRES].image
    with ContainerPostgres(image) if image else Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def empty_template(postgres: Postgres) -> str:
    """Name of a database with the platform's tables and ours, all empty."""
    url = postgres.create_database("empty_template")
    with psycopg.connect(url, autocommit=True) as conn:
        create_platform_tables(conn)
    migrations.migrate(url)
    return "empty_template"


@pytest.fixture(scope="session")
def simulated_template(postgres: Postgres, empty_template: str) -> str:
    """Name of a database with simulated learners and their KPIs of all weeks."""
    url = postgres.create_database("simulated_template", template=empty_template)
    with psycopg.connect(url, autocommit=True) as conn:
        simulate(conn, learners=LEARNERS, weeks=WEEKS, seed=SEED)
    assert invoke("compute-weekly-kpis", "--kpi-lookback-weeks", str(WEEKS), env={"DATABASE_URL": url}) == 0
    return "simulated_template"


_databases = iter(range(10**9))


@pytest.fixture
def database(postgres: Postgres, empty_template: str) -> Iterator[Database]:
    """An empty database with all tables."""
    yield from copy_of(postgres, empty_template, f"test_{next(_databases)}")


@pytest.fixture
def simulated(postgres: Postgres, simulated_template: str) -> Iterator[Database]:
    """A database with simulated learners and their KPIs, in which no stage has run."""
    yield from copy_of(postgres, simulated_template, f"test_{next(_databases)}")


@pytest.fixture(scope="session")
def working_tree() -> Iterator[dict[str, RService]]:
    """The three R services from the working tree, ready; name -> service."""
    started = {name: RService(name) for name in SERVICES.values()}
    try:
        for service in started.values():
            service.start()
        for service in started.values():
            service.wait_ready()
        yield started
    finally:
        for service in started.values():
            service.stop()


@pytest.fixture(scope="session")
def services(working_tree: dict[str, RService]) -> dict[str, RService]:
    """The three R services that a suite asks; name -> service."""
    return working_tree


KNOWN = {
    name
    for kind in cli.COMMAND_SETTINGS.values()
    for item in settings.describe(kind)
    for name in (item.name, *item.aliases)
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KNOWN & os.environ.keys():
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logs_of_this_test_alone() -> Iterator[None]:
    # A command logs to the standard error of its test, which is closed afterwards.
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(services: dict[str, RService]) -> Callable[..., int]:
    """Run a stage with the real services: ``run(database, "stage", "--flag", "1", VARIABLE="x")``."""
    return partial(run_with, services)
