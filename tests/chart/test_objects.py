"""Every object of every values file: taken by every Kubernetes version, and keeping every rule of harness/rules.py."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from chart.conftest import all_renders
from chart.harness import rules, schemas
from chart.harness.objects import Obj, Pod, freeze, thaw
from chart.harness.render import KUBERNETES, Release, Renderer


def none_of(faults: list[str]) -> None:
    """Fail with every fault on a line of its own."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_every_values_file_renders_objects(release: Release) -> None:
    assert release.objects


def test_every_supported_kubernetes_takes_it(built_in: Obj) -> None:
    none_of(
        [
            f"{built_in.id} is not valid in Kubernetes {version}: {fault}"
            for version in KUBERNETES
            for fault in schemas.faults(built_in, version)
        ]
    )


def test_its_operator_takes_it(custom: Obj, crds: Path) -> None:
    faults = schemas.custom_faults(custom, crds)
    none_of([f"{custom.id} is not valid by its operator's schema: {fault}" for fault in faults])


def test_the_api_server_fills_in_nothing_of_what_an_operator_reads(custom: Obj, crds: Path) -> None:
    none_of(schemas.filled_in(custom, crds))


def test_a_default_that_is_not_written_out_is_noticed(render: Renderer, crds: Path) -> None:
    secret = thaw(render({"global": {"secrets": {"source": "external"}}})["ExternalSecret/r-brms-credentials"])
    assert schemas.filled_in(freeze(secret, Obj), crds) == []
    del secret["spec"]["target"]["creationPolicy"]
    del secret["spec"]["data"][0]["remoteRef"]["decodingStrategy"]
    assert [fault.rpartition(".")[2] for fault in schemas.filled_in(freeze(secret, Obj), crds)] == [
        "decodingStrategy = 'None'",
        "creationPolicy = 'Owner'",
    ]


def test_every_pod_keeps_the_rules(pod: Pod, release: Release) -> None:
    none_of(rules.broken(rules.POD_RULES, pod, release))


def test_every_object_keeps_the_rules(obj: Obj, release: Release) -> None:
    none_of(rules.broken(rules.OBJECT_RULES, obj, release))


def test_every_render_keeps_the_rules(release: Release) -> None:
    none_of(rules.broken(rules.RELEASE_RULES, release))


@pytest.mark.parametrize(("pattern", "rule"), rules.EXEMPT, ids=str)
def test_every_exemption_is_still_needed(pattern: str, rule: str, render: Renderer) -> None:
    renders = all_renders(render)
    asked = [(pod, release) for release in renders for pod in release.pods] if rule in rules.POD_RULES else []
    asked += [(obj, release) for release in renders for obj in release.objects] if rule in rules.OBJECT_RULES else []
    ask = (rules.POD_RULES | rules.OBJECT_RULES)[rule]
    assert any(list(ask(one, release)) for one, release in asked if fnmatch.fnmatchcase(one.id, pattern))
