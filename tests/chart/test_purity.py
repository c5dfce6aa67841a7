"""Renders are pure: the same twice, in every cluster; and a change reaches the pods that consume it and no others."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from chart.conftest import all_renders, inputs
from chart.harness import code
from chart.harness.objects import find
from chart.harness.render import CHART, NEWEST, OLDEST, Release, Renderer, at

DEV = "values-dev.yaml"


@pytest.mark.parametrize("name", inputs())
def test_two_renders_are_byte_equal(name: str, render: Renderer) -> None:
    given = inputs()[name]
    options = {"files": given.files, **given.options}
    assert render(given.values, **options).text == render.afresh(given.values, **options).text


@pytest.mark.parametrize("name", inputs())
def test_every_kubernetes_gets_the_same(name: str, render: Renderer) -> None:
    given = inputs()[name]
    oldest, newest = (
        render(given.values, files=given.files, **given.options, kube_version=version) for version in (OLDEST, NEWEST)
    )
    assert oldest.text == newest.text


IMPURE = {"lookup", "now", "Capabilities", "shuffle", "uuidv4", "htpasswd", "bcrypt", "getHostByName"}


def test_a_template_asks_nothing_of_the_cluster_the_clock_or_chance() -> None:
    found = []
    for file in sorted(CHART.rglob("templates/*.*")):
        for action in re.findall(r"\{\{(?!-?\s*/\*)(.*?)\}\}", file.read_text(), flags=re.DOTALL):
            words = set(re.findall(r"\w+", re.sub(r'"(?:\\.|[^"])*"', "", action)))
            impure = words & IMPURE | {word for word in words if re.match(r"rand[A-Z]|gen[A-Z]", word)}
            found += [f"{file.relative_to(CHART)}: {word}" for word in impure]
    assert not found


def pods(release: Release) -> dict[str, str]:
    """Return what Kubernetes would compare: each pod's metadata and spec."""
    return {pod.id: json.dumps([pod.metadata, pod.spec], sort_keys=True) for pod in release.pods}


def changed(before: Release, after: Release) -> set[str]:
    """Return the pods that are not as they were, or are no longer there."""
    old, new = pods(before), pods(after)
    return {pod for pod in old.keys() | new.keys() if old.get(pod) != new.get(pod)}


@pytest.mark.parametrize("name", inputs())
def test_a_version_of_the_chart_changes_no_pod(name: str, render: Renderer, next_version: Renderer) -> None:
    given = inputs()[name]
    before, after = (r(given.values, files=given.files, **given.options) for r in (render, next_version))
    assert before.text != after.text
    assert changed(before, after) == set()


@pytest.fixture(scope="module")
def next_version(render: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """Render the chart as it would be in its next version, with the same application."""
    folder = tmp_path_factory.mktemp("next") / CHART.name
    shutil.copytree(CHART, folder)
    for file in folder.rglob("Chart.yaml"):
        file.write_text(re.sub(r"^( *(?:- )?version:) .*$", r"\1 99.0.0", file.read_text(), flags=re.MULTILINE))
    return Renderer(render.binary, folder)


def readers(release: Release, *variables: str) -> set[str]:
    """Return the pods that are given one of these variables."""
    return {
        pod.id
        for pod in release.pods
        for container in pod.containers
        for variable in container.get("env", ())
        if variable["name"] in variables
    }


def commands(release: Release) -> set[str]:
    """Return the pods that run the jobs image."""
    return {pod.id for pod in release.pods if code.command_of(pod)}


def services(release: Release) -> set[str]:
    """Return the pods that are R services."""
    return {pod.id for pod in release.pods if code.service_of(pod)}


CHANGES: dict[str, tuple[Mapping[str, Any], Any]] = {
    "the token of r-irt-plumber": (
        at("global.secrets.irt.value", "another"),
        lambda release: {"Deployment/r-irt-plumber", *readers(release, "R_IRT_INTERNAL_TOKEN")},
    ),
    "the token of r-forecast-plumber": (
        at("global.secrets.forecast.value", "another"),
        lambda release: {"Deployment/r-forecast-plumber", *readers(release, "R_FORECAST_INTERNAL_TOKEN")},
    ),
    "the database's password": (
        at("global.secrets.database.password", "another"),
        lambda release: {"Deployment/dev-database", *readers(release, "DATABASE_URL")},
    ),
    "the jobs image": (at("global.stages.image.tag", "9.9.9"), commands),
    "one stage's image": (
        at("fit-survival-churn.image.tag", "9.9.9"),
        lambda _: {"CronJob/fit-survival-churn"},
    ),
    "one stage's setting": (
        at("forecast-prophet.settings.PROPHET_FORECAST_WEEKS", 8),
        lambda _: {"CronJob/forecast-prophet"},
    ),
    "one stage's schedule": (at("forecast-prophet.schedule", "1 1 * * *"), lambda _: set()),
    "one service's workers": (at("r-brms-plumber.workers", 2), lambda _: {"Deployment/r-brms-plumber"}),
    "every service's queue": (at("global.services.queueLength", 9), services),
    "one service's replicas": (at("r-irt-plumber.replicas", 3), lambda _: set()),
    "the labels of all": (at("global.commonLabels.team", "learning"), lambda release: set(pods(release))),
    "the environment's DNS": (at("global.networkPolicy.dns", [{"namespaceSelector": {}}]), lambda _: set()),
    "a monitor": (at("r-irt-plumber.serviceMonitor.enabled", True), lambda _: set()),
    "the migration's time limit": (at("migrations.activeDeadlineSeconds", 999), lambda _: set()),
    "the database's size": (at("devDatabase.sizeLimit", "3Gi"), lambda _: {"Deployment/dev-database"}),
    "the simulated learners": (at("devDatabase.simulator.learners", 7), lambda _: {"Job/simulate"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_reaches_the_pods_that_consume_it_and_no_others(what: str, render: Renderer) -> None:
    values, consumers = CHANGES[what]
    before, after = render(files=(DEV,)), render(values, files=(DEV,))
    assert before.text != after.text
    assert changed(before, after) == consumers(before)


def test_a_pod_that_reads_an_inline_secret_or_a_config_map_restarts_when_it_changes(render: Renderer) -> None:
    for release in all_renders(render):
        inline = {obj.name for obj in release.of("Secret", "ConfigMap")}
        for pod in release.pods:
            references = [
                *find(pod.spec, "secretKeyRef"),
                *find(pod.spec, "configMapKeyRef"),
                *find(pod.spec, "configMap"),
            ]
            if {reference["name"] for reference in references} & inline:
                assert any(name.startswith("checksum/") for name in pod.annotations), (
                    f"{pod.id} has no checksum annotation"
                )
