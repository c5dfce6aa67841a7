"""A store of Secrets for the External Secrets operator, whose values are in its spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.kube import Cluster, Namespace

STORES = ("external-secrets.io", "v1", "clustersecretstores")
TOKENS = {f"r-{name}-internal-token": f"{name}-token-1" for name in ("irt", "forecast", "brms")}


@dataclass
class Store:
    """A ClusterSecretStore whose values are in its spec."""

    cluster: Cluster
    name: str
    data: dict[str, str] = field(default_factory=dict)

    def put(self, **data: str) -> None:
        """Set values; `_` stands for `-`."""
        self.data |= {key.replace("_", "-"): value for key, value in data.items()}
        # What people put into a store often ends in a newline.
        values = [{"key": key, "value": f"{value}\n"} for key, value in self.data.items()]
        self.cluster.apply(
            {
                "apiVersion": "external-secrets.io/v1",
                "kind": "ClusterSecretStore",
                "metadata": {"name": self.name},
                "spec": {"provider": {"fake": {"data": values}}},
            }
        )


@contextmanager
def store_of(cluster: Cluster, namespace: Namespace, data: Mapping[str, str]) -> Iterator[Store]:
    store = Store(cluster, namespace.name)
    store.put(**{key.replace("-", "_"): value for key, value in data.items()})
    try:
        yield store
    finally:
        cluster.custom.delete_cluster_custom_object(*STORES, store.name)


def synced(namespace: Namespace) -> dict[str, str]:
    """Return the reason of each ExternalSecret's condition."""
    found = namespace.cluster.custom.list_namespaced_custom_object(
        "external-secrets.io", "v1", namespace.name, "externalsecrets"
    )["items"]
    return {item["metadata"]["name"]: item["status"]["conditions"][0]["reason"] for item in found if "status" in item}
