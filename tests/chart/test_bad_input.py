"""Bad input is refused at render, in a sentence that names the key and says what to set."""

from __future__ import annotations

import re
import zoneinfo
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
    "global inside a subchart": (
        merged(SOURCE, at("r-irt-plumber.global.enviroment", "dev")),
        (),
        ["r-irt-plumber.global is set", "set its keys in global"],
    ),
    "two Secrets of one name": (
        merged(EXTERNAL, at("global.secrets.irt.name", "tokens"), at("global.secrets.brms.name", "tokens")),
        (),
        ["global.secrets.brms.name", "global.secrets.irt.name", "tokens", "its own name"],
    ),
    "a password of a throw-away database that is off": (
        merged(SOURCE, at("global.secrets.database.password", "x")),
        (),
        ["global.secrets.database.password", "devDatabase.enabled"],
    ),
    "the throw-away database without inline secrets": (
        merged(SOURCE, at("global.environment", "dev"), at("devDatabase.enabled", True)),
        (),
        ["devDatabase.enabled", "global.secrets.source inline"],
    ),
    "two volumes of one name": (
        merged(SOURCE, at("r-irt-plumber.extraVolumes", [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}] * 2)),
        (),
        ["r-irt-plumber.extraVolumes or global.services.extraVolumes", '"data"', "set another"],
    ),
    "a prefix that makes a name too long": (
        merged(EXTERNAL, at("global.namePrefix", "blue"), at("global.secrets.irt.name", "n" * 60)),
        (),
        ["global.namePrefix", "at most 63", "set a shorter global.namePrefix"],
    ),
    "a memory request above the limit of all": (
        merged(SOURCE, at("r-irt-plumber.resources.requests.memory", "4Gi")),
        (),
        ["r-irt-plumber.resources", "requests.memory 4Gi", "limits.memory 2Gi", "raise the limit"],
    ),
    "a migration's memory request above its limit": (
        merged(SOURCE, at("migrations.resources.requests.memory", "600M")),
        (),
        ["migrations.resources", "requests.memory 600M", "limits.memory 512Mi"],
    ),
    "a CPU request above the limit": (
        merged(SOURCE, at("fit-survival-churn.resources", {"requests": {"cpu": 1.5}, "limits": {"cpu": "1200m"}})),
        (),
        ["fit-survival-churn.resources", "requests.cpu 1.5", "limits.cpu 1200m"],
    ),
    "the proxy's memory request above its limit": (
        merged(
            SOURCE,
            at("global.cloudSqlProxy", {"enabled": True, "resources": {"requests": {"memory": "1Gi"}}}),
            INSTANCE,
        ),
        (),
        ["global.cloudSqlProxy.resources", "requests.memory 1Gi", "limits.memory 128Mi"],
    ),
    "the throw-away database's memory request above its limit": (
        at("devDatabase.resources.requests.memory", "2Gi"),
        DEV,
        ["devDatabase.resources", "requests.memory 2Gi", "limits.memory 1Gi"],
    ),
    "a seccomp profile of the node that is not named": (
        merged(SOURCE, at("r-irt-plumber.podSecurityContext.seccompProfile.type", "Localhost")),
        (),
        ["r-irt-plumber.podSecurityContext", "seccompProfile", "localhostProfile"],
    ),
    "a named seccomp profile of the runtime": (
        merged(
            SOURCE,
            at(
                "global.stages.securityContext.seccompProfile", {"type": "RuntimeDefault", "localhostProfile": "a.json"}
            ),
        ),
        (),
        ["global.stages.securityContext", "seccompProfile", "type Localhost"],
    ),
    "a toleration of any value with one": (
        merged(SOURCE, at("global.stages.tolerations", [{"key": "a", "operator": "Exists", "value": "b"}])),
        (),
        ["global.stages.tolerations", "operator Exists", "remove the value"],
    ),
    "a toleration without a key": (
        merged(SOURCE, at("r-irt-plumber.tolerations", [{"effect": "NoSchedule"}])),
        (),
        ["r-irt-plumber.tolerations", "without a key", "operator Exists"],
    ),
    "a toleration for a time of what does not evict": (
        merged(
            SOURCE,
            at(
                "global.services.tolerations",
                [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}],
            ),
        ),
        (),
        ["global.services.tolerations", "tolerationSeconds", "NoExecute"],
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
    "a label that a controller sets": ("global.commonLabels", {"job-name": "mine"}),
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


