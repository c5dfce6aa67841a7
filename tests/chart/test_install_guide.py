"""docs/install.md against the chart: its values render, and what its commands name is what they render."""

from __future__ import annotations

import re
from functools import cache

import pytest
import yaml
from chart.harness.helm import REPOSITORY
from chart.harness.render import Refused, Release, Renderer
from seed_analytics.cli import COMMAND_SETTINGS

GUIDE = (REPOSITORY / "docs" / "install.md").read_text()
DIGEST = "sha256:" + "0123456789abcdef" * 4
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
RELEASE, NAMESPACE = "seed-analytics", "seed-prod"


@cache
def blocks(language: str) -> list[str]:
    """Return the guide's code in a language."""
    return re.findall(rf"```{language}\n(.+?)```", GUIDE, re.DOTALL)


def shell() -> str:
    """Return the guide's commands, each on one line."""
    return re.sub(r"\\\n\s*", " ", "\n".join(blocks("sh")))


@pytest.fixture
def installed(render: Renderer) -> Release:
    """What section 7 installs: the values of section 6 over those of production."""
    (given,) = blocks("yaml")
    values = yaml.safe_load(given.replace("sha256:…", DIGEST))
    return render(values, files=["values-prod.yaml"], release=RELEASE, namespace=NAMESPACE)


def test_the_variables_of_the_guide_name_what_its_values_name(installed: Release) -> None:
    variables = dict(re.findall(r"([A-Z_]+)=([\w.-]+)", "\n".join(re.findall(r"^export .+$", shell(), re.MULTILINE))))
    place = f"{variables['PROJECT']}:{variables['REGION']}:{variables['INSTANCE']}"
    gcp = installed.values["secretStore"]["gcp"]
    assert (variables["RELEASE"], variables["NAMESPACE"]) == (RELEASE, NAMESPACE)
    assert installed.values["global"]["cloudSqlProxy"]["instance"] == place
    assert (gcp["projectID"], gcp["clusterLocation"], gcp["clusterName"]) == (
        variables["PROJECT"],
        variables["REGION"],
        variables["CLUSTER"],
    )
    assert (
        variables["VERSION"]
        == yaml.safe_load((REPOSITORY / "charts/seed-analytics/Chart.yaml").read_text())["appVersion"]
    )


def test_every_image_is_named_by_a_digest_of_the_guide(installed: Release) -> None:
    images = {container["image"] for pod in installed.pods for container in pod.containers}
    assert {image.partition("@")[2] for image in images} == {DIGEST}


def test_a_digest_that_was_forgotten_is_refused(render: Renderer) -> None:
    (given,) = blocks("yaml")
    with pytest.raises(Refused, match="digest"):
        render(yaml.safe_load(given), files=["values-prod.yaml"])


def test_the_images_that_the_guide_pushes_and_pulls_are_those_that_are_run(installed: Release) -> None:
    images = {container["image"].partition("@")[0] for pod in installed.pods for container in pod.containers}
    (pushed,) = re.findall(r"^for image in (.+); do$", shell(), re.MULTILINE)
    (proxy,) = re.findall(r"^proxy=(\S+)$", shell(), re.MULTILINE)
    registry = "asia-northeast3-docker.pkg.dev/seedtest-prod/seedtest"
    assert images == {proxy, *(f"{registry}/{name}:0.1.0" for name in pushed.split())}


def test_every_account_that_acts_as_the_proxy_is_bound(installed: Release) -> None:
    (loop,) = re.findall(r"^for name in (.+?); do\n\s+act_as seed-analytics \"\$name\"$", shell(), re.MULTILINE)
    acting = {
        account["metadata"]["name"]
        for account in installed.of("ServiceAccount")
        if account["metadata"]
        .get("annotations", {})
        .get("iam.gke.io/gcp-service-account", "")
        .startswith("seed-analytics@")
    }
    assert set(loop.split()) == acting


def test_the_account_of_the_secret_store_is_bound(installed: Release) -> None:
    (store,) = installed.of("SecretStore")
    account = store["spec"]["provider"]["gcpsm"]["auth"]["workloadIdentity"]["serviceAccountRef"]["name"]
    assert re.findall(r"^act_as seed-secrets (\S+)$", shell(), re.MULTILINE) == [account]


def test_the_secrets_of_the_guide_are_those_that_are_read(installed: Release) -> None:
    remote = {
        entry["remoteRef"]["key"] for secret in installed.of("ExternalSecret") for entry in secret["spec"]["data"]
    }
    (loop,) = re.findall(r"^for service in (.+?); do .+ put \"(.+)\"; done$", shell(), re.MULTILINE)
    put = {loop[1].replace("$service", service) for service in loop[0].split()}
    put |= set(re.findall(r"\| put ([\w-]+)$", shell(), re.MULTILINE))
    (readable,) = re.findall(r"^for secret in (.+?); do$", shell(), re.MULTILINE)
    assert put == remote
    assert set(readable.split()) == remote


def test_the_checklist_counts_the_schedules(installed: Release) -> None:
    assert f"| {NUMBERS[len(list(installed.of('CronJob')))]}, none suspended" in GUIDE


def test_the_checklist_counts_the_services(installed: Release) -> None:
    assert f"| {NUMBERS[len(list(installed.of('Service')))]} services, port 80 |" in GUIDE


def test_one_off_runs_are_of_schedules_and_commands_that_exist(installed: Release) -> None:
    runs = re.findall(r"^once (\S+) (\S+) '(.+)'$", shell(), re.MULTILINE)
    assert runs
    for name, cronjob, arguments in runs:
        assert f"CronJob/{cronjob}" in installed.ids, name
        assert arguments.split(",")[0].strip('"') in COMMAND_SETTINGS, name


def test_what_prometheus_scrapes_is_let_in(installed: Release) -> None:
    (namespace,) = re.findall(r"helm install monitoring \S+ .*?-n (\S+)", shell())
    (peer,) = installed["NetworkPolicy/r-irt-plumber"]["spec"]["ingress"][-1]["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}


def test_the_operator_of_monitoring_is_there_before_what_makes_monitors() -> None:
    order = re.findall(r"^helm install (\S+)", shell(), re.MULTILINE)
    assert order == ["monitoring", "external-secrets", '"$RELEASE"']


def test_the_operators_are_pinned() -> None:
    unpinned = [
        command
        for command in re.findall(r"^helm install .+$", shell(), re.MULTILINE)
        if not re.search(r" charts/seed-analytics | --version [\d.]+ ", command)
    ]
    assert not unpinned


def test_no_command_stands_in_a_table_where_its_pipe_would_be_escaped() -> None:
    assert not re.findall(r"^\|.*`[^`]*\\\|[^`]*`.*$", GUIDE, re.MULTILINE)
