"""Each switch adds exactly its objects; with everything off nothing is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from chart.conftest import SOURCE
from chart.harness import code
from chart.harness.render import Refused, Renderer, at, merged

OFF = merged(
    *(at((name, "enabled"), False) for name in (*code.STAGES, *code.SERVICES)),
    at("migrations.mode", "none"),
    at("verify.enabled", False),
)
"""All that is on by default, switched off."""


def stage(name: str) -> set[str]:
    return {f"CronJob/{name}", f"ServiceAccount/{name}"}


def service(name: str) -> set[str]:
    policies = {f"NetworkPolicy/{name}", f"NetworkPolicy/grant-{name}"}
    return {f"Deployment/{name}", f"Service/{name}", f"ServiceAccount/{name}"} | policies


DENY = {"NetworkPolicy/default-deny"}
REACH = {"NetworkPolicy/grant-dns", "NetworkPolicy/grant-database"}
ALL_SERVICES = set().union(*map(service, code.SERVICES))
STAGES_ON = [name for name in code.STAGES if name != "compute-weekly-kpis"]
ALL_STAGES = set().union(*map(stage, STAGES_ON))
PROXY = at("global.cloudSqlProxy", {"enabled": True, "instance": "p:europe-west1:i"})
EXTERNAL = merged(at("global.secrets.source", "external"))
STORE = merged(EXTERNAL, at("secretStore", {"create": True, "gcp": {"projectID": "project-1"}}))
IDENTITY = {
    "clusterName": "c",
    "clusterLocation": "europe-west1",
    "googleServiceAccount": "reader@project-1.iam.gserviceaccount.com",
}
DEV = {
    "global": {
        "environment": "dev",
        "secrets": {"source": "inline", **{name: {"value": "x"} for name in ("irt", "forecast", "brms")}},
    },
}
INLINE = merged(DEV, at("global.secrets.database.value", "postgresql://u:p@db.example/d"))
CREDENTIALS = {"seedtest-db-credentials", "calibrate-irt-credentials", "r-forecast-credentials", "r-brms-credentials"}


def test_the_defaults_render_the_systems_of_the_guide(render: Renderer) -> None:
    assert render(SOURCE).ids == ALL_SERVICES | ALL_STAGES | DENY | REACH | {"Job/migrate", "Job/verify"}


@pytest.mark.parametrize("source", [{}, SOURCE, STORE, INLINE], ids=["none", "existing", "external", "inline"])
def test_everything_off_renders_nothing(source: Mapping[str, Any], render: Renderer) -> None:
    values = merged(source, OFF, at("secretStore.create", False))
    assert render(values).ids == set()


@pytest.mark.parametrize("name", code.STAGES)
def test_a_stage_alone_renders_its_objects(name: str, render: Renderer) -> None:
    needed = code.services_of(name)
    values = merged(SOURCE, OFF, at((name, "enabled"), True), *(at((other, "enabled"), True) for other in needed))
    expected = stage(name) | DENY | REACH | set().union(*map(service, needed))
    assert render(values).ids == expected


@pytest.mark.parametrize("name", code.SERVICES)
def test_a_service_alone_renders_its_objects(name: str, render: Renderer) -> None:
    assert render(merged(SOURCE, OFF, at((name, "enabled"), True))).ids == service(name) | DENY


ADDED: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], set[str]]] = {
    # switch: (values before, the switch, what it adds)
    "compute-weekly-kpis": (SOURCE, at("compute-weekly-kpis.enabled", True), stage("compute-weekly-kpis")),
    "migrations by helm": (
        merged(SOURCE, at("migrations.mode", "none")),
        at("migrations.mode", "helm"),
        {"Job/migrate"},
    ),
    "migrations by argocd": (
        merged(SOURCE, at("migrations.mode", "none")),
        at("migrations.mode", "argocd"),
        {"Job/migrate"},
    ),
    "verify": (merged(SOURCE, at("verify.enabled", False)), at("verify.enabled", True), {"Job/verify"}),
    **{f"{name} now": (SOURCE, at((name, "runNow"), True), {f"Job/{name}-now"}) for name in STAGES_ON},
    "every stage now": (SOURCE, at("global.stages.runNow", True), {f"Job/{name}-now" for name in STAGES_ON}),
    "a disruption budget": (
        SOURCE,
        at("r-irt-plumber.podDisruptionBudget.enabled", True),
        {"PodDisruptionBudget/r-irt-plumber"},
    ),
    "every disruption budget": (
        SOURCE,
        at("global.services.podDisruptionBudget.enabled", True),
        {f"PodDisruptionBudget/{name}" for name in code.SERVICES},
    ),
    "autoscaling": (
        SOURCE,
        at("global.services.autoscaling.enabled", True),
        {f"HorizontalPodAutoscaler/{name}" for name in code.SERVICES},
    ),
    "monitors": (
        SOURCE,
        at("global.services.serviceMonitor.enabled", True),
        {f"ServiceMonitor/{name}" for name in code.SERVICES},
    ),
    "topology spread": (SOURCE, at("global.services.topologySpread.enabled", True), set()),
    "alerts": (SOURCE, at("prometheusRule.enabled", True), {"PrometheusRule/seed-analytics"}),
    "a dashboard": (SOURCE, at("dashboard.enabled", True), {"ConfigMap/seed-analytics-dashboard"}),
    "network policies": (
        merged(SOURCE, at("global.networkPolicy.enabled", False)),
        at("global.networkPolicy.enabled", True),
        DENY | REACH | {one for one in ALL_SERVICES if one.startswith("NetworkPolicy/")},
    ),
    "external secrets": (SOURCE, EXTERNAL, {f"ExternalSecret/{name}" for name in CREDENTIALS}),
    "inline secrets": (SOURCE, INLINE, {f"Secret/{name}" for name in CREDENTIALS}),
    "a secret store": (EXTERNAL, STORE, {"SecretStore/gcp-secret-store"}),
    "workload identity": (STORE, at("secretStore.gcp", IDENTITY), {"ServiceAccount/gcp-secret-store"}),
    "the throw-away database": (
        DEV,
        merged(at("devDatabase.enabled", True), at("global.secrets.database.password", "x")),
        {
            *("Deployment/dev-database", "Service/dev-database", "NetworkPolicy/dev-database"),
            *("Secret/dev-database-credentials", "Secret/seedtest-db-credentials", "Job/simulate"),
        },
    ),
}


@pytest.mark.parametrize("switch", ADDED)
def test_a_switch_adds_exactly_its_objects(switch: str, render: Renderer) -> None:
    before, on, added = ADDED[switch]
    if switch == "the throw-away database":
        # Without it the inline source needs another database, which has a Secret of its own.
        old = render(INLINE).ids - {"Secret/seedtest-db-credentials"}
    else:
        old = render(before).ids
    new = render(merged(before, on)).ids
    assert new - old == added
    assert old - new == set()


def test_one_combined_external_secret_takes_the_place_of_four(render: Renderer) -> None:
    alone, combined = render(EXTERNAL).ids, render(merged(EXTERNAL, at("global.secrets.combined.enabled", True))).ids
    assert combined - alone == {"ExternalSecret/externalsecret-r-services"}
    assert alone - combined == {f"ExternalSecret/{name}" for name in CREDENTIALS}


def test_the_proxy_takes_the_place_of_the_grant_of_the_database(render: Renderer) -> None:
    without, proxied = render(SOURCE).ids, render(merged(SOURCE, PROXY)).ids
    accounts = {"ServiceAccount/migrate", "ServiceAccount/verify"}
    assert proxied - without == {"NetworkPolicy/grant-cloud-sql", *accounts}
    assert without - proxied == {"NetworkPolicy/grant-database"}


def test_every_pod_that_talks_to_the_database_has_the_proxy_as_a_native_sidecar(render: Renderer) -> None:
    for pod in render(merged(SOURCE, PROXY)).pods:
        sidecars = [container["name"] for container in pod.spec.get("initContainers", ())]
        assert sidecars == (["cloud-sql-proxy"] if code.command_of(pod) else []), pod.id


def test_a_cluster_wide_store_needs_no_store_in_the_namespace(render: Renderer) -> None:
    release = render(merged(STORE, at("secretStore.kind", "ClusterSecretStore"), at("secretStore.gcp", IDENTITY)))
    (store,) = (obj for obj in release.objects if obj.kind == "ClusterSecretStore")
    assert store.id == "ClusterSecretStore/gcp-secret-store"
    assert "namespace" not in store["metadata"]
    assert "SecretStore/gcp-secret-store" not in release.ids


def test_a_prefix_stands_before_every_name_and_every_reference(render: Renderer) -> None:
    bare = render(files=("values-dev.yaml",))
    prefixed = render(at("global.namePrefix", "blue"), files=("values-dev.yaml",))
    assert {obj.name for obj in prefixed.objects} == {f"blue-{obj.name}" for obj in bare.objects}


def test_two_prefixed_releases_share_no_name_and_no_selected_pod(render: Renderer) -> None:
    blue, green = (
        render(at("global.namePrefix", colour), files=("values-dev.yaml",), release=colour)
        for colour in ("blue", "green")
    )
    assert not blue.ids & green.ids
    for release, other in ((blue, green), (green, blue)):
        for service in release.of("Service"):
            selector = service["spec"]["selector"].items()
            assert not [pod.id for pod in other.pods if selector <= pod.labels.items()]


def test_a_label_of_one_object_wins_over_the_label_of_all(render: Renderer) -> None:
    monitored = {"enabled": True, "labels": {"release": "mine"}}
    values = merged(
        SOURCE,
        at("global.commonLabels", {"release": "all", "team": "analytics"}),
        at("global.services.serviceMonitor", monitored),
        {"prometheusRule": monitored, "dashboard": monitored},
    )
    release = render(values)
    own = {obj.kind for obj in release.objects if obj.labels["release"] == "mine"}
    assert own == {"ServiceMonitor", "PrometheusRule", "ConfigMap"}
    assert {obj.labels["team"] for obj in release.objects} == {"analytics"}


def test_a_falsy_value_of_a_user_is_not_lost(render: Renderer) -> None:
    values = merged(
        SOURCE,
        at("fit-survival-churn.backoffLimit", 0),
        at("fit-survival-churn.successfulJobsHistoryLimit", 0),
        at("fit-survival-churn.settings.SURVIVAL_UPDATE_KPI", False),
        at("r-irt-plumber.replicas", 0),
        at("r-irt-plumber.queueLength", 0),
        at("r-irt-plumber.shutdownGraceSecs", 0),
    )
    release = render(values)
    cronjob = release["CronJob/fit-survival-churn"]["spec"]
    assert cronjob["successfulJobsHistoryLimit"] == 0
    assert cronjob["jobTemplate"]["spec"]["backoffLimit"] == 0
    env = {item["name"]: item.get("value") for item in release.pod("CronJob/fit-survival-churn").containers[0]["env"]}
    assert env["SURVIVAL_UPDATE_KPI"] == "false"
    assert release["Deployment/r-irt-plumber"]["spec"]["replicas"] == 0
    env = {item["name"]: item.get("value") for item in release.pod("Deployment/r-irt-plumber").containers[0]["env"]}
    assert (env["QUEUE_LENGTH"], env["SHUTDOWN_GRACE_SECS"]) == ("0", "0")


@pytest.mark.parametrize("block", ["global.stages", "global.services"])
def test_null_leaves_the_user_to_the_cluster(block: str, render: Renderer) -> None:
    null = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    ours = code.command_of if block == "global.stages" else code.service_of
    contexts = [
        pod.spec["securityContext"]
        for pod in render(merged(SOURCE, at(f"{block}.podSecurityContext", null))).pods
        if ours(pod)
    ]
    assert contexts
    assert not [context for context in contexts if context.keys() & null.keys()]
    assert all(context["runAsNonRoot"] for context in contexts)


@pytest.mark.parametrize("path", ["global.stages", "global.services", "global.secrets", "secretStore", "verify"])
def test_null_for_a_block_that_is_needed_is_refused_with_its_path(path: str, render: Renderer) -> None:
    with pytest.raises(Refused) as refused:
        render(merged(SOURCE, at(path, None)))
    assert all(key in str(refused.value) for key in path.split("."))
    assert "nil pointer" not in str(refused.value)


@pytest.mark.parametrize("block", ["global.stages", "global.services", "fit-survival-churn", "r-irt-plumber"])
def test_a_users_security_context_is_merged_and_cannot_give_capabilities_back(block: str, render: Renderer) -> None:
    given = {"capabilities": {"drop": ["NET_RAW"]}, "runAsUser": 2000}
    release = render(merged(SOURCE, at(f"{block}.securityContext", given)))
    mine = [c for pod in release.pods for c in pod.containers if c["securityContext"].get("runAsUser") == 2000]
    assert mine
    for container in mine:
        assert "ALL" in container["securityContext"]["capabilities"]["drop"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
