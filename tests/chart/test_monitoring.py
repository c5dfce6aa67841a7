"""Alerts and dashboard: every expression parses, asks for metrics that exist, and finds what this release installs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from chart.conftest import SOURCE
from chart.harness import code
from chart.harness.helm import REPOSITORY
from chart.harness.objects import find
from chart.harness.render import CHART, Release, Renderer, at, merged

KUBE_STATE_METRICS = {
    *("kube_cronjob_created", "kube_cronjob_spec_suspend", "kube_cronjob_status_last_successful_time"),
    *("kube_job_failed", "kube_job_status_active", "kube_job_status_completion_time", "kube_job_status_start_time"),
    *("kube_deployment_spec_replicas", "kube_deployment_status_replicas_available", "kube_pod_completion_time"),
    *("kube_pod_container_status_last_terminated_reason", "kube_pod_container_status_terminated_reason"),
    *("kube_pod_container_status_restarts_total", "kube_pod_container_resource_limits"),
}
"""Those of its docs/metrics that we ask for."""
OTHERS = {"externalsecret_status_condition", "container_memory_working_set_bytes"}
"""Of the External Secrets operator and of the kubelet."""

ALL_ON = merged(
    SOURCE,
    at("global.secrets.source", "external"),
    at("global.stages.runNow", True),
    at("compute-weekly-kpis.enabled", True),
    *(at((name, "enabled"), True) for name in ("prometheusRule", "dashboard")),
)


@pytest.fixture(params=["", "blue"], ids=["bare names", "prefixed names"])
def watched(request: pytest.FixtureRequest, render: Renderer) -> Release:
    return render(merged(ALL_ON, at("global.namePrefix", request.param)))


def alerts(release: Release) -> dict[str, list[str]]:
    """Return the expressions of each alert."""
    found: dict[str, list[str]] = {}
    for rules in find(next(release.of("PrometheusRule")), "rules"):
        for rule in rules:
            found.setdefault(rule["alert"], []).append(rule["expr"])
    return found


def panels(release: Release) -> dict[str, list[str]]:
    """Return the expressions of each panel of the dashboard, with Grafana's variables filled in."""
    (config,) = release.of("ConfigMap")
    dashboard = json.loads(config["data"]["seed-analytics.json"])
    return {
        panel["title"]: [
            target["expr"].replace("$__rate_interval", "5m").replace("$namespace", release.namespace)
            for target in panel.get("targets", ())
        ]
        for panel in dashboard["panels"]
    }


