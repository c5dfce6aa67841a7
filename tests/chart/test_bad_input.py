"""Bad input is refused at render, in a sentence that names the key and says what to set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from chart.conftest import SOURCE
from chart.harness import code
from chart.harness.render import CHART, Refused, Renderer, at, merged

DEV = ("values-dev.yaml",)
INLINE = at("global.secrets.source", "inline")
EXTERNAL = at("global.secrets.source", "external")
INSTANCE = at("global.cloudSqlProxy.instance", "project:europe-west1:instance")

SENTENCES: dict[str, tuple[Mapping[str, Any], tuple[str, ...], list[str]]] = {
    # what: (values, values files, what the sentence must hold)
    "no secret source": ({}, (), ["global.secrets.source", "external", "existing", "inline"]),
    "two sources at once: a value beside existing": (
        merged(SOURCE, at("global.secrets.irt.value", "token")),
        (),
        ["global.secrets.irt.value", "global.secrets.source", "two sources"],
    ),
    "two sources at once: a value beside external": (
        merged(EXTERNAL, at("global.secrets.database.value", "postgresql://host/db")),
        (),
        ["global.secrets.database.value", "global.secrets.source", "two sources"],
    ),
    "two databases at once: a value beside the throw-away one": (
        at("global.secrets.database.value", "postgresql://host/db"),
        DEV,
        ["global.secrets.database.value", "devDatabase.enabled"],
    ),
    "two databases at once: the proxy beside the throw-away one": (
        merged(at("global.cloudSqlProxy.enabled", True), INSTANCE),
        DEV,
        ["global.cloudSqlProxy.enabled", "devDatabase.enabled"],
    ),
    "one combined ExternalSecret without External Secrets": (
        merged(SOURCE, at("global.secrets.combined.enabled", True)),
        (),
        ["global.secrets.combined.enabled", "global.secrets.source"],
    ),
    "a mount of the chart's own volume": (
        merged(SOURCE, at("global.stages.extraVolumeMounts", [{"name": "tmp", "mountPath": "/data"}])),
        (),
        ["extraVolumeMounts", '"tmp"', "extraVolumes"],
    ),
    "an emptyDir without a bound": (
        merged(SOURCE, at("global.stages.extraVolumes", [{"name": "data", "emptyDir": {}}])),
        (),
        ["emptyDir", "sizeLimit"],
    ),
    "a mount over /tmp": (
        merged(
            SOURCE,
            at("global.stages.extraVolumes", [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}]),
            at("global.stages.extraVolumeMounts", [{"name": "data", "mountPath": "/tmp"}]),  # noqa: S108 - in the container
        ),
        (),
        ["extraVolumeMounts", "/tmp", "tmpSizeLimit"],  # noqa: S108
    ),
    "a mount of a volume that is not there": (
        merged(SOURCE, at("global.services.extraVolumeMounts", [{"name": "data", "mountPath": "/data"}])),
        (),
        ["extraVolumeMounts", '"data"', "extraVolumes"],
    ),
    "a token inline in production": (
        merged(INLINE, at("global.environment", "prod"), at("global.secrets.irt.value", "token")),
        (),
        ["global.secrets.source", "global.environment", "prod", "external"],
    ),
    "a token inline in staging": (
        merged(INLINE, at("global.environment", "staging")),
        (),
        ["global.secrets.source", "global.environment", "staging"],
    ),
    "an inline token that is missing": (
        at("global.secrets.brms.value", ""),
        DEV,
        ["global.secrets.brms.value", "inline"],
    ),
    "an environment without its store": (
        merged(EXTERNAL, at("secretStore.name", "")),
        (),
        ["secretStore.name", "prod"],
    ),
    "a store without its project": (
        merged(EXTERNAL, at("secretStore.create", True)),
        (),
        ["secretStore.gcp.projectID", "prod"],
    ),
    "half a workload identity": (
        merged(EXTERNAL, at("secretStore", {"create": True, "gcp": {"projectID": "project-1", "clusterName": "c"}})),
        (),
        ["secretStore.gcp", "clusterLocation", "googleServiceAccount"],
    ),
    "a store that nothing reads": (
        merged(SOURCE, at("secretStore", {"create": True, "gcp": {"projectID": "project-1"}})),
        (),
        ["secretStore.create", "global.secrets.source"],
    ),
    "a secret id with a slash": (
        merged(
            EXTERNAL,
            at("secretStore", {"create": True, "gcp": {"projectID": "project-1"}}),
            at("global.secrets.irt.remoteKey", "a/b"),
        ),
        (),
        ["global.secrets.irt.remoteKey", "slash"],
    ),
    "the proxy without an instance": (
        merged(SOURCE, at("global.cloudSqlProxy.enabled", True)),
        (),
        ["global.cloudSqlProxy.instance", "project:region:instance"],
    ),
    "the throw-away database in production": (
        merged(SOURCE, at("devDatabase.enabled", True)),
        (),
        ["devDatabase.enabled", "global.environment", "prod"],
    ),
    "the throw-away database without a password": (
        at("global.secrets.database.password", ""),
        DEV,
        ["global.secrets.database.password"],
    ),
    "the throw-away database without its tables": (
        at("migrations.mode", "none"),
        DEV,
        ["devDatabase.enabled", "migrations.mode"],
    ),
    "a stage without its service": (
        merged(SOURCE, at("r-irt-plumber.enabled", False)),
        (),
        ["calibrate-irt-weekly.enabled", "r-irt-plumber.enabled", "calibrate-irt-weekly.serviceUrl"],
    ),
    "an autoscaler with fixed replicas": (
        merged(SOURCE, at("r-irt-plumber", {"replicas": 2, "autoscaling": {"enabled": True}})),
        (),
        ["r-irt-plumber", "autoscaling.enabled", "replicas"],
    ),
    "an autoscaler with fixed replicas for all": (
        merged(SOURCE, at("global.services", {"replicas": 2, "autoscaling": {"enabled": True}})),
        (),
        ["autoscaling.enabled", "replicas"],
    ),
    "an autoscaler with more at least than at most": (
        merged(SOURCE, at("r-irt-plumber.autoscaling", {"enabled": True, "minReplicas": 5, "maxReplicas": 2})),
        (),
        ["r-irt-plumber", "autoscaling.minReplicas", "autoscaling.maxReplicas"],
    ),
    "a variable that the chart sets itself": (
        merged(SOURCE, at("r-irt-plumber.extraEnv", [{"name": "WORKERS", "value": "3"}])),
        (),
        ["extraEnv", "WORKERS", "already set by the chart"],
    ),
}


@pytest.mark.parametrize("what", SENTENCES)
def test_is_refused_in_a_sentence_that_names_the_key(what: str, render: Renderer) -> None:
    values, files, words = SENTENCES[what]
    with pytest.raises(Refused) as refused:
        render(values, files=files)
    sentences = [line for line in str(refused.value).splitlines() if all(word in line for word in words)]
    assert sentences, f"no line of this names {', '.join(words)}:\n{refused.value}"


def test_all_that_is_wrong_is_told_at_once(render: Renderer) -> None:
    with pytest.raises(Refused) as refused:
        render(merged(at("global.cloudSqlProxy.enabled", True), at("r-brms-plumber.enabled", False)))
    for key in ("global.secrets.source", "global.cloudSqlProxy.instance", "fit-bayesian-growth.serviceUrl"):
        assert key in str(refused.value)


BY_SCHEMA: dict[str, tuple[str | tuple[str, ...], Any]] = {
    # what: (key, value)
    "an unknown key at the top": ("devDatabse", {}),
    "an unknown key of global": ("global.secret", {}),
    "an unknown key of a subchart": ("r-irt-plumber.replica", 2),
    "an unknown key of a stage": ("fit-survival-churn.schedul", "0 5 * * *"),
    "an unknown setting": ("fit-survival-churn.settings.SURVIVAL_LOOKBACK", 90),
    "an unknown key deep down": ("global.cloudSqlProxy.image.tags", "1"),
    "an unknown key of a security context": ("global.stages.securityContext.privilegd", False),
    "a wrong type: text for a number": ("r-irt-plumber.workers", "two"),
    "a wrong type: a number for text": ("global.image.registry", 5),
    "a wrong type: text for a switch": ("verify.enabled", "yes"),
    "a wrong type: a list for a map": ("global.commonLabels", ["a"]),
    "a wrong type: a fraction of a pod": ("r-irt-plumber.replicas", 1.5),
    "cron: four fields": ("fit-survival-churn.schedule", "0 5 * *"),
    "cron: six fields": ("fit-survival-churn.schedule", "0 0 5 * * *"),
    "cron: minute 60": ("fit-survival-churn.schedule", "60 5 * * *"),
    "cron: hour 24": ("fit-survival-churn.schedule", "0 24 * * *"),
    "cron: words": ("fit-survival-churn.schedule", "every night"),
    "cron: CRON_TZ": ("fit-survival-churn.schedule", "CRON_TZ=Asia/Seoul 0 5 * * *"),
    "cron: TZ": ("fit-survival-churn.schedule", "TZ=UTC 0 5 * * *"),
    "cron: empty": ("fit-survival-churn.schedule", ""),
    "a time zone that cannot exist: a word": ("fit-survival-churn.timeZone", "seoul"),
    "a time zone that cannot exist: an offset": ("global.stages.timeZone", "+09:00"),
    "a time zone that cannot exist: of this machine": ("global.stages.timeZone", "Local"),
    "a prefix too long": ("global.namePrefix", "p" * 53),
    "a prefix with a capital": ("global.namePrefix", "Blue"),
    "a prefix that ends in a dash": ("global.namePrefix", "blue-"),
    "a Secret's name too long": ("global.secrets.irt.name", "n" * 64),
    "replicas below zero": ("r-irt-plumber.replicas", -1),
    "replicas of all below zero": ("global.services.replicas", -1),
    "a budget that blocks every drain: 0": ("r-irt-plumber.podDisruptionBudget.maxUnavailable", 0),
    "a budget that blocks every drain: 0%": ("global.services.podDisruptionBudget.maxUnavailable", "0%"),
    "a budget of more pods than an integer of Kubernetes holds": (
        "r-irt-plumber.podDisruptionBudget.maxUnavailable",
        2**31,
    ),
    "a proxy without a tag": ("global.cloudSqlProxy.image.tag", ""),
    "a digest without its algorithm": ("r-irt-plumber.image.digest", "a" * 64),
    "a digest too short": ("global.stages.image.digest", "sha256:abc"),
    "a digest with capitals": ("global.cloudSqlProxy.image.digest", "sha256:" + "A" * 64),
    "the tag latest": ("r-irt-plumber.image.tag", "latest"),
    "an instance in the wrong form": ("global.cloudSqlProxy.instance", "instance"),
    "an environment that is none": ("global.environment", "production"),
    "a source that is none": ("global.secrets.source", "vault"),
    "a refresh interval that the operator would rewrite": ("secretStore.refreshInterval", "1h"),
    "a port beyond 65535": ("calibrate-irt-weekly.serviceUrl", "http://irt.example:65536"),
    "an address without a scheme": ("calibrate-irt-weekly.serviceUrl", "irt.example"),
    "a quantity that is none": ("global.stages.tmpSizeLimit", "1 GB"),
    "no DNS servers at all": ("global.networkPolicy.dns", []),
    "a privileged container": ("r-irt-plumber.securityContext.privileged", True),
    "root": ("global.stages.podSecurityContext.runAsUser", 0),
    "a container that may run as root": ("global.stages.securityContext.runAsNonRoot", False),
    "privilege escalation": ("global.services.securityContext.allowPrivilegeEscalation", True),
    "a capability beyond the restricted profile": ("r-irt-plumber.securityContext.capabilities.add", ["SYS_ADMIN"]),
    "a seccomp profile that confines nothing": ("global.stages.podSecurityContext.seccompProfile.type", "Unconfined"),
    "a volume of the node": ("global.stages.extraVolumes", [{"name": "node", "hostPath": {"path": "/"}}]),
}


@pytest.mark.parametrize("what", BY_SCHEMA)
def test_is_refused_by_the_schema_with_the_path_of_the_key(what: str, render: Renderer) -> None:
    path, value = BY_SCHEMA[what]
    with pytest.raises(Refused) as refused:
        render(merged(SOURCE, at(path, value)))
    names_path(str(path), str(refused.value))


def names_path(path: str, message: str) -> None:
    """Ask that a refusal names the last key of a path and what stands above it."""
    *above, last = path.split(".")
    lines = [line for line in message.splitlines() if last in line and all(key in line for key in above)]
    assert lines, f"no line of this names {path}:\n{message}"


RENAMED = yaml.safe_load((CHART / "files" / "renamed-keys.yaml").read_text())


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_fails_once_with_the_new_name(old: str, render: Renderer) -> None:
    with pytest.raises(Refused) as refused:
        render(merged(SOURCE, at(old, "x")))
    (line,) = [line for line in str(refused.value).splitlines() if old in line]
    assert f"{old} is now {RENAMED[old]}" in line
    assert code.value_of(RENAMED[old], {}) is not None


def test_a_prefix_that_makes_a_cronjobs_name_too_long_is_refused(render: Renderer) -> None:
    longest = max(code.STAGES, key=len)
    prefix = "p" * (52 - len(longest))  # one more than fits, with the dash
    with pytest.raises(Refused, match="global.namePrefix"):
        render(merged(SOURCE, at("global.namePrefix", prefix)))
    assert render(merged(SOURCE, at("global.namePrefix", prefix[:-1]))).objects


def test_a_release_name_that_helm_refuses_is_refused(render: Renderer) -> None:
    with pytest.raises(Refused, match="release name"):
        render(SOURCE, release="r" * 54)


def test_an_older_kubernetes_is_refused(render: Renderer) -> None:
    with pytest.raises(Refused, match=r"1\.28"):
        render(SOURCE, kube_version="1.28.0")
