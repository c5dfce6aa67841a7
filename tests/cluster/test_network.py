"""NetworkPolicies, by connecting: what a pod of the release reaches depends on the grants in its labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cluster.conftest import Demo
from seed_analytics.settings import SERVICES

TARGETS = {"dev-database": 5432, **dict.fromkeys(SERVICES.values(), 80)}
# A network takes some seconds to learn of a new pod, and until then lets it reach nothing.
SCRIPT = """
import json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
def reached(target):
    _, host, port = target
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), 3).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False
targets = json.loads(sys.argv[1])
with ThreadPoolExecutor() as pool:
    print(json.dumps(dict(zip((name for name, _, _ in targets), pool.map(reached, targets)))))
"""


@pytest.fixture(scope="module")
def addresses(demo: Demo) -> dict[str, tuple[str, int]]:
    """Each Service's address: a pod without the grant for DNS cannot ask for it."""
    services = demo.namespace.cluster.core.list_namespaced_service(demo.namespace.name).items
    return {s.metadata.name: (s.spec.cluster_ip, s.spec.ports[0].port) for s in services if s.metadata.name in TARGETS}


@pytest.fixture(scope="module")
def reaches(demo: Demo, addresses: dict[str, tuple[str, int]]) -> Callable[..., set[str]]:
    """Start a Job's pod with these grants, and return what it reaches."""

    def reach(name: str, *grants: str, **more: str) -> set[str]:
        def change(spec: dict[str, Any]) -> None:
            labels = spec["template"]["metadata"]["labels"] | more
            spec["template"]["metadata"]["labels"] = labels
            for label in [label for label in labels if label.startswith("seed-analytics/grant-")]:
                del labels[label]
            labels |= {f"seed-analytics/grant-{grant}": "true" for grant in grants}
            container = spec["template"]["spec"]["containers"][0]
            container["command"] = ["python3", "-c", SCRIPT]
            container["args"] = [json.dumps([(target, *address) for target, address in addresses.items()])]

        demo.namespace.complete(demo.namespace.run_job("cluster-segments", name, change))
        found: dict[str, bool] = json.loads(demo.namespace.log(name))
        return {target for target, reached in found.items() if reached}

    return reach


@pytest.fixture(scope="module")
def enforced(demo: Demo, reaches: Callable[..., set[str]]) -> None:
    """A cluster whose network keeps NetworkPolicies: asked by a policy of the test's own, not by the chart's."""
    nothing = {"podSelector": {"matchLabels": {"probe": "shut-in"}}, "policyTypes": ["Egress"]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "probe"}}
    demo.namespace.cluster.apply(policy | {"spec": nothing}, namespace=demo.namespace.name)
    if reaches("reach-probe", probe="shut-in") == TARGETS.keys():
        pytest.skip("the cluster's network does not enforce NetworkPolicies: a pod that may reach nothing reaches all")


@pytest.mark.usefixtures("enforced")
@pytest.mark.parametrize(
    ("grants", "reached"),
    [
        ((), set()),
        (("dns",), set()),
        (("dns", "database"), {"dev-database"}),
        *((("dns", service), {service}) for service in SERVICES.values()),
    ],
    ids=lambda value: "+".join(value) or "nothing" if isinstance(value, tuple) else "",
)
def test_a_pod_reaches_what_it_is_granted_and_nothing_else(
    grants: tuple[str, ...], reached: set[str], reaches: Callable[..., set[str]]
) -> None:
    assert reaches(f"reach-{'-'.join(grants) or 'nothing'}", *grants) == reached
