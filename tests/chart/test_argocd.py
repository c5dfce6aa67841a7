"""The Argo CD manifests: valid by its own schemas, and at one with the chart and its environments."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest
from chart.harness import order, schemas
from chart.harness.helm import REPOSITORY
from chart.harness.objects import Obj, freeze, load_all, thaw
from chart.harness.render import CHART, Release, Renderer

FOLDER = REPOSITORY / "argocd"
MANIFESTS = [freeze(document, Obj) for file in sorted(FOLDER.glob("*.yaml")) for document in load_all(file.read_text())]
ENVIRONMENTS = {file.stem: load_all(file.read_text())[0] for file in sorted(FOLDER.glob("environments/*.yaml"))}


def of_kind(kind: str) -> Obj:
    (found,) = [manifest for manifest in MANIFESTS if manifest.kind == kind]
    return found


PROJECT, APPLICATIONS = of_kind("AppProject"), of_kind("ApplicationSet")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.id)
def test_argo_cd_takes_the_manifest(manifest: Obj, crds: Path) -> None:
    assert schemas.custom_faults(manifest, crds) == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_application_of_an_environment_is_valid(name: str, crds: Path) -> None:
    assert schemas.custom_faults(application(name), crds) == []


def application(name: str) -> Obj:
    """Return the Application that the ApplicationSet makes for an environment."""
    template = APPLICATIONS["spec"]["template"]
    manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **thaw(template)}
    return freeze(filled(manifest, ENVIRONMENTS[name]), Obj)


def filled(value: Any, parameters: dict[str, str]) -> Any:
    """Fill in {{ .name }} as Argo CD does with missingkey=error."""
    if isinstance(value, dict):
        return {key: filled(item, parameters) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, parameters) for item in value]
    if isinstance(value, str):
        for key, given in parameters.items():
            value = value.replace("{{ ." + key + " }}", given)
        assert "{{" not in value, f"{value} is given by no environment"
    return value


@pytest.fixture(params=ENVIRONMENTS)
def synced(request: pytest.FixtureRequest, render: Renderer) -> tuple[str, Obj, Release]:
    """What Argo CD renders for an environment."""
    made = application(request.param)
    source = made["spec"]["source"]
    helm = source["helm"]
    assert REPOSITORY / source["path"] == CHART
    release = render(
        thaw(helm.get("valuesObject") or {}),
        files=helm["valueFiles"],
        release=helm["releaseName"],
        namespace=made["spec"]["destination"]["namespace"],
    )
    return request.param, made, release


def test_there_is_an_application_for_every_values_file_of_an_environment() -> None:
    assert set(ENVIRONMENTS) == {file.stem.removeprefix("values-") for file in CHART.glob("values-*.yaml")}


def test_the_application_belongs_to_the_project_and_may_go_where_it_goes(synced: tuple[str, Obj, Release]) -> None:
    _, made, _ = synced
    spec = made["spec"]
    assert spec["project"] == PROJECT.name
    assert spec["source"]["repoURL"] in PROJECT["spec"]["sourceRepos"]
    allowed = [
        place
        for place in PROJECT["spec"]["destinations"]
        if place["server"] == spec["destination"]["server"]
        and fnmatch.fnmatchcase(spec["destination"]["namespace"], place["namespace"])
    ]
    assert allowed


def test_the_project_allows_what_the_chart_renders(synced: tuple[str, Obj, Release]) -> None:
    _, _, release = synced
    spec = PROJECT["spec"]
    allowed = {(kind["group"], kind["kind"]) for kind in spec["namespaceResourceWhitelist"]}
    allowed |= {(kind["group"], kind["kind"]) for kind in spec["clusterResourceWhitelist"]}
    rendered = {
        (one["apiVersion"].rpartition("/")[0], one.kind)
        for one in release.objects
        if order.argo_moment(one) is not None
    }
    assert rendered <= allowed


def test_secrets_come_before_the_migration_and_the_migration_before_the_workloads(
    synced: tuple[str, Obj, Release],
) -> None:
    _, _, release = synced
    migration = order.argo_moment(release["Job/migrate"])
    assert migration
    for one in release.of("Secret", "ExternalSecret", "NetworkPolicy", "SecretStore"):
        if one.labels["app.kubernetes.io/component"] in {"credentials", "network"}:
            assert order.argo_moment(one) < migration, one.id
    for one in release.of("CronJob", "Deployment"):
        if one.labels["app.kubernetes.io/component"] != "database":
            assert order.argo_moment(one) > migration, one.id


def test_no_drift_has_to_be_ignored() -> None:
    assert "ignoreDifferences" not in APPLICATIONS["spec"]["template"]["spec"]


def test_a_hook_job_is_deleted_before_the_next_and_never_by_a_time_to_live(synced: tuple[str, Obj, Release]) -> None:
    _, _, release = synced
    for job in release.of("Job"):
        assert "BeforeHookCreation" in job.annotations.get(
            "argocd.argoproj.io/hook-delete-policy",
            job.annotations.get("helm.sh/hook-delete-policy", "").title().replace("-", ""),
        ), job.id
        assert "ttlSecondsAfterFinished" not in job["spec"], job.id
