"""Who may talk to whom, computed from NetworkPolicies (https://kubernetes.io/docs/concepts/services-networking/network-policies)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from chart.harness import code
from chart.harness.objects import Obj, Pod
from chart.harness.render import Release
from chart.harness.rules import matches

NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Endpoint:
    """A pod somewhere in the cluster, or an address outside.

    Attributes:
        name: as the table shows it.
        namespace: of a pod; "" for an address.
        labels: of a pod.
        ip: of an address outside the cluster.
        ports: a pod's ports by name.

    """

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    ip: str = ""
    ports: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, order=True)
class Port:
    """A port at the receiving end."""

    number: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


Call = tuple[str, str, str]
"""(from, to, port)."""


def endpoint_of(pod: Pod, release: Release) -> Endpoint:
    """Return a pod of the release as an endpoint."""
    ports = {
        port["name"]: port["containerPort"]
        for container in pod.containers
        for port in container.get("ports", ())
        if "name" in port
    }
    return Endpoint(pod.id, release.namespace, pod.labels, ports=ports)


def endpoint_like(name: str, peer: Mapping[str, Any], release: Release) -> Endpoint:
    """Return an endpoint that a policy's peer speaks of: an address of its block, or a pod with its labels."""
    if "ipBlock" in peer:
        return Endpoint(name, ip=str(ip_network(peer["ipBlock"]["cidr"])[-1]))
    space = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
    labels = (peer.get("podSelector") or {}).get("matchLabels") or {}
    return Endpoint(name, space.get(NAMESPACE_NAME, release.namespace), labels)


def may_call(policies: Iterable[Obj], source: Endpoint, target: Endpoint, port: Port) -> bool:
    """Say whether the policies let a connection through, at both of its ends."""
    policies = list(policies)
    out = _lets(policies, "Egress", source, target, target, port)
    return out and _lets(policies, "Ingress", target, source, target, port)


FIELDS = {"Egress": ("egress", "to"), "Ingress": ("ingress", "from")}


def _lets(policies: list[Obj], way: str, governed: Endpoint, other: Endpoint, target: Endpoint, port: Port) -> bool:
    rules, peers = FIELDS[way]
    governing = [policy for policy in policies if _governs(policy, way, governed)]
    return not governing or any(
        _is_peer(rule.get(peers), other, governed.namespace) and _is_port(rule.get("ports"), target, port)
        for policy in governing
        for rule in policy["spec"].get(rules) or ()
    )


def _governs(policy: Obj, way: str, pod: Endpoint) -> bool:
    spec = policy["spec"]
    ways = spec.get("policyTypes") or ({"Ingress", "Egress"} if "egress" in spec else {"Ingress"})
    same_namespace = policy["metadata"]["namespace"] == pod.namespace
    return way in ways and same_namespace and matches(spec["podSelector"], pod.labels)


def _is_peer(peers: Iterable[Mapping[str, Any]] | None, other: Endpoint, own_namespace: str) -> bool:
    return not peers or any(_is_one(peer, other, own_namespace) for peer in peers)


