"""Who may talk to whom: the whole table, over every pair of pods and their surroundings, against the intended one."""

from __future__ import annotations

import pytest
from chart.conftest import SOURCE
from chart.harness import code, network
from chart.harness.network import DATABASE, DNS, Endpoint, Port, may_call
from chart.harness.objects import Obj, freeze
from chart.harness.render import Release, Renderer, at, merged


def test_exactly_the_intended_calls_are_let_through(release: Release) -> None:
    if not code.value_of("global.networkPolicy.enabled", release.values):
        assert not list(release.of("NetworkPolicy"))
        return
    allowed, intended = network.table(release), network.intended(release)
    wrong = [f"{a} may call {b} on {port}, and should not" for a, b, port in sorted(allowed - intended)]
    wrong += [f"{a} cannot call {b} on {port}, and should" for a, b, port in sorted(intended - allowed)]
    assert not wrong, "\n".join(wrong)


def test_the_database_can_be_named_by_its_address(render: Renderer) -> None:
    values = merged(
        SOURCE,
        at("global.networkPolicy.database", [{"ipBlock": {"cidr": "10.1.2.3/32"}}]),
        at("global.networkPolicy.databasePort", 6432),
    )
    calls = network.table(render(values))
    reached = {(target, port) for source, target, port in calls if source == "CronJob/cluster-segments"}
    assert reached == {(DATABASE, "6432/TCP"), (DNS, "53/TCP"), (DNS, "53/UDP")}


def test_every_peer_that_is_named_is_reached(render: Renderer) -> None:
    blocks = [{"ipBlock": {"cidr": f"10.1.2.{n}/32"}} for n in (3, 4)]
    monitors = [{"namespaceSelector": {"matchLabels": {network.NAMESPACE_NAME: name}}} for name in ("a", "b")]
    release = render(
        merged(
            SOURCE,
            at("global.networkPolicy", {"database": blocks, "prometheus": monitors}),
            at("global.services.serviceMonitor.enabled", True),
        )
    )
    calls = network.table(release)
    assert {b for a, b, port in calls if (a, port) == ("CronJob/cluster-segments", "5432/TCP")} == {
        DATABASE,
        f"{DATABASE} (2)",
    }
    assert {a for a, b, _ in calls if b == "Deployment/r-irt-plumber"} >= {network.PROMETHEUS, "Prometheus (2)"}
    assert calls == network.intended(release)


def test_a_stage_that_calls_elsewhere_may_not_call_the_service_of_the_release(render: Renderer) -> None:
    release = render(merged(SOURCE, at("calibrate-irt-weekly.serviceUrl", "https://irt.example")))
    assert ("CronJob/calibrate-irt-weekly", "Deployment/r-irt-plumber", "8080/TCP") not in network.table(release)


GKE_RESOLVERS = {
    "kube-dns": Endpoint("kube-dns", "kube-system", {"k8s-app": "kube-dns"}),
    "NodeLocal DNSCache, a pod on Dataplane V2": Endpoint("cache", "kube-system", {"k8s-app": "node-local-dns"}),
    "NodeLocal DNSCache": Endpoint("cache", ip="169.254.20.10"),
    "Cloud DNS": Endpoint("Cloud DNS", ip="169.254.169.254"),
}


@pytest.mark.parametrize("resolver", GKE_RESOLVERS.values(), ids=GKE_RESOLVERS)
def test_every_job_of_production_reaches_whatever_answers_dns_on_gke(render: Renderer, resolver: Endpoint) -> None:
    release = render(files=["values-prod.yaml"])
    policies = list(release.of("NetworkPolicy"))
    deaf = [
        f"{pod.id} on {port}"
        for pod in release.pods
        for port in (Port(53), Port(53, "UDP"))
        if code.command_of(pod) and not may_call(policies, network.endpoint_of(pod, release), resolver, port)
    ]
    assert not deaf


# --- The evaluator itself, against the examples of Kubernetes's documentation -----------------------------------------


def policy(**spec: object) -> Obj:
    return freeze({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "a"}, "spec": spec}, Obj)


HERE = Endpoint("here", "a", {"app": "here"}, ports={"http": 8080})
BESIDE = Endpoint("beside", "a", {"app": "beside"})
THERE = Endpoint("there", "b", {"app": "beside"})
INSIDE, EXCEPTED = Endpoint("inside", ip="172.17.0.9"), Endpoint("excepted", ip="172.17.1.9")
WEB = Port(8080)
EVERYONE: dict[str, object] = {}


def test_without_a_policy_everything_is_let_through() -> None:
    assert may_call([], HERE, THERE, WEB)


def test_an_empty_list_of_rules_denies() -> None:
    assert not may_call([policy(podSelector=EVERYONE, policyTypes=["Ingress"])], BESIDE, HERE, WEB)


def test_an_empty_rule_lets_everybody_in() -> None:
    assert may_call([policy(podSelector=EVERYONE, policyTypes=["Ingress"], ingress=[{}])], THERE, HERE, WEB)


def test_a_policy_of_one_direction_leaves_the_other_open() -> None:
    assert may_call([policy(podSelector=EVERYONE, policyTypes=["Ingress"])], HERE, THERE, WEB)


def test_a_policy_governs_its_own_namespace_only() -> None:
    assert may_call([policy(podSelector=EVERYONE, policyTypes=["Ingress"])], HERE, THERE, WEB)


def test_policies_add_up() -> None:
    deny = policy(podSelector=EVERYONE, policyTypes=["Ingress"])
    grant = policy(
        podSelector={"matchLabels": {"app": "here"}}, policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}]
    )
    assert may_call([deny, grant], BESIDE, HERE, WEB)
    assert not may_call([deny, grant], THERE, HERE, WEB)


def test_selectors_of_pod_and_namespace_in_one_peer_must_both_match() -> None:
    both = {
        "namespaceSelector": {"matchLabels": {network.NAMESPACE_NAME: "b"}},
        "podSelector": {"matchLabels": {"app": "beside"}},
    }
    grant = policy(podSelector=EVERYONE, policyTypes=["Ingress"], ingress=[{"from": [both]}])
    assert may_call([grant], THERE, HERE, WEB)
    assert not may_call([grant], BESIDE, HERE, WEB)


def test_an_address_block_leaves_out_its_exceptions() -> None:
    block = {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}}
    grant = policy(podSelector=EVERYONE, policyTypes=["Egress"], egress=[{"to": [block]}])
    assert may_call([grant], HERE, INSIDE, WEB)
    assert not may_call([grant], HERE, EXCEPTED, WEB)


@pytest.mark.parametrize(
    ("ports", "let"),
    [
        ([{"port": 8080}], True),
        ([{"port": "http"}], True),
        ([{"port": 8000, "endPort": 8100}], True),
        ([{"protocol": "TCP"}], True),
        ([{"port": 8081}], False),
        ([{"port": "metrics"}], False),
        ([{"port": 8080, "protocol": "UDP"}], False),
    ],
)
def test_a_port_is_matched_by_number_name_range_and_protocol(ports: list[dict[str, object]], let: bool) -> None:
    grant = policy(podSelector=EVERYONE, policyTypes=["Ingress"], ingress=[{"ports": ports}])
    assert may_call([grant], BESIDE, HERE, WEB) is let
