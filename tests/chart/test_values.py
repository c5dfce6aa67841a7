"""values.yaml, values.schema.json and their reference: one source, strict, described, and every key used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
import yaml
from chart.conftest import SOURCE
from chart.harness import code, sentinels, values
from chart.harness.helm import REPOSITORY
from chart.harness.objects import find, freeze
from chart.harness.render import CHART, Refused, Release, Renderer, at, merged

SCHEMAS = sorted(CHART.rglob("values.schema.json"))


def test_schemas_and_reference_are_as_the_values_files_say() -> None:
    checked = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "chart_values.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_chart_with_values_has_a_schema() -> None:
    assert {file.parent for file in SCHEMAS} == {file.parent for file in CHART.rglob("values.yaml")}


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.parent.name)
def test_a_schema_is_strict_at_every_level_and_fetches_nothing(file: Any) -> None:
    schema = freeze(yaml.safe_load(file.read_text()))
    jsonschema.Draft7Validator.check_schema(yaml.safe_load(file.read_text()))
    assert schema["additionalProperties"] is False
    for reference in find(schema, "$ref"):
        assert reference.startswith("#/")
    for block in objects(schema):
        # `global` stays open in subcharts: the umbrella's schema is the strict one.
        assert "additionalProperties" in block or block.get("description", "").startswith("Helm")


def objects(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return every schema that lists properties."""
    found = [child for properties in find(schema, "properties") for child in properties.values()]
    return [child for child in found if isinstance(child, Mapping) and "properties" in child]


def test_every_key_has_a_description() -> None:
    described = {**values.keys(), **{path: schema for path, schema in values.blocks().items() if path}}
    assert not [".".join(path) for path, schema in described.items() if not schema.get("description")]


def test_every_key_of_the_umbrella_has_a_default() -> None:
    def missing(path: values.Path) -> bool:
        found: Any = code.chart_values()
        for key in path:
            if not isinstance(found, Mapping) or key not in found:
                return True
            found = found[key]
        return False

    own = [path for path in values.keys() if path[0] not in {*code.STAGES, *code.SERVICES}]
    assert not [".".join(path) for path in own if missing(path)]


# --- Every key is used ------------------------------------------------------------------------------------------------

STORE = {
    "global": {"secrets": {"source": "external"}, "cloudSqlProxy": {"enabled": True, "instance": "p:europe-west1:i"}},
    "secretStore": {"create": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "compute-weekly-kpis": {"enabled": True},
}
ON = {
    "runNow": True,
    **{name: {"enabled": True} for name in ("podDisruptionBudget", "topologySpread", "serviceMonitor")},
}
SCENES: dict[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    # A key counts as used where any of these renders shows it. Blocks of a stage or service hide the global ones, and
    # fixed replicas exclude autoscaling; so there are several.
    "development": (("values-dev.yaml",), {"global": {"stages": ON | {}, "services": {}}}),
    "production": ((), merged(STORE, at("global.services.autoscaling.enabled", True))),
    "combined": ((), merged(STORE, at("global.secrets.combined.enabled", True))),
    "addresses": ((), merged(SOURCE, at("compute-weekly-kpis.enabled", True))),
    "inline": (
        ("values-dev.yaml",),
        {"devDatabase": {"enabled": False}, "global": {"secrets": {"database": {"value": "postgresql://h/d"}}}},
    ),
}
