"""The harness itself: it renders with the real Helm, shares nothing that can be changed, and its rules go red."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from chart.conftest import SOURCE
from chart.harness import helm, network, order, rules, schemas
from chart.harness.objects import Obj, freeze, load_all, thaw
from chart.harness.render import NEWEST, Refused, Release, Renderer, at, merged


def test_helm_is_one_that_the_chart_supports(render: Renderer) -> None:
    major, minor = render.run("version", "--template", "{{.Version}}").stdout.removeprefix("v").split(".")[:2]
    assert (int(major), int(minor)) >= (3, 17)


def test_a_helm_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/helm"):
        helm.find("/nowhere/helm")


def test_a_render_is_remembered(render: Renderer) -> None:
    assert render(SOURCE) is render(SOURCE)
    assert render(SOURCE) is not render(SOURCE, release="other")


def test_a_refusal_is_remembered_as_one(render: Renderer) -> None:
    for _ in range(2):
        with pytest.raises(Refused, match=r"global\.secrets\.source"):
            render({})


def test_a_rendered_object_cannot_be_changed(render: Renderer) -> None:
    deployment = render(SOURCE)["Deployment/r-irt-plumber"]
    with pytest.raises(TypeError, match="read-only"):
        deployment["spec"]["replicas"] = 5
    with pytest.raises(AttributeError):
        deployment["spec"]["template"]["spec"]["containers"].append({})


def test_a_key_that_stands_twice_is_no_yaml() -> None:
    with pytest.raises(Exception, match="stand twice: a"):
        load_all("a: 1\nb: 2\na: 3\n")


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    (read,) = load_all("{a: 1e+07, b: 2025-01-01, c: 007, d: off, e: '1e5', f: 1.10, g: null}")
    assert read == {"a": 1e7, "b": "2025-01-01", "c": 7, "d": False, "e": "1e5", "f": 1.1, "g": None}


# --- Each rule notices a break ----------------------------------------------------------------------------------------

EVERYTHING = merged(
    at("global.environment", "dev"),
    at("global.secrets", {"source": "inline", **{name: {"value": "x"} for name in ("irt", "forecast", "brms")}}),
    at("global.secrets.database.password", "x"),
    at("devDatabase.enabled", True),
    at(
        "global.services",
        {name: {"enabled": True} for name in ("podDisruptionBudget", "serviceMonitor", "autoscaling")},
    ),
)
EXTERNAL = merged(SOURCE, at("global.secrets.source", "external"), at("global.stages.runNow", True))
Break = Callable[[dict[str, Any]], None]


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Return the main container of a Deployment, Job or CronJob."""
    return spec(job)["containers"][0]


def spec(job: dict[str, Any]) -> dict[str, Any]:
    inner = job["spec"]["jobTemplate"] if job["kind"] == "CronJob" else job
    return inner["spec"]["template"]["spec"]


STAGE, SERVICE = "CronJob/calibrate-irt-weekly", "Deployment/r-irt-plumber"


def change(container: Callable[[dict[str, Any]], dict[str, Any]], **fields: Any) -> Break:
    """Return a break that sets fields of a part of an object."""

    def apply(one: dict[str, Any]) -> None:
        container(one).update(fields)

    return apply


def context(**fields: Any) -> Break:
    return lambda one: main(one)["securityContext"].update(fields)


