"""The chart's contract with the code that it deploys, and with the guide. What the code says is read from the code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.conftest import SOURCE
from chart.harness import code, cron, guide
from chart.harness.helm import REPOSITORY
from chart.harness.objects import Obj, Pod, find, thaw
from chart.harness.render import CHART, Release, Renderer, at, merged
from seed_analytics.errors import ExitCode
from seed_analytics.settings import load

DOCS = REPOSITORY / "docs"


def variables(pod: Pod) -> dict[str, Any]:
    """Return the environment of a pod's main container: a value, or the reference it comes from."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in pod.spec["containers"][0].get("env", ())}


# --- The jobs image ---------------------------------------------------------------------------------------------------


def test_every_pod_is_a_service_a_command_or_the_database(pod: Pod) -> None:
    assert code.service_of(pod) or code.command_of(pod) or code.is_database(pod)


def test_a_command_is_given_flags_that_it_has(job_pod: Pod) -> None:
    main = job_pod.spec["containers"][0]
    code.COMMANDS[main["args"][0]].make_context(main["args"][0], list(main["args"][1:]))
    assert "command" not in main, "the image's entry point is the command seed-analytics"


def test_every_variable_of_a_job_is_a_setting_that_its_command_takes(
    job_pod: Pod, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = code.command_of(job_pod)
    given, known = variables(job_pod), code.settings_of(command)
    extra = {item["name"] for extra in find(release.values, "extraEnv") for item in extra}
    assert given.keys() - extra <= known.keys(), f"{job_pod.id} sets what {command} does not read"
    needed = {name for name, setting in known.items() if setting.required}
    assert needed <= given.keys(), f"{job_pod.id} lacks what {command} needs"
    example = {"DATABASE_URL": "postgresql://user:password@host/database"}
    for name, value in given.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else example.get(name, "a-token"))
    load(code.COMMAND_SETTINGS[command])  # raises where a value is out of range


def test_a_job_is_given_the_address_and_token_of_the_services_that_it_calls_and_of_no_others(job_pod: Pod) -> None:
    command, service = code.command_of(job_pod), re.compile(r"R_.+_(BASE_URL|INTERNAL_TOKEN)")
    if command in code.STAGES:
        assert set(filter(service.fullmatch, variables(job_pod))) == set(
            filter(service.fullmatch, code.settings_of(command))
        )


@pytest.mark.parametrize("off", [None, *code.SERVICES])
def test_verify_asks_the_services_that_are_installed(off: str | None, render: Renderer) -> None:
    without = [at((name, "enabled"), False) for name in code.STAGES if off in code.services_of(name)]
    release = render(merged(SOURCE, *without, *([at((off, "enabled"), False)] if off else [])))
    asked = variables(release.pod("Job/verify"))["VERIFY_SERVICES"].split(",")
    assert set(asked) == {*code.SERVICES} - {off}


def test_verify_and_the_alert_call_numbers_stale_after_the_same_hours(render: Renderer) -> None:
    values = merged(SOURCE, at("prometheusRule.enabled", True), at("fit-survival-churn.staleAfterHours", 30))
    release = render(values)
    told = dict(limit.split("=") for limit in variables(release.pod("Job/verify"))["VERIFY_MAX_AGE_HOURS"].split(","))
    rules = [rule for rules in find(release["PrometheusRule/seed-analytics"], "rules") for rule in rules]
    stale = [rule["expr"] for rule in rules if rule["alert"] == "SeedStageStale"]
    alerted = dict(re.search(r'cronjob="([^"]+)".* > (\d+) \* 3600', expr).groups() for expr in stale)
    assert told == alerted == {stage: str(hours_until_stale(stage, values)) for stage in guide.SCHEDULES}
    assert told["fit-survival-churn"] == "30"


def hours_until_stale(stage: str, values: Mapping[str, Any]) -> int:
    return code.value_of(f"{stage}.staleAfterHours", values)


@pytest.mark.parametrize("where", ["global.stages", "fit-survival-churn"])
def test_verify_does_not_wait_for_a_stage_that_is_suspended(where: str, render: Renderer) -> None:
    given = variables(render(merged(SOURCE, at(f"{where}.suspend", True))).pod("Job/verify"))
    if where == "global.stages":
        assert given["VERIFY_STAGES"] == "none"
        assert "VERIFY_MAX_AGE_HOURS" not in given
    else:
        assert "fit-survival-churn" not in given["VERIFY_STAGES"] + given["VERIFY_MAX_AGE_HOURS"]
        assert set(given["VERIFY_STAGES"].split(",")) == guide.SCHEDULES.keys() - {where}