BY_CHART: dict[str, tuple[str, Any, str]] = {
    # what: (key, value, what to set)
    "cron: four fields": ("fit-survival-churn.schedule", "0 5 * *", "five fields"),
    "cron: six fields": ("fit-survival-churn.schedule", "0 0 5 * * *", "five fields"),
    "cron: minute 60": ("fit-survival-churn.schedule", "60 5 * * *", "five fields"),
    "cron: hour 24": ("fit-survival-churn.schedule", "0 24 * * *", "five fields"),
    "cron: words": ("fit-survival-churn.schedule", "every night", "five fields"),
    "cron: CRON_TZ": ("fit-survival-churn.schedule", "CRON_TZ=Asia/Seoul 0 5 * * *", "timeZone"),
    "cron: TZ": ("fit-survival-churn.schedule", "TZ=UTC 0 5 * * *", "timeZone"),
    "cron: empty": ("fit-survival-churn.schedule", "", "five fields"),
    "a time zone that cannot exist: a word": ("fit-survival-churn.timeZone", "seoul", "Area/Location"),
    "a time zone that cannot exist: an offset": ("global.stages.timeZone", "+09:00", "Area/Location"),
    "a time zone that cannot exist: of this machine": ("global.stages.timeZone", "Local", "Area/Location"),
    "a digest without its algorithm": ("r-irt-plumber.image.digest", "a" * 64, "set sha256:"),
    "a digest too short": ("global.stages.image.digest", "sha256:abc", "set sha256:"),
    "a digest with capitals": ("global.cloudSqlProxy.image.digest", "sha256:" + "A" * 64, "set sha256:"),
    "cron: a range of names that ends before it begins": (
        "fit-survival-churn.schedule",
        "0 5 * * fri-mon",
        "set the earlier",
    ),
    "cron: a range of months that ends before it begins": (
        "fit-survival-churn.schedule",
        "0 5 * dec-jan *",
        "set the earlier",
    ),
    "cron: a range of hours that ends before it begins": (
        "fit-survival-churn.schedule",
        "0 9-5 * * *",
        "set the earlier",
    ),
    "cron: every hour and a half": ("fit-survival-churn.schedule", "@every 90m", "@hourly"),
    "cron of a stage that is off": ("compute-weekly-kpis.schedule", "daily", "five fields"),
}


@pytest.mark.parametrize("what", BY_CHART)
def test_is_refused_in_a_sentence_that_says_what_to_set(what: str, render: Renderer) -> None:
    path, value, to_set = BY_CHART[what]
    with pytest.raises(Refused) as refused:
        render(merged(SOURCE, at(path, value)))
    (line,) = [line for line in str(refused.value).splitlines() if f"- {path} " in line]
    assert to_set in line


GOOD = {
    "cron: steps, hours and names": ("fit-survival-churn.schedule", "*/15 8-18 * * mon-fri"),
    "cron: a range of months": ("fit-survival-churn.schedule", "0 5 1 jan-Dec/3 *"),
    "cron: a name": ("fit-survival-churn.schedule", "@daily"),
    "a time zone of three parts": ("global.stages.timeZone", "America/Argentina/Buenos_Aires"),
    "a time zone with a sign": ("global.stages.timeZone", "Etc/GMT+9"),
    **{f"the time zone {zone}": ("global.stages.timeZone", zone) for zone in ("GMT", "Japan", "EST", "UTC")},
}


@pytest.mark.parametrize("what", GOOD)
def test_is_taken(what: str, render: Renderer) -> None:
    path, value = GOOD[what]
    cronjob = render(merged(SOURCE, at(path, value)))["CronJob/fit-survival-churn"]
    assert cronjob["spec"][path.rpartition(".")[2]] == value


def test_every_time_zone_of_the_tz_database_is_taken() -> None:
    pattern = re.search(
        r"define \"seed-analytics.timeZones\".*?\n(.+)\n", (CHART / "templates/_validate.tpl").read_text()
    )
    assert pattern
    # localtime and Factory are of the machine.
    zones = zoneinfo.available_timezones() - {"localtime", "Factory"}
    assert [zone for zone in zones if not re.fullmatch(pattern[1], zone)] == []


def refusals() -> dict[str, re.Pattern[str]]:
    """Return every sentence that a template may end a render with, and what it looks like when it is filled in."""
    found = {}
    for file in sorted(CHART.rglob("templates/*.*")):
        text = file.read_text()
        for said in re.findall(
            r'(?:fail|append \$errors|default) \((?:printf )"((?:\\.|[^"\\])*)"|\$errors "([^"]+)"', text
        ):
            sentence = (said[0] or said[1]).replace('\\"', '"').replace("\\n", "\n")
            if len(sentence) > 20:
                found[sentence] = re.compile(".*".join(map(re.escape, re.split(r"%[qsdv]", sentence))), re.DOTALL)
    return found


def test_every_refusal_of_a_template_has_a_case(render: Renderer) -> None:
    cases = [(values, files) for values, files, _ in SENTENCES.values()]
    cases += [(merged(SOURCE, at(path, value)), ()) for path, value in BY_SCHEMA.values()]
    cases += [(merged(SOURCE, at(path, value)), ()) for path, value, _ in BY_CHART.values()]
    cases += [(merged(SOURCE, at(old, "x")), ()) for old in RENAMED]
    told = ""
    for values, files in cases:
        try:
            render(values, files=files)
        except Refused as refused:
            told += f"{refused}\0"
    assert len(refusals()) > 40
    untold = [sentence for sentence, form in refusals().items() if not any(map(form.search, told.split("\0")))]
    assert not untold, "\n".join(untold)


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