BREAKS: dict[str, list[tuple[str, Break]]] = {
    # rule: [(object, what is done to it)]
    "keeps_out_of_the_node": [
        (STAGE, change(spec, hostNetwork=True)),
        (SERVICE, lambda one: main(one)["ports"][0].update(hostPort=80)),
        (STAGE, lambda one: spec(one)["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
        (STAGE, lambda one: spec(one)["securityContext"].update(windowsOptions={"hostProcess": True})),
        (SERVICE, lambda one: main(one)["livenessProbe"]["httpGet"].update(host="10.0.0.1")),
        (SERVICE, lambda one: main(one).update(lifecycle={"preStop": {"tcpSocket": {"host": "a", "port": 1}}})),
    ],
    "has_volumes_of_restricted_kinds": [
        (STAGE, lambda one: spec(one)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}))
    ],
    "does_not_run_as_root": [
        (STAGE, lambda one: spec(one)["securityContext"].pop("runAsNonRoot")),
        (SERVICE, context(runAsUser=0)),
        (
            "Job/migrate",
            lambda one: spec(one).update(
                initContainers=[{**main(one), "name": "i", "securityContext": {"runAsNonRoot": False}}]
            ),
        ),
    ],
    "gains_no_privilege": [
        (STAGE, context(privileged=True)),
        (SERVICE, context(allowPrivilegeEscalation=True)),
        (SERVICE, context(capabilities={"drop": ["NET_RAW"]})),
        ("Deployment/dev-database", context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
    ],
    "is_confined_by_the_kernel": [
        (STAGE, context(seccompProfile={"type": "Unconfined"})),
        (STAGE, context(appArmorProfile={"type": "Unconfined"})),
        (STAGE, context(seLinuxOptions={"type": "spc_t"})),
        (STAGE, lambda one: spec(one)["securityContext"].update(seLinuxOptions={"user": "system_u"})),
        (SERVICE, context(procMount="Unmasked")),
    ],
    "cannot_write_its_image": [(SERVICE, context(readOnlyRootFilesystem=False))],
    "holds_no_service_account_token": [(STAGE, lambda one: spec(one).pop("automountServiceAccountToken"))],
    "is_not_told_of_every_service_by_environment": [(STAGE, change(spec, enableServiceLinks=True))],
    "runs_images_by_tag_or_digest_never_latest": [
        (STAGE, change(main, image="ghcr.io/seedtest/jobs:latest")),
        (STAGE, change(main, image="ghcr.io/seedtest/jobs")),
        (STAGE, change(main, image="ghcr.io/seedtest/jobs:1@sha256:abc")),
    ],
    "sets_resources": [(SERVICE, lambda one: main(one)["resources"]["limits"].pop("memory"))],
    "names_nothing_twice": [
        (STAGE, lambda one: main(one)["env"].append(main(one)["env"][0])),
        (STAGE, lambda one: main(one)["volumeMounts"].append(main(one)["volumeMounts"][0])),
        (STAGE, lambda one: spec(one)["volumes"].append(spec(one)["volumes"][0])),
        (SERVICE, lambda one: spec(one)["containers"].append({**main(one), "ports": []})),
        (SERVICE, lambda one: main(one)["ports"].append({"name": "http", "containerPort": 9000})),
        (SERVICE, lambda one: main(one)["ports"].append({"name": "web", "containerPort": 8080})),
    ],
    "holds_no_secret_in_clear": [(STAGE, lambda one: main(one)["env"].append({"name": "DATABASE_URL", "value": "x"}))],
    "mounts_its_volumes_and_no_others": [
        (STAGE, lambda one: main(one).pop("volumeMounts")),
        (STAGE, lambda one: main(one)["volumeMounts"].append({"name": "none", "mountPath": "/n"})),
    ],
    "bounds_what_it_may_write": [(STAGE, lambda one: spec(one)["volumes"][0].update(emptyDir={}))],
    "is_probed_where_it_serves": [
        (SERVICE, lambda one: main(one).pop("readinessProbe")),
        (SERVICE, lambda one: main(one)["livenessProbe"]["httpGet"].update(path="/health")),
        (SERVICE, lambda one: main(one)["livenessProbe"]["httpGet"].update(port="metrics")),
    ],
    "can_end_when_it_is_a_job": [
        (STAGE, lambda one: spec(one)["containers"].append({**main(one), "name": "proxy"})),
        (STAGE, lambda one: spec(one).update(initContainers=[{**main(one), "name": "p", "restartPolicy": "Always"}])),
    ],
    "ends_within_a_time_limit": [("Job/migrate", lambda one: one["spec"].pop("activeDeadlineSeconds"))],
    "is_tried_again_a_bounded_number_of_times": [("Job/migrate", lambda one: one["spec"].pop("backoffLimit"))],
    "leaves_restarts_to_its_job": [(STAGE, change(spec, restartPolicy="OnFailure"))],
    "carries_no_chart_version": [
        (SERVICE, lambda one: one["spec"]["template"]["metadata"]["labels"].update({"helm.sh/chart": "a-1"}))
    ],
    "selects_within_its_labels": [(SERVICE, lambda one: one["spec"]["selector"]["matchLabels"].update(tier="web"))],
    "selects_by_no_chart_version": [
        (SERVICE, lambda one: one["spec"]["selector"]["matchLabels"].update({"helm.sh/chart": "a-1"})),
        ("Service/r-irt-plumber", lambda one: one["spec"]["selector"].update({"app.kubernetes.io/version": "1"})),
    ],
    "carries_the_recommended_labels": [(STAGE, lambda one: one["metadata"]["labels"].pop("app.kubernetes.io/part-of"))],
    "has_valid_labels_and_annotations": [(STAGE, lambda one: one["metadata"]["labels"].update(team="a b"))],
    "has_a_name_within_limits": [
        (STAGE, lambda one: one["metadata"].update(name="n" * 53)),
        (SERVICE, lambda one: one["metadata"].update(name="Upper")),
    ],
    "stands_in_the_namespace_of_the_release": [(STAGE, lambda one: one["metadata"].update(namespace="default"))],
    "runs_once_at_a_time_in_a_named_time_zone": [
        (STAGE, lambda one: one["spec"].update(concurrencyPolicy="Allow")),
        (STAGE, lambda one: one["spec"].pop("timeZone")),
    ],
    "finds_every_secret_and_config_map_in_time": [
        (STAGE, lambda one: main(one)["env"][0]["valueFrom"]["secretKeyRef"].update(name="none")),
        (STAGE, lambda one: main(one)["env"][0]["valueFrom"]["secretKeyRef"].update(key="none")),
        ("Job/migrate", lambda one: one["metadata"]["annotations"].update({"helm.sh/hook": "pre-install,pre-upgrade"})),
        ("Secret/seedtest-db-credentials", lambda one: one["metadata"].update(annotations={"helm.sh/hook": "test"})),
    ],
    "finds_its_service_account_in_time": [
        (STAGE, change(spec, serviceAccountName="none")),
        ("ServiceAccount/calibrate-irt-weekly", lambda one: one["metadata"].update(name="other")),
    ],
    "calls_only_hosts_that_are_there": [
        ("Service/r-irt-plumber", lambda one: one["metadata"].update(name="irt")),
        ("Service/r-irt-plumber", lambda one: one["spec"]["ports"][0].update(port=8000)),
        (
            "Secret/seedtest-db-credentials",
            lambda one: one["data"].update(DATABASE_URL=base64.b64encode(b"postgresql://u:p@none/d").decode()),
        ),
    ],
    "leads_to_the_pods_of_one_deployment": [
        ("Service/r-irt-plumber", lambda one: one["spec"]["selector"].pop("app.kubernetes.io/name")),
        ("Service/r-irt-plumber", lambda one: one["spec"]["ports"][0].update(targetPort="web")),
    ],
    "scrapes_a_real_port_and_route": [
        ("ServiceMonitor/r-irt-plumber", lambda one: one["spec"]["endpoints"][0].update(path="/prometheus")),
        ("ServiceMonitor/r-irt-plumber", lambda one: one["spec"]["endpoints"][0].update(port="metrics")),
        ("ServiceMonitor/r-irt-plumber", lambda one: one["spec"]["selector"]["matchLabels"].update(a="b")),
    ],
    "scales_a_deployment_without_fixed_replicas": [
        (SERVICE, lambda one: one["spec"].update(replicas=2)),
        ("HorizontalPodAutoscaler/r-irt-plumber", lambda one: one["spec"]["scaleTargetRef"].update(name="none")),
    ],
    "lets_a_node_be_drained": [
        ("PodDisruptionBudget/r-irt-plumber", lambda one: one["spec"].update(maxUnavailable=0)),
        ("PodDisruptionBudget/r-irt-plumber", lambda one: one["spec"]["selector"]["matchLabels"].update(a="b")),
    ],
    "governs_some_pod": [
        ("NetworkPolicy/grant-database", lambda one: one["spec"]["podSelector"]["matchLabels"].update(a="b"))
    ],
    "names_every_object_once": [(SERVICE, lambda one: one["metadata"].update(name="r-brms-plumber"))],
    "hides_no_pod_from_these_rules": [(SERVICE, lambda one: one.update(kind="Rollout"))],
    "makes_no_secret_or_service_account_that_nothing_uses": [
        ("ServiceAccount/calibrate-irt-weekly", lambda one: one["metadata"].update(name="other")),
        ("Secret/seedtest-db-credentials", lambda one: one["data"].update(other="eA==")),
    ],
}

EXTERNAL_BREAKS: dict[str, list[tuple[str, Break]]] = {
    "writes_out_what_operators_would_default": [
        ("ExternalSecret/r-brms-credentials", lambda one: one["spec"].update(refreshInterval="1h")),
        ("ExternalSecret/r-brms-credentials", lambda one: one["spec"]["target"].pop("creationPolicy")),
        ("ExternalSecret/r-brms-credentials", lambda one: one["spec"]["data"][0]["remoteRef"].pop("decodingStrategy")),
    ],
    "reads_a_store_that_is_there": [
        ("ExternalSecret/r-brms-credentials", lambda one: one["spec"]["secretStoreRef"].update(name="other"))
    ],
    "finds_every_secret_and_config_map_in_time": [
        ("ExternalSecret/r-brms-credentials", lambda one: one["spec"]["target"].update(name="other")),
        (
            "ExternalSecret/seedtest-db-credentials",
            lambda one: one["metadata"].update(annotations={"argocd.argoproj.io/sync-wave": "5"}),
        ),
    ],
}

CASES = [
    pytest.param(values, rule, subject, apply, id=f"{rule}: {subject} {n}")
    for values, breaks in ((EVERYTHING, BREAKS), (EXTERNAL, EXTERNAL_BREAKS))
    for rule, cases in breaks.items()
    for n, (subject, apply) in enumerate(cases, 1)
]


def asked(release: Release, rule: str) -> list[str]:
    """Ask one rule of a whole release."""
    found = []
    for registry, subjects in ((rules.POD_RULES, release.pods), (rules.OBJECT_RULES, release.objects)):
        if rule in registry:
            found += [fault for one in subjects for fault in rules.broken({rule: registry[rule]}, one, release)]
    if rule in rules.RELEASE_RULES:
        found += rules.broken({rule: rules.RELEASE_RULES[rule]}, release)
    return found


@pytest.mark.parametrize(("values", "rule", "subject", "apply"), CASES)
def test_a_rule_notices_when_an_object_breaks_it(
    values: dict[str, Any], rule: str, subject: str, apply: Break, render: Renderer
) -> None:
    release = render(values)
    assert asked(release, rule) == []
    broken = {one.id: thaw(one) for one in release.objects}
    apply(broken[release[subject].id])
    assert asked(release.with_objects(broken.values()), rule)


def test_every_rule_has_a_break_that_it_notices() -> None:
    known = rules.POD_RULES | rules.OBJECT_RULES | rules.RELEASE_RULES
    assert known.keys() - BREAKS.keys() - EXTERNAL_BREAKS.keys() == {"logs_in_as_an_account_that_is_there"}


def test_a_store_that_logs_in_as_nobody_is_noticed() -> None:
    store = {
        "kind": "SecretStore",
        "metadata": {"name": "s"},
        "spec": {"auth": {"serviceAccountRef": {"name": "nobody"}}},
    }
    release = Release("{}", {}, "seed", "analytics").with_objects([store])
    assert asked(release, "logs_in_as_an_account_that_is_there")


@pytest.mark.parametrize(
    ("subject", "apply"),
    [
        ("NetworkPolicy/default-deny", lambda one: one["spec"]["podSelector"]["matchLabels"].update(a="b")),
        ("NetworkPolicy/r-irt-plumber", lambda one: one["spec"]["ingress"][0].pop("from")),
        ("NetworkPolicy/grant-database", lambda one: one["spec"].update(egress=[{}])),
        ("NetworkPolicy/grant-dns", lambda one: one["spec"].pop("egress")),
        (STAGE, lambda one: one["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"].clear()),
    ],
    ids=["nothing denied", "anybody in", "anywhere out", "no DNS", "a pod without labels"],
)
def test_the_network_table_notices_a_policy_that_grants_too_much_or_too_little(
    subject: str, apply: Break, render: Renderer
) -> None:
    release = render(EVERYTHING)
    broken = {one.id: thaw(one) for one in release.objects}
    apply(broken[subject])
    changed = release.with_objects(broken.values())
    assert network.table(changed) != network.intended(changed)


@pytest.mark.parametrize(
    "apply",
    [
        lambda one: one["spec"].update(replica=2),
        lambda one: one["spec"].update(replicas="two"),
        lambda one: one["spec"].update(replicas=2**31),
        lambda one: one["spec"].pop("selector"),
        lambda one: main(one)["securityContext"].update(readOnlyRootFileSystem=True),
    ],
    ids=["an unknown field", "a wrong type", "too large a number", "a missing field", "a misspelt field deep down"],
)
def test_strict_validation_notices(apply: Break, render: Renderer) -> None:
    deployment = render(SOURCE)[SERVICE]
    assert schemas.faults(deployment, NEWEST) == []
    broken = thaw(deployment)
    apply(broken)
    assert schemas.faults(freeze(broken, Obj), NEWEST)


def test_strict_validation_of_custom_resources_notices_an_unknown_field(render: Renderer, crds: Any) -> None:
    secret = render(EXTERNAL)["ExternalSecret/r-brms-credentials"]
    assert schemas.custom_faults(secret, crds) == []
    broken = thaw(secret)
    broken["spec"]["target"]["creationPolcy"] = "Owner"
    assert schemas.custom_faults(freeze(broken, Obj), crds)


def test_a_kind_that_a_kubernetes_does_not_know_is_an_error() -> None:
    with pytest.raises(LookupError, match="batch/v1beta1 CronJob"):
        schemas.faults(freeze({"apiVersion": "batch/v1beta1", "kind": "CronJob"}, Obj), NEWEST)
    with pytest.raises(LookupError, match=r"1\.99"):
        schemas.faults(freeze({"apiVersion": "v1", "kind": "Pod"}, Obj), "1.99")


def hooked(kind: str, **annotations: str) -> Obj:
    named = {name.replace("_", "/", 1).replace("_", "-"): value for name, value in annotations.items()}
    return freeze({"kind": kind, "metadata": {"name": "it", "annotations": named}}, Obj)


def test_the_order_of_hooks_is_helms_and_argo_cds() -> None:
    plain = hooked("Secret")
    before = hooked("Job", **{"helm.sh_hook": "pre-install,pre-upgrade", "helm.sh_hook-weight": "-5"})
    after = hooked("Job", **{"helm.sh_hook": "post-install,post-upgrade"})
    assert list(order.too_late(plain, before))
    assert not list(order.too_late(plain, after))
    sync = hooked("Job", **{"argocd.argoproj.io_hook": "Sync", "argocd.argoproj.io_sync-wave": "-1"})
    early = hooked("ExternalSecret", **{"argocd.argoproj.io_sync-wave": "-2"})
    assert list(order.too_late(plain, sync))
    assert not list(order.too_late(early, sync))
