"""Faults while a run is at work: the next try or run heals, and nothing is half-published."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cluster.conftest import Demo
from cluster.kube import until, with_env
from kubernetes import client
from seed_analytics.errors import ExitCode

BRMS, FORECAST, IRT = "r-brms-plumber", "r-forecast-plumber", "r-irt-plumber"


@pytest.fixture
def started(demo: Demo, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Start a Job of a stage, with variables of its own; the Job carries the test's name."""

    def start(stage: str, **env: str) -> str:
        name = request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
        return demo.namespace.run_job(stage, name, with_env(**env))

    return start


@pytest.fixture
def published(demo: Demo) -> Iterator[Callable[[], int]]:
    """Count the runs of a table; afterwards, see that no run is left open."""
    yield lambda: int(demo.postgres.sql("SELECT count(*) FROM brms_fit_meta")[0])
    assert demo.postgres.sql("SELECT run_id FROM analytics_runs WHERE status = 'running'") == []


def fitting(demo: Demo, service: str) -> bool:
    """Say whether a worker of the service fits."""
    ask = 'cat(readLines(url("http://127.0.0.1:8080/metrics")), sep = "\\n")'
    said = demo.namespace.kubectl("exec", f"deployment/{service}", "--", "Rscript", "-e", ask, check=False)
    return any(line.startswith("seed_workers_busy") and not line.endswith(" 0") for line in said.splitlines())


def test_a_service_that_dies_in_mid_fit(demo: Demo, started: Callable[..., str], published: Callable[[], int]) -> None:
    before = published()
    job = started("fit-bayesian-growth", BRMS_N_SAMPLES="20000")
    until("the service fits", lambda: fitting(demo, BRMS), 60)
    pod = demo.namespace.running(app=BRMS)
    # As when its node is lost: no time to finish the fit.
    demo.namespace.cluster.core.delete_namespaced_pod(pod.metadata.name, demo.namespace.name, grace_period_seconds=0)
    demo.namespace.complete(job, 300)
    assert published() == before + 1


def test_a_service_scaled_to_zero_and_back(demo: Demo, started: Callable[..., str]) -> None:
    demo.namespace.kubectl("scale", "deployment", IRT, "--replicas=0")
    until("its pod is gone", lambda: not demo.namespace.pods(app=IRT))
    job = started("calibrate-irt-weekly", MIRT_MAX_RETRIES="0")
    until("the first try has ended", lambda: demo.namespace.exit_codes(job))
    demo.namespace.kubectl("scale", "deployment", IRT, "--replicas=1")
    demo.namespace.complete(job, 300)
    codes = demo.namespace.exit_codes(job)
    assert codes == [ExitCode.UNAVAILABLE] * (len(codes) - 1) + [ExitCode.OK]


def test_postgresql_restarts_under_a_run(demo: Demo, started: Callable[..., str]) -> None:
    segments = "SELECT count(*) FROM user_segments"
    before = demo.postgres.sql(segments)
    with demo.postgres.session("BEGIN; LOCK TABLE user_segments IN SHARE MODE"):
        job = started("cluster-segments")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'seed%'"
        until("the run waits to publish", lambda: demo.postgres.sql(waiting), 60)
        # The container ends and is started again; its volume stays with the pod.
        demo.namespace.kubectl("exec", "deployment/dev-database", "--", "sh", "-c", "kill -INT 1")
        until("the run has lost its connection", lambda: demo.namespace.exit_codes(job), 60)
    demo.namespace.complete(job)
    assert demo.namespace.exit_codes(job) == [ExitCode.UNAVAILABLE, ExitCode.OK]
    assert demo.postgres.sql(segments) == before
    assert demo.postgres.sql("SELECT run_id FROM analytics_runs WHERE status = 'running'") == []


@pytest.fixture
def small_disk(demo: Demo) -> Iterator[str]:
    """Folder of a small disk that holds the table user_segments, and room for more."""
    disk = "/dev/shm"  # noqa: S108 - every pod has it
    shell = ("exec", "deployment/dev-database", "--", "sh", "-c")
    demo.namespace.kubectl(*shell, f"mkdir {disk}/small && chmod 700 {disk}/small")
    demo.postgres.sql(f"CREATE TABLESPACE small LOCATION '{disk}/small'")
    demo.postgres.sql("ALTER TABLE user_segments SET TABLESPACE small")
    demo.postgres.sql("VACUUM FULL user_segments")  # no room is left in its pages
    yield disk
    demo.postgres.sql("ALTER TABLE user_segments SET TABLESPACE pg_default")
    demo.postgres.sql("DROP TABLESPACE small")


def test_a_full_disk_of_postgresql(small_disk: str, demo: Demo, started: Callable[..., str]) -> None:
    shell = ("exec", "deployment/dev-database", "--", "sh", "-c")
    before = demo.postgres.sql("SELECT * FROM user_segments ORDER BY user_id")
    fits = demo.postgres.sql("SELECT count(*) FROM cluster_fit_meta")
    try:
        demo.namespace.kubectl(*shell, f"cat /dev/zero > {small_disk}/fill", check=False)
        job = started("cluster-segments")
        (code, *_) = until("the first try has ended", lambda: demo.namespace.exit_codes(job))
        assert code == ExitCode.UNAVAILABLE, "it would not be tried again"
        assert "No space left on device" in demo.namespace.log(job)
        assert demo.postgres.sql("SELECT * FROM user_segments ORDER BY user_id") == before
        assert demo.postgres.sql("SELECT count(*) FROM cluster_fit_meta") == fits
    finally:
        demo.namespace.kubectl(*shell, f"rm -f {small_disk}/fill")
    if demo.namespace.ended(job).condition == "Failed":
        demo.namespace.run("cluster-segments", "disk-is-free")
    assert demo.postgres.sql("SELECT * FROM user_segments ORDER BY user_id") != before


def test_a_revoked_token(demo: Demo, started: Callable[..., str]) -> None:
    old = "dev-forecast-token"
    secret = "r-forecast-credentials"  # noqa: S105 - its name
    demo.namespace.secret(secret, token="revoked")  # noqa: S106
    ended = demo.namespace.ended(started("fit-survival-churn"))
    assert (ended.condition, ended.exit_codes) == ("Failed", [ExitCode.CONFIG])
    demo.namespace.secret(secret, token=old)
    demo.namespace.run("fit-survival-churn", "token-is-back")


def test_a_drained_node(demo: Demo, started: Callable[..., str]) -> None:
    """Every pod of the services is evicted while a run is at work, and so is the run."""
    forecasts = "SELECT count(*) FROM prophet_fit_meta"
    (before,) = demo.postgres.sql(forecasts)
    with demo.postgres.session("BEGIN; LOCK TABLE prophet_fit_meta IN SHARE MODE"):  # it cannot end before
        job = started("forecast-prophet")
        _evict(demo, job)
    demo.namespace.complete(job, 300)
    for service in (BRMS, FORECAST, IRT):
        demo.namespace.ready(service)
    assert demo.postgres.sql(forecasts) == [str(int(before) + 1)]
    assert demo.postgres.sql("SELECT run_id FROM analytics_runs WHERE status = 'running'") == []


def _evict(demo: Demo, job: str) -> None:
    evicted: list[client.V1Pod] = [demo.namespace.running(job_name=job)]
    evicted += [demo.namespace.running(app=service) for service in (BRMS, FORECAST, IRT)]
    for pod in evicted:
        name = pod.metadata.name
        demo.namespace.cluster.core.create_namespaced_pod_eviction(
            name, demo.namespace.name, {"metadata": {"name": name}}
        )