def selectors(expression: Any) -> Iterator[Any]:
    """Yield every selector of a series in a parsed expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for part in ("lhs", "rhs", "expr", "args", "param", "vector_selector"):
        inner = getattr(expression, part, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None:
                yield from selectors(one)


def asked(release: Release) -> Iterator[tuple[str, Any]]:
    """Yield (alert or panel, selector) for all of a release."""
    for where, expressions in (alerts(release) | panels(release)).items():
        for expression in expressions:
            yield from ((where, selector) for selector in selectors(promql_parser.parse(expression)))


def exposed() -> set[str]:
    """Return the names that the services expose (r-plumber-common/R), with those that a histogram has."""
    sources = "".join(file.read_text() for file in Path(REPOSITORY / "r-plumber-common" / "R").glob("*.R"))
    names = set(re.findall(r"\bseed_[a-z_]+", sources))
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}


def matched(selector: Any, label: str) -> list[str]:
    """Return the patterns that a selector asks of a label."""
    found = [(str(matcher.op), matcher.value) for matcher in selector.matchers.matchers if matcher.name == label]
    return [value if "Re" in op else re.escape(value) for op, value in found if "Not" not in op]


def test_every_expression_parses_and_asks_for_metrics_that_exist(watched: Release) -> None:
    names = {selector.name for _, selector in asked(watched)}
    assert names - exposed() - OTHERS == KUBE_STATE_METRICS
    assert [name for name in names if name.startswith("seed_")]


def test_every_selector_stays_in_the_namespace_of_the_release(watched: Release) -> None:
    for where, selector in asked(watched):
        spaces = [*matched(selector, "namespace"), *matched(selector, "exported_namespace")]
        assert spaces == [watched.namespace], f"{where}: {selector.prettify()}"


def of_kind(release: Release, kind: str) -> set[str]:
    return {obj.name for obj in release.of(kind)}


def installed(release: Release) -> dict[str, set[str]]:
    """Return the values that each label has where all that is installed runs."""
    cronjobs, deployments = of_kind(release, "CronJob"), of_kind(release, "Deployment")
    return {
        "cronjob": cronjobs,
        "job_name": {f"{name}-29384756" for name in cronjobs} | {f"{name}-now" for name in cronjobs},
        "deployment": deployments,
        "service": deployments,
        "name": of_kind(release, "ExternalSecret"),
        "container": {*code.STAGES, *code.SERVICES},
        "pod": {f"{owner}-29384756-abcde" for owner in cronjobs}
        | {f"{owner}-abcde" for owner in deployments | of_kind(release, "Job")},
    }


@pytest.mark.parametrize("label", ["cronjob", "job_name", "deployment", "service", "name", "container", "pod"])
def test_what_is_asked_of_a_label_finds_all_that_is_installed(label: str, watched: Release) -> None:
    there = installed(watched)[label]
    for where, found in by_series(watched, label).items():
        missed = {name for name in there if not any(re.fullmatch(pattern, name) for pattern in found)}
        assert not missed, f"{where} does not see {', '.join(sorted(missed))}"


def by_series(release: Release, label: str) -> dict[tuple[str, str], list[str]]:
    """Return what is asked of a label: (alert or panel, metric) -> patterns, since an alert may have one for each stage."""
    found: dict[tuple[str, str], list[str]] = {}
    for where, selector in asked(release):
        if matched(selector, label):
            found.setdefault((where, selector.name), []).extend(matched(selector, label))
    assert found, f"nothing is asked of {label}"
    return found


def test_an_alert_of_one_release_is_silent_about_another(render: Renderer) -> None:
    blue, bare = (installed(render(merged(ALL_ON, at("global.namePrefix", prefix)))) for prefix in ("blue", ""))
    for prefix, others in (("", blue), ("blue", bare), ("green", blue)):
        release = render(merged(ALL_ON, at("global.namePrefix", prefix)))
        for alert, expressions in alerts(release).items():
            for selector in (one for text in expressions for one in selectors(promql_parser.parse(text))):
                for label in others.keys() - {"container"}:
                    for pattern in matched(selector, label):
                        heard = [name for name in others[label] if re.fullmatch(pattern, name)]
                        assert not heard, f"{alert} of the prefix {prefix!r} hears of {heard}"


def test_an_alert_about_a_secret_finds_its_series_however_the_operator_is_scraped(watched: Release) -> None:
    """Where Prometheus is told to honour the operator's labels the namespace is ours, else it is exported_namespace."""
    (expression,) = alerts(watched)["SeedSecretNotSynced"]
    asked_by = [
        {matcher.name for matcher in selector.matchers.matchers}
        for selector in selectors(promql_parser.parse(expression))
    ]
    assert [labels & {"namespace", "exported_namespace"} for labels in asked_by] == [
        {"namespace"},
        {"exported_namespace"},
    ]


def test_an_alert_about_memory_ends(watched: Release) -> None:
    """The reason of a container's last end is told until it ends again, so it counts beside a restart or end of the last hour."""
    (expression,) = alerts(watched)["SeedPodOutOfMemory"]
    kinds = {selector.name for selector in selectors(promql_parser.parse(expression))}
    assert {"kube_pod_container_status_restarts_total", "kube_pod_completion_time"} <= kinds


def test_a_stage_that_is_suspended_is_not_called_stale(watched: Release) -> None:
    for expression in alerts(watched)["SeedStageStale"]:
        parsed = promql_parser.parse(expression)
        assert str(parsed.op) == "unless"
        assert [selector.name for selector in selectors(parsed.rhs)] == ["kube_cronjob_spec_suspend"]


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    assert {"title", "uid", "panels", "schemaVersion"} <= dashboard.keys()
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard))) <= variables
