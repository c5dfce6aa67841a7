"""What the chart must agree with, read from the code that it deploys: commands, settings, exit codes, routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml
from chart.harness.helm import REPOSITORY
from chart.harness.objects import Pod
from chart.harness.render import CHART, merged
from seed_analytics.cli import COMMAND_SETTINGS, cli
from seed_analytics.errors import ExitCode
from seed_analytics.settings import STAGES, BrmsService, ForecastService, IrtService, SettingInfo, describe

SERVICE_OF = {IrtService: "r-irt-plumber", ForecastService: "r-forecast-plumber", BrmsService: "r-brms-plumber"}
SERVICES = tuple(SERVICE_OF.values())
COMMANDS = cli.commands
CREDENTIALS = ("database", "irt", "forecast", "brms")

RETRIED = {ExitCode.UNAVAILABLE, ExitCode.TRY_LATER}
"""The exit codes after which another try may help (seed_analytics.errors)."""

STOPPED = {ExitCode.STOPPED}
"""The exit codes of a run that was not let to its end, which is no try at all."""


def services_of(command: str) -> set[str]:
    """Return the R services that a command calls."""
    return {service for kind, service in SERVICE_OF.items() if issubclass(COMMAND_SETTINGS[command], kind)}


def settings_of(command: str) -> dict[str, SettingInfo]:
    """Return the settings of a command, by the names of their variables."""
    return {item.name: item for item in describe(COMMAND_SETTINGS[command])}


@cache
def _secret_names() -> frozenset[str]:
    known = {item.name for command in COMMAND_SETTINGS for item in settings_of(command).values() if item.secret}
    return frozenset(known | {"INTERNAL_TOKEN", "POSTGRES_PASSWORD", "PGPASSWORD"})


def is_secret(variable: str) -> bool:
    """Say whether a variable holds a password or token."""
    return variable in _secret_names()


@cache
def routes() -> frozenset[str]:
    """Return the paths that every R service answers to GET (r-plumber-common/R/server.R)."""
    source = (REPOSITORY / "r-plumber-common" / "R" / "server.R").read_text()
    (listed,) = re.findall(r"^get_routes <- c\(([^)]*)\)", source, flags=re.MULTILINE)
    return frozenset(re.findall(r'"([^"]+)"', listed))


@cache
def service_variables() -> frozenset[str]:
    """Return the variables that an R service reads (r-plumber-common/R/settings.R and the launcher)."""
    source = (REPOSITORY / "r-plumber-common" / "R" / "settings.R").read_text()
    names = re.findall(r'(?:\(env, |env\[\[)"([A-Z_]+)"', source)
    assert names, "r-plumber-common/R/settings.R no longer reads env[[...]]: this reading of it must change too"
    return frozenset(names)


@cache
def chart_values() -> Mapping[str, Any]:
    """Return the chart's default values, with those of its subcharts."""
    own = yaml.safe_load((CHART / "values.yaml").read_text())
    subcharts = {
        file.parent.name: yaml.safe_load(file.read_text()) or {} for file in sorted(CHART.glob("charts/*/values.yaml"))
    }
    return merged(subcharts, own)


def value_of(path: str, values: Mapping[str, Any]) -> Any:
    """Return the value at a dotted path, of these values laid over the chart's own."""
    found: Any = merged(chart_values(), values)
    for key in path.split("."):
        found = found[key]
    return found


def command_of(pod: Pod) -> str:
    """Return the command of the jobs image that a pod runs; "" for other pods."""
    main = pod.spec["containers"][0]
    args = main.get("args") or ()
    return args[0] if args and args[0] in COMMANDS else ""


def service_of(pod: Pod) -> str:
    """Return the R service that a pod is; "" for other pods."""
    name = pod.spec["containers"][0]["name"]
    return name if name in SERVICES else ""


def is_database(pod: Pod) -> bool:
    """Say whether a pod is the throw-away database."""
    return pod.labels.get("app.kubernetes.io/component") == "database" and pod.owner.kind == "Deployment"


def calls_elsewhere(command: str, values: Mapping[str, Any]) -> bool:
    """Say whether a stage was told to call a service that is not of the release."""
    return command in STAGES and bool(value_of(command, values).get("serviceUrl"))