@pytest.mark.parametrize("stage", code.STAGES)
def test_the_settings_of_a_stage_in_the_chart_are_those_of_the_code_with_the_same_defaults(stage: str) -> None:
    own = code.chart_values()[stage]["settings"]
    known = code.settings_of(stage)
    assert own.keys() <= known.keys()
    everywhere = code.value_of("global.stages.settings", {})
    # A token comes from a Secret, an address from serviceUrl; AS_OF would make every night the same.
    by_other_keys = {name for name in known if name.endswith("_BASE_URL") or known[name].secret} | {"AS_OF"}
    assert known.keys() - own.keys() - everywhere.keys() <= by_other_keys, "settings that the chart cannot set by name"
    for name, value in own.items():
        said = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        assert same(said, known[name].default), f"{name}: the chart says {said!r}, the code {known[name].default!r}"


def same(a: str, b: str) -> bool:
    """Compare defaults; 5 is 5.0."""
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


def test_every_stage_of_the_code_is_a_subchart_and_the_reverse() -> None:
    stages = {file.parent.parent.name for file in CHART.glob("charts/*/templates/stage.yaml")}
    assert stages == set(code.STAGES)


def test_retries_end_at_the_exit_codes_that_retrying_cannot_help(job_pod: Pod) -> None:
    (rules,) = [policy["rules"] for policy in find(job_pod.owner, "podFailurePolicy")]
    failing = [rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob"]
    assert [rule["operator"] for rule in failing] == ["In"]
    assert {*failing[0]["values"]} == {*ExitCode} - {ExitCode.OK} - code.RETRIED - code.STOPPED
    assert failing[0]["containerName"] == job_pod.spec["containers"][0]["name"]


def test_a_run_that_was_stopped_from_outside_is_no_try(job_pod: Pod) -> None:
    (rules,) = [policy["rules"] for policy in find(job_pod.owner, "podFailurePolicy")]
    ignored = [rule for rule in rules if rule["action"] == "Ignore"]
    assert [condition["type"] for rule in ignored for condition in rule.get("onPodConditions", ())] == [
        "DisruptionTarget"
    ]
    codes = [rule["onExitCodes"] for rule in ignored if "onExitCodes" in rule]
    assert [(set(rule["values"]), rule["containerName"]) for rule in codes] == [
        (code.STOPPED, job_pod.spec["containers"][0]["name"])
    ]


def test_a_job_has_time_for_the_calls_that_it_may_wait_for(job_pod: Pod) -> None:
    waits = [float(value) for name, value in variables(job_pod).items() if name.endswith("_TIMEOUT_SECS")]
    (limit,) = set(find(job_pod.owner, "activeDeadlineSeconds"))
    assert limit > max(waits, default=0)


def test_the_first_run_of_compute_weekly_kpis_reaches_back_as_far_as_the_simulator(release: Release) -> None:
    """Or the stages after it would find two weeks of KPIs and be skipped for months."""
    jobs = {code.command_of(pod): pod for pod in release.pods}
    if not {"simulate", "compute-weekly-kpis"} <= jobs.keys():
        pytest.skip("without the simulator, or without the stage")
    (weeks,) = (arg for arg in jobs["simulate"].spec["containers"][0]["args"] if arg.startswith("--weeks="))
    assert int(variables(jobs["compute-weekly-kpis"])["KPI_LOOKBACK_WEEKS"]) >= int(weeks.removeprefix("--weeks="))


@pytest.mark.parametrize("file", sorted(file.name for file in CHART.glob("ci/*-values.yaml")))
def test_what_ct_installs_and_verifies_has_run_every_stage(file: str, render: Renderer) -> None:
    release = render(files=(f"ci/{file}",))
    if not any(name.endswith("verify") for name in release.ids):
        pytest.skip("without a test to run")
    assert {f"Job/{cronjob.name}-now" for cronjob in release.of("CronJob")} <= release.ids


# --- The R services ---------------------------------------------------------------------------------------------------


def test_every_variable_of_a_service_is_one_that_it_reads(service_pod: Pod, release: Release) -> None:
    extra = {item["name"] for extra in find(release.values, "extraEnv") for item in extra}
    assert variables(service_pod).keys() - extra <= code.service_variables()


def test_a_service_is_a_folder_of_the_repository(service_pod: Pod) -> None:
    assert (REPOSITORY / code.service_of(service_pod) / "api.R").exists()


def test_a_service_has_time_to_finish_a_fit_before_it_is_killed(service_pod: Pod) -> None:
    grace = int(variables(service_pod)["SHUTDOWN_GRACE_SECS"])
    assert service_pod.spec["terminationGracePeriodSeconds"] > grace


def test_a_service_listens_where_it_is_probed(service_pod: Pod) -> None:
    (port,) = service_pod.spec["containers"][0]["ports"]
    assert variables(service_pod)["PORT"] == str(port["containerPort"])
    assert variables(service_pod)["HOST"] == "0.0.0.0"  # noqa: S104 - within its pod


def exposed_metrics() -> set[str]:
    """Return the names that the services expose (r-plumber-common/R)."""
    sources = "".join(file.read_text() for file in (REPOSITORY / "r-plumber-common" / "R").glob("*.R"))
    return set(re.findall(r"\bseed_[a-z_]+", sources))


def test_alerts_and_dashboards_ask_for_metrics_that_the_services_expose(obj: Obj) -> None:
    if obj.kind in {"PrometheusRule", "ConfigMap"}:
        asked = set(re.findall(r"\bseed_[a-z_]+", json.dumps(thaw(obj))))
        known = exposed_metrics()
        histogram = {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
        assert asked <= known | histogram


def test_every_alert_has_a_runbook_that_is_there(render: Renderer) -> None:
    rule = render(merged(SOURCE, at("global.secrets.source", "external"), at("prometheusRule.enabled", True)))[
        "PrometheusRule/seed-analytics"
    ]
    alerts = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert alerts
    for alert in alerts:
        page = alert["annotations"]["runbook_url"].rpartition("/")[2]
        assert list(DOCS.rglob(page)), f"{alert['alert']} points to {page}, which is not in docs/"


# --- The guide --------------------------------------------------------------------------------------------------------


@pytest.fixture
def defaults(render: Renderer) -> Release:
    return render(SOURCE)


def test_the_cronjobs_are_the_guides_with_its_schedules(defaults: Release) -> None:
    assert {job.name: job["spec"]["schedule"] for job in defaults.of("CronJob")} == guide.SCHEDULES
    assert {job["spec"]["timeZone"] for job in defaults.of("CronJob")} == {"Etc/UTC"}


def test_the_services_are_the_guides_on_its_ports(defaults: Release) -> None:
    ports = {
        service.name: (service["spec"]["ports"][0]["port"], container["containerPort"])
        for service in defaults.of("Service")
        for container in defaults.pod(f"Deployment/{service.name}").spec["containers"][0]["ports"]
    }
    assert ports == dict.fromkeys(guide.SERVICES, (guide.PORT, guide.CONTAINER_PORT))


@pytest.mark.parametrize("name", guide.SECRETS)
def test_each_cronjob_reads_the_guides_secret(name: str, defaults: Release) -> None:
    read = {(ref["name"], ref["key"]) for ref in find(defaults[f"CronJob/{name}"], "secretKeyRef")}
    key = guide.TOKEN_KEY if code.services_of(name) else "DATABASE_URL"
    assert (guide.SECRETS[name], key) in read


def test_the_one_off_jobs_carry_the_guides_names(render: Renderer) -> None:
    switched = merged(SOURCE, *(at((name, "runNow"), True) for name in guide.ONE_OFF))
    assert {f"Job/{name}-now" for name in guide.ONE_OFF} <= render(switched).ids


def test_the_external_secrets_are_the_guides(render: Renderer) -> None:
    values = merged(SOURCE, at("global.secrets.source", "external"))
    alone = list(render(values).of("ExternalSecret"))
    assert {secret.name for secret in alone} == {*guide.SECRETS.values()}
    (combined,) = render(merged(values, at("global.secrets.combined.enabled", True))).of("ExternalSecret")
    assert combined.name == guide.COMBINED_EXTERNAL_SECRET
    for secret in (*alone, combined):
        assert secret["spec"]["secretStoreRef"]["name"] == guide.SECRET_STORE
        assert secret["spec"]["refreshInterval"] == guide.REFRESH_INTERVAL


@pytest.mark.parametrize("stage", code.STAGES)
def test_numbers_are_called_stale_only_after_a_run_was_missed(stage: str) -> None:
    values = code.chart_values()[stage]
    gap = cron.longest_gap(values["schedule"])
    # A run may start late and take long.
    stage_values = code.value_of("global.stages", {}) | values
    late = timedelta(seconds=stage_values["startingDeadlineSeconds"] + stage_values["activeDeadlineSeconds"])
    assert timedelta(hours=values["staleAfterHours"]) >= gap + late, "the alert's limit is too short"
    assert code.STAGES[stage].max_age_hours == values["staleAfterHours"], "the program's own limit is another"


def test_the_longest_gap_of_a_schedule_is_found() -> None:
    assert cron.longest_gap("0 3 * * *") == timedelta(days=1)
    assert cron.longest_gap("0 7 1,15 * *") == timedelta(days=17)
    assert cron.longest_gap("0 5 * * 0") == timedelta(days=7)
    assert cron.longest_gap("*/20 8-10 * * *") == timedelta(hours=21, minutes=20)
    assert cron.longest_gap("0 0 1 * 1") == timedelta(days=7)


def test_the_same_version_stands_everywhere() -> None:
    charts = [yaml.safe_load(file.read_text()) for file in CHART.rglob("Chart.yaml")]
    wheel = re.search(r'^version = "(.+)"$', Path(REPOSITORY / "jobs/pyproject.toml").read_text(), flags=re.MULTILINE)
    assert wheel
    assert {chart["version"] for chart in charts} == {wheel[1]}
    assert {chart["appVersion"] for chart in charts if chart["type"] == "application"} == {wheel[1]}