def _is_one(peer: Mapping[str, Any], other: Endpoint, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        inside = [network for network in (block["cidr"], *block.get("except", ())) if _within(other.ip, network)]
        return inside == [block["cidr"]]
    if not other.namespace:
        return False
    if "namespaceSelector" not in peer:
        return other.namespace == own_namespace and matches(peer["podSelector"], other.labels)
    in_space = matches(peer["namespaceSelector"], {NAMESPACE_NAME: other.namespace})
    return in_space and matches(peer.get("podSelector") or {}, other.labels)


def _within(ip: str, network: str) -> bool:
    return bool(ip) and ip_address(ip) in ip_network(network)


def _is_port(ports: Iterable[Mapping[str, Any]] | None, target: Endpoint, port: Port) -> bool:
    if not ports:
        return True
    for entry in ports:
        first = entry.get("port", 0)
        first = target.ports.get(first, -1) if isinstance(first, str) else first
        last = entry.get("endPort", first or 65535)
        if entry.get("protocol", "TCP") == port.protocol and first <= port.number <= last:
            return True
    return False


# --- The table --------------------------------------------------------------------------------------------------------

DNS, PROMETHEUS, DATABASE, CLOUD_SQL = "DNS", "Prometheus", "the database", "Cloud SQL"
METADATA, METADATA_GKE = "the metadata server", "the metadata server of GKE without Dataplane V2"
STRANGERS = (
    Endpoint("a stranger in the namespace", "analytics", {"app": "stranger"}),
    Endpoint("a stranger in another namespace", "elsewhere", {"app": "stranger"}),
    Endpoint("an address on the internet", ip="203.0.113.7"),
    Endpoint(METADATA, ip="169.254.169.254"),
    Endpoint(METADATA_GKE, ip="169.254.169.252"),
)
PORTS = (
    *(Port(number) for number in (22, 53, 80, 443, 987, 988, 3307, 5432, 6432, 8080, 9090)),
    Port(53, "UDP"),
    Port(5432, "UDP"),
)


def surroundings(release: Release) -> list[Endpoint]:
    """Return what is around the release: what its values speak of, and strangers."""
    return [endpoint for endpoints in spoken_of(release).values() for endpoint in endpoints] + list(STRANGERS)


def spoken_of(release: Release) -> dict[str, list[Endpoint]]:
    """Return an endpoint for each peer that the values name, but those at a stranger's address."""
    policy = code.value_of("global.networkPolicy", release.values)
    keys = {DNS: "dns", PROMETHEUS: "prometheus", DATABASE: "database", CLOUD_SQL: "cloudSql"}
    strangers = {stranger.ip for stranger in STRANGERS} - {""}
    return {
        name: [
            endpoint
            for n, peer in enumerate(policy[key], 1)
            if (endpoint := endpoint_like(name if n == 1 else f"{name} ({n})", peer, release)).ip not in strangers
        ]
        for name, key in keys.items()
    }


def table(release: Release) -> set[Call]:
    """Return every call that the release's policies let through, with at least one of its pods at an end."""
    policies = list(release.of("NetworkPolicy"))
    pods = [endpoint_of(pod, release) for pod in release.pods]
    around = surroundings(release)
    pairs = [(a, b) for a in pods for b in [*pods, *around] if a != b] + [(a, b) for a in around for b in pods]
    return {(a.name, b.name, str(port)) for a, b in pairs for port in PORTS if may_call(policies, a, b, port)}


def intended(release: Release) -> set[Call]:
    """Return the calls that the design means to allow, from what the code says each command calls.

    Jobs call their R service, PostgreSQL and DNS; nothing calls the jobs; only jobs, and Prometheus where it is asked
    to, call the services; services and the throw-away database call nothing.
    """
    return {call for pod in release.pods for call in _intended(pod, release)}


def _resolvers(release: Release) -> set[str]:
    """Return who answers DNS; on GKE it may be the metadata server."""
    blocks = [
        peer["ipBlock"]["cidr"]
        for peer in code.value_of("global.networkPolicy.dns", release.values)
        if "ipBlock" in peer
    ]
    return {one.name for one in spoken_of(release)[DNS]} | {
        stranger.name for stranger in STRANGERS if any(_within(stranger.ip, block) for block in blocks)
    }


def _intended(pod: Pod, release: Release) -> Iterator[Call]:
    command = code.command_of(pod)
    service = code.service_of(pod)
    around = {endpoint.name for endpoint in surroundings(release)}
    if service and service in {monitor.labels["app.kubernetes.io/name"] for monitor in release.of("ServiceMonitor")}:
        yield from ((one.name, pod.id, "8080/TCP") for one in spoken_of(release)[PROMETHEUS])
    if not command:
        return
    yield from ((pod.id, name, port) for name in _resolvers(release) for port in ("53/TCP", "53/UDP"))
    for other in release.pods:
        if code.service_of(other) in code.services_of(command) and not code.calls_elsewhere(command, release.values):
            yield (pod.id, other.id, "8080/TCP")
    if code.value_of("global.cloudSqlProxy.enabled", release.values):
        yield from ((pod.id, METADATA, port) for port in ("80/TCP", "8080/TCP"))
        yield from ((pod.id, METADATA_GKE, port) for port in ("988/TCP", "987/TCP"))
        # Google's API has no fixed addresses, and no pod of the release answers on this port.
        yield from ((pod.id, name, "443/TCP") for name in around)
        anywhere = not code.value_of("global.networkPolicy.cloudSql", release.values)
        yield from (
            (pod.id, name, "3307/TCP")
            for name in (around if anywhere else {one.name for one in spoken_of(release)[CLOUD_SQL]})
        )
    elif code.value_of("devDatabase.enabled", release.values):
        yield from ((pod.id, other.id, "5432/TCP") for other in release.pods if code.is_database(other))
    else:
        anywhere = not code.value_of("global.networkPolicy.database", release.values)
        port = code.value_of("global.networkPolicy.databasePort", release.values)
        yield from (
            (pod.id, name, f"{port}/TCP")
            for name in (around if anywhere else {one.name for one in spoken_of(release)[DATABASE]})
        )
