"""The dev values on an empty cluster: installed, run and verified as a newcomer does, by the commands of the notes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from chart.harness import guide
from cluster.conftest import Demo
from cluster.kube import Cluster, until
from containers import VERSION
from kubernetes import client
from seed_analytics.settings import SERVICES, STAGES
from seed_analytics.verify import guide as guide_queries

READY_SECS = VERIFIED_SECS = 300
AT_REST_BYTES = 2e9


def test_all_is_ready_within_five_minutes(demo: Demo) -> None:
    assert demo.installed.returncode == 0, f"{demo.installed.stderr}\n{demo.namespace.story()}"
    assert demo.seconds["helm install --wait"] < READY_SECS


def test_the_install_warns_of_nothing(demo: Demo) -> None:
    assert demo.installed.stderr == ""


def test_the_commands_of_the_notes_work_as_printed(demo: Demo) -> None:
    assert len(demo.printed) == 3
    failed = {command: done.stdout + done.stderr for command, done in demo.printed.items() if done.returncode}
    assert not failed


def test_the_first_run_is_verified_within_five_minutes_of_the_install(demo: Demo) -> None:
    assert sum(demo.seconds.values()) < VERIFIED_SECS


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_to_success(stage: str, demo: Demo) -> None:
    ended = demo.namespace.ended(f"{stage}-first", seconds=1)
    assert (ended.condition, ended.exit_codes) == ("Complete", [0]), demo.namespace.log(f"{stage}-first")
    assert demo.postgres.sql(
        f"SELECT status FROM analytics_runs WHERE stage = '{stage}' ORDER BY started_at LIMIT 1"
    ) == ["succeeded"]


def test_helm_test_is_green(demo: Demo) -> None:
    (done,) = (done for command, done in demo.printed.items() if command.startswith("helm test"))
    assert re.search(r"^Phase: +Succeeded$", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert re.search(r"All \d+ checks are well", done.stdout)


@pytest.mark.parametrize("name", guide_queries())
def test_a_query_of_the_guide_returns_rows(name: str, demo: Demo) -> None:
    rows = demo.postgres.sql(guide_queries()[name])
    assert rows
    # An aggregate is always one row: of nothing, it counts 0 and its averages are empty.
    assert all(column not in {"", "0"} for row in rows for column in row.split("|")), rows


def test_get_cronjobs_prints_the_guides_list(demo: Demo) -> None:
    printed = demo.namespace.kubectl("get", "cronjobs", "--no-headers")
    listed = {line.split()[0]: re.split(r" {2,}", line)[1] for line in printed.splitlines()}
    assert guide.SCHEDULES.items() <= listed.items()
    assert listed.keys() == set(STAGES)


def test_get_svc_prints_the_guides_list(demo: Demo) -> None:
    printed = demo.namespace.kubectl("get", "svc", "--no-headers")
    listed = {line.split()[0]: line.split()[4] for line in printed.splitlines()}
    assert listed.pop("dev-database") == "5432/TCP"
    assert listed == dict.fromkeys(guide.SERVICES, f"{guide.PORT}/TCP")


@pytest.mark.parametrize("service", SERVICES.values())
def test_a_pod_reads_the_guides_health_reply(service: str, demo: Demo) -> None:
    def ask(spec: dict) -> None:  # type: ignore[type-arg]
        spec["template"]["metadata"]["labels"][f"seed-analytics/grant-{service}"] = "true"
        container = spec["template"]["spec"]["containers"][0]
        container["command"] = ["python3", "-c"]
        container["args"] = [  # more than once: a network takes some seconds to learn of a new pod
            "import httpx, stamina; get = stamina.retry(on=httpx.TransportError, attempts=None, timeout=60)(httpx.get); "
            f"print(get('http://{service}/healthz').text)"
        ]

    name = demo.namespace.run_job("cluster-segments", f"health-{service}", ask)
    demo.namespace.complete(name)
    reply = json.loads(demo.namespace.log(name).splitlines()[-1])  # after a line for each try
    stated = datetime.strptime(reply.pop("timestamp"), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - stated) < timedelta(minutes=2)
    if service == "r-brms-plumber":
        assert re.fullmatch(r"\d+\.\d+\.\d+", reply.pop("stan_version"))
    assert reply == {"status": "ok", "service": service, "version": VERSION}


def test_a_pod_that_runs_as_root_is_refused_here(demo: Demo) -> None:
    root = {"metadata": {"name": "root"}, "spec": {"containers": [{"name": "root", "image": "any"}]}}
    with pytest.raises(client.ApiException, match="violates PodSecurity") as refused:
        demo.namespace.cluster.core.create_namespaced_pod(demo.namespace.name, root)
    assert refused.value.status == 403


def test_no_container_was_restarted(demo: Demo) -> None:
    restarts = {
        pod.metadata.name: status.restart_count
        for pod in demo.namespace.pods()
        for status in pod.status.container_statuses or ()
        if status.restart_count
    }
    assert not restarts


def test_the_whole_release_at_rest_is_below_two_gigabytes(
    demo: Demo, cluster: Cluster, measured: dict[str, str]
) -> None:
    used = until("the kubelet has measured every pod", lambda: _memory(cluster, demo.namespace.name), 60)
    for name, size in sorted(used.items()):
        measured[f"  memory of {name.rsplit('-', 2)[0]}"] = f"{size / 2**20:.0f} MiB"
    measured["memory of the release at rest"] = f"{sum(used.values()) / 2**20:.0f} MiB"
    assert sum(used.values()) < AT_REST_BYTES


def _memory(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Return the working set of each running pod, in bytes; nothing until the kubelets have measured them all."""
    running = {
        pod.metadata.name
        for pod in cluster.core.list_namespaced_pod(namespace, field_selector="status.phase=Running").items
    }
    measured = {}
    for node in cluster.core.list_node().items:
        stats = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node.metadata.name}/proxy/stats/summary"))
        for pod in stats["pods"]:
            name = pod["podRef"]["name"]
            if pod["podRef"]["namespace"] == namespace and name in running and "memory" in pod:
                measured[name] = pod["memory"].get("workingSetBytes", 0)
    return measured if measured.keys() == running and all(measured.values()) else {}
