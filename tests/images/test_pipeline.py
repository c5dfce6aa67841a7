"""Every stage of the jobs image against the services' images and PostgreSQL, over a network without a way out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from containers import JOBS, SERVICES, TOKEN, Containers, Ended
from docker.models.images import Image
from seed_analytics.demo import STAGES
from seed_analytics.settings import SERVICES as SERVICE_OF_PREFIX

PASSWORD = secrets.token_urlsafe(16)
WEEKS = "16"
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def network(engine: docker.DockerClient) -> Iterator[str]:
    """Name of a network of containers; nothing in it reaches the outside."""
    made = engine.networks.create(f"seed-analytics-test-{os.getpid()}", internal=True)
    yield made.name
    made.remove()


@pytest.fixture(scope="module")
def there(engine: docker.DockerClient, network: str) -> Iterator[Containers]:
    """Containers in the network."""
    started = Containers(engine)
    yield started
    started.remove()


@pytest.fixture(scope="module")
def run(there: Containers, network: str, postgres_image: Image) -> Run:
    """Run ``seed-analytics ARGV`` in the jobs image, with database and services around it."""
    database = there.start(
        postgres_image,
        network=network,
        hostname="database",
        read_only=False,
        cap_drop=[],
        tmpfs={"/var/lib/postgresql": ""},
        environment={
            "POSTGRES_USER": "seedtest",
            "POSTGRES_DB": "seedtest",
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C.UTF-8",
            "PGDATA": "/var/lib/postgresql/throw-away",
        },
    )
    env = {"DATABASE_URL": f"postgresql://seedtest:{PASSWORD}@{address(database, network)}:5432/seedtest"}
    for prefix, name in SERVICE_OF_PREFIX.items():
        service = there.start(name, network=network, hostname=name, environment={"INTERNAL_TOKEN": TOKEN})
        env[f"{prefix}_BASE_URL"] = f"http://{address(service, network)}:8080"
        env[f"{prefix}_INTERNAL_TOKEN"] = TOKEN
    assert len(SERVICE_OF_PREFIX) == len(SERVICES)

    def run_job(*argv: str, **options: object) -> Ended:
        return there.run(JOBS, *argv, network=network, mem_limit="1g", memswap_limit="1g", environment=env, **options)

    return run_job


def address(container: docker.models.containers.Container, network: str) -> str:
    """Return the address of a container in a network."""
    container.reload()
    return str(container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"])


@pytest.fixture(scope="module")
def filled(run: Run) -> Run:
    """The same, once the database holds simulated learners and their KPIs."""
    for argv in (
        ("migrate", "--with-platform-tables"),
        ("simulate", "--learners", "150", "--weeks", WEEKS, "--seed", "1"),
        ("compute-weekly-kpis", "--kpi-lookback-weeks", WEEKS),
    ):
        ended = run(*argv)
        assert ended.code == 0, ended.output
    return run


@pytest.fixture(scope="module")
def finished(filled: Run) -> dict[str, Ended]:
    """Stage -> how it ended."""
    return {stage: filled(stage) for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_succeeds(finished: dict[str, Ended], stage: str) -> None:
    assert finished[stage].code == 0, finished[stage].output


@pytest.mark.parametrize("stage", STAGES)
def test_no_secret_is_in_a_log(finished: dict[str, Ended], stage: str) -> None:
    assert PASSWORD not in finished[stage].output
    assert TOKEN not in finished[stage].output


def test_verify_finds_nothing_wrong(filled: Run, finished: dict[str, Ended]) -> None:
    assert finished
    ended = filled("verify")
    assert ended.code == 0, ended.output


def test_the_report_is_written_where_it_is_mounted(filled: Run, finished: dict[str, Ended], tmp_path: Path) -> None:
    assert finished
    tmp_path.chmod(0o777)
    ended = filled("report", "--report-path", "/report/report.html", volumes=[f"{tmp_path}:/report"])
    assert ended.code == 0, ended.output
    assert "<svg" in (tmp_path / "report.html").read_text()
