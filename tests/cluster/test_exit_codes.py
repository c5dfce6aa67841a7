"""What Kubernetes makes of the exit codes of a run, and of a run whose pod is taken away."""

from __future__ import annotations

from typing import Any

import pytest
from cluster.conftest import Demo
from cluster.kube import Change, until, with_env
from seed_analytics.db import read_sql
from seed_analytics.errors import ExitCode


def with_flag(flag: str) -> Change:
    """Return a change of a Job: one more flag."""
    return lambda spec: spec["template"]["spec"]["containers"][0]["args"].append(flag)


@pytest.mark.parametrize(
    ("code", "stage", "change"),
    [
        (ExitCode.USAGE, "cluster-segments", with_flag("--no-such-flag")),
        (ExitCode.REJECTED, "fit-bayesian-growth", with_env(BRMS_N_SAMPLES="100", BRMS_N_CHAINS="2")),
        (ExitCode.CONFIG, "cluster-segments", with_env(CLUSTER_METHOD="none")),
    ],
    ids=["64 usage", "76 rejected", "78 configuration"],
)
def test_a_run_that_would_end_the_same_again_fails_at_once(
    code: ExitCode, stage: str, change: Change, demo: Demo
) -> None:
    ended = demo.namespace.ended(demo.namespace.run_job(stage, f"code-{code}", change))
    assert (ended.condition, ended.reason, ended.exit_codes) == ("Failed", "PodFailurePolicy", [code])


def test_a_run_without_its_tables_fails_at_once(demo: Demo) -> None:
    # The same server, and a database in which nobody has made a table.
    change = with_env(DATABASE_URL=demo.postgres.url("postgres").replace(f".{demo.namespace.name}.svc", ""))
    ended = demo.namespace.ended(demo.namespace.run_job("cluster-segments", "code-65", change))
    assert (ended.condition, ended.reason, ended.exit_codes) == ("Failed", "PodFailurePolicy", [ExitCode.INPUT])


def test_a_run_without_its_service_is_tried_again(demo: Demo) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["backoffLimit"] = 1
        with_env(R_IRT_BASE_URL="http://nobody", MIRT_MAX_RETRIES="0")(spec)

    nobody = {"selector": {"app": "nobody"}, "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nobody"}, "spec": nobody}
    demo.namespace.cluster.apply(service, namespace=demo.namespace.name)
    ended = demo.namespace.ended(demo.namespace.run_job("calibrate-irt-weekly", "code-69", change))
    assert (ended.condition, ended.reason) == ("Failed", "BackoffLimitExceeded")
    assert ended.exit_codes == [ExitCode.UNAVAILABLE] * 2


def test_a_run_beside_another_one_of_its_stage_is_tried_again_until_that_ends(demo: Demo) -> None:
    lock = read_sql("run/lock.sql").replace("%(stage)s", "'cluster-segments'")
    with demo.postgres.session(lock):
        job = demo.namespace.run_job("cluster-segments", "code-75")
        until("the first try has ended", lambda: demo.namespace.exit_codes(job))
    demo.namespace.complete(job)
    assert demo.namespace.exit_codes(job) == [ExitCode.TRY_LATER, ExitCode.OK]


@pytest.mark.parametrize("how", ["evicted", "deleted"])
def test_a_pod_that_is_taken_away_does_not_count_as_a_try(how: str, demo: Demo) -> None:
    def only_once(spec: dict[str, Any]) -> None:
        spec["backoffLimit"] = 0

    namespace = demo.namespace
    with demo.postgres.session("BEGIN; LOCK TABLE weekly_kpi IN ACCESS EXCLUSIVE MODE"):
        job = namespace.run_job("cluster-segments", how, only_once)
        name = namespace.running(job_name=job).metadata.name
        until("it waits for the table", lambda: "Loaded" not in namespace.log(job) and _waiting(demo), 60)
        if how == "evicted":
            namespace.cluster.core.create_namespaced_pod_eviction(name, namespace.name, {"metadata": {"name": name}})
        else:
            namespace.cluster.core.delete_namespaced_pod(name, namespace.name)
        # Only then does the table come free: the pod that ends well is another one.
        until("the pod has ended", lambda: name not in _at_work(demo, job), 60)
    namespace.complete(job)
    assert [pod.metadata.name for pod in namespace.pods(job_name=job) if pod.status.phase == "Succeeded"] != [name]
    assert namespace.cluster.batch.read_namespaced_job(job, namespace.name).status.succeeded == 1


def _at_work(demo: Demo, job: str) -> set[str]:
    """Return the pods of a Job that have not ended."""
    pods = demo.namespace.pods(job_name=job)
    return {pod.metadata.name for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}}


def _waiting(demo: Demo) -> bool:
    (count,) = demo.postgres.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'seed-analytics/%'"
    )
    return count != "0"
