"""values.yaml, values.schema.json and their reference: one source, strict, described, and every key used."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from chart.harness import code, schemas, sentinels, values
from chart.harness.helm import REPOSITORY
from chart.harness.objects import find, freeze
from chart.harness.render import CHART, NEWEST, Release, Renderer, at, merged

SCHEMAS = sorted(CHART.rglob("values.schema.json"))


def test_schemas_and_reference_are_as_the_values_files_say() -> None:
    checked = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "chart_values.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
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
    assert loose(yaml.safe_load(file.read_text())) == []


INJECTED = {"description": "Copied here by Helm; set it at the top.", "type": "object"}
"""`global` stays open in subcharts: the umbrella's schema is the strict one."""


def loose(schema: Any, path: str = "") -> list[str]:
    """Return where a schema takes what it does not name: a mapping of any keys, a list of anything, a value of any type."""
    # Renamed keys are taken whatever they hold, so that the chart can say their new names.
    if not isinstance(schema, Mapping) or schema == INJECTED or schema.get("deprecated"):
        return []
    known = {"type", "enum", "$ref"} & schema.keys()
    found = [] if known else [f"{path or '/'} is of no type"]
    if "object" in schema.get("type", ()) and schema.get("additionalProperties") is not False:
        found.append(f"{path or '/'} takes any key")
    if "array" in schema.get("type", ()) and "items" not in schema:
        found.append(f"{path} takes any item")
    below = {f"{path}/{name}": schema[name] for name in ("items",) if name in schema}
    for word in ("properties", "patternProperties", "definitions"):
        below |= {f"{path}/{name}": child for name, child in schema.get(word, {}).items()}
    return found + [fault for where, child in below.items() for fault in loose(child, where)]


CLOSED = {"type": "object", "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "object", "properties": {}}, "/ takes any key"),
        ({"type": "object", "additionalProperties": True}, "/ takes any key"),
        (CLOSED | {"properties": {"a": {}}}, "/a is of no type"),
        (CLOSED | {"properties": {"a": {"type": "array"}}}, "/a takes any item"),
        (CLOSED | {"properties": {"a": {"type": "array", "items": {"type": "object"}}}}, "/a/items takes any key"),
        (CLOSED | {"definitions": {"a": {"type": "object"}}}, "/a takes any key"),
        (CLOSED | {"patternProperties": {"^a$": {"type": "object"}}}, "/^a$ takes any key"),
    ],
)
def test_a_schema_that_is_loose_anywhere_is_noticed(schema: dict[str, Any], where: str) -> None:
    assert loose(schema) == [where]


def test_a_page_that_a_comment_of_the_values_names_is_there() -> None:
    for file in CHART.rglob("values*.yaml"):
        comments = "\n".join(line for line in file.read_text().splitlines() if line.lstrip().startswith("#"))
        for page in re.findall(r"(?<!/)\b(?:docs/)?[A-Za-z][\w/-]*\.md\b", comments):
            assert (REPOSITORY / page).exists(), f"{file.relative_to(CHART)} names {page}"
        for target in re.findall(r"`make ([a-z-]+)", comments):
            assert f"\n{target}:" in (REPOSITORY / "Makefile").read_text(), f"{file.relative_to(CHART)}: make {target}"


def test_every_key_has_a_description() -> None:
    assert not [".".join(path) for path, schema in values.keys().items() if not schema.get("description")]


def test_every_key_of_the_umbrella_has_a_default() -> None:
    def missing(path: values.Path) -> bool:
        found: Any = code.chart_values()
        for key in path:
            if not isinstance(found, Mapping) or key not in found:
                return True
            found = found[key]
        return False

    own = [path for path in list(values.keys()) if not is_subcharts(path)]
    assert not [".".join(path) for path in own if missing(path)]


# --- Every key is used ------------------------------------------------------------------------------------------------

IDENTITY = {
    "projectID": "project-1",
    "clusterName": "cluster",
    "clusterLocation": "europe-west1",
    "googleServiceAccount": "reader@project-1.iam.gserviceaccount.com",
}
WATCHED = {
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "compute-weekly-kpis": {"enabled": True},
}
SERVICES_ON = {name: {"enabled": True} for name in ("podDisruptionBudget", "topologySpread", "serviceMonitor")}
EXTERNAL = merged(
    WATCHED,
    at("global.services", SERVICES_ON),
    at("global.secrets.source", "external"),
    at("secretStore", {"create": True, "gcp": IDENTITY}),
)
PROXY = at("global.cloudSqlProxy", {"enabled": True, "instance": "project:europe-west1:instance"})
INLINE = {
    "global": {
        "environment": "dev",
        "services": SERVICES_ON,
        "secrets": {"source": "inline"} | {name: {"value": "x"} for name in code.CREDENTIALS},
    }
}
DEV = {
    "global": {"secrets": {"database": {"value": "", "password": "x"}}},
    "devDatabase": {"enabled": True},
}

SCENES: dict[str, Mapping[str, Any]] = {
    "external secrets, proxy, autoscaling": merged(EXTERNAL, PROXY, at("global.services.autoscaling.enabled", True)),
    "one external secret": merged(EXTERNAL, at("global.secrets.combined.enabled", True)),
    "inline": merged(WATCHED, INLINE),
    "throw-away database": merged(WATCHED, INLINE, DEV),
}
"""Between them these switch on all that the chart can render. A key is used where one of them shows it."""


def fits(path: values.Path, scene: Mapping[str, Any]) -> bool:
    """Say whether a key may be given a value in a scene: not where the chart refuses it beside the others."""
    source = code.value_of("global.secrets.source", scene)
    throw_away = code.value_of("devDatabase.enabled", scene)
    if path[:2] == ("global", "secrets") and path[-1] in {"value", "password"}:
        return source == "inline" and (path[2] != "database" or (path[-1] == "password") == throw_away)
    return True


def is_subcharts(path: values.Path) -> bool:
    return path[0] in {*code.STAGES, *code.SERVICES}


def shown_by_sentinel(render: Renderer) -> set[values.Path]:
    """Return the keys whose own value is seen in a render. A subchart's keys hide the global ones, so they go apart."""
    # Downwards in the order of their names, so that maxReplicas is above minReplicas.
    marks = {path: sentinels.sentinel(path, 5000 - n) for n, path in enumerate(sorted(values.keys()))}
    shown = set()
    for scene in SCENES.values():
        for of_subcharts in (False, True):
            given = {
                path: mark
                for path, mark in marks.items()
                if mark and is_subcharts(path) is of_subcharts and fits(path, scene)
            }
            release = render(merged(scene, *(at(path, value) for path, (value, _) in given.items())))
            shown |= {path for path, (_, text) in given.items() if text in release.text or text in decoded(release)}
    return shown


def decoded(release: Release) -> str:
    """Return what is in the release's Secrets."""
    secrets = [base64.b64decode(value).decode() for one in release.of("Secret") for value in one["data"].values()]
    return "\n".join(secrets)


def shown_by_change(paths: set[values.Path], render: Renderer) -> set[values.Path]:
    """Return the keys whose change changes the render: of a subchart, its own objects."""
    shown: set[values.Path] = set()
    for scene in SCENES.values():
        before = render(scene)
        rounds: dict[int, list[values.Path]] = {}
        position: Counter[str] = Counter()
        for path in sorted(paths - shown):
            # One key of each subchart at a time, since their objects can be told apart; all others one by one.
            whose = path[0] if is_subcharts(path) else ""
            rounds.setdefault(position[whose] if whose else -len(rounds) - 1, []).append(path)
            position[whose] += 1
        changes = [
            [(path, sentinels.alternative(path, default(path, scene))) for path in some] for some in rounds.values()
        ]
        for changed, after in zip(
            changes, render.all(merged(scene, *(at(*one) for one in some)) for some in changes), strict=True
        ):
            if isinstance(after, Release):
                shown |= {path for path, _ in changed if of(before, path) != of(after, path)}
    return shown


def default(path: values.Path, scene: Mapping[str, Any]) -> Any:
    """Return the value that a key has in a scene; a subchart's own or else that of all."""
    found: Any = merged(code.chart_values(), scene)
    if is_subcharts(path):
        common = found["global"]["stages" if path[0] in code.STAGES else "services"]
        found[path[0]] = merged(common, found[path[0]])
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def of(release: Release, path: values.Path) -> Any:
    """Return the objects on which a key of a subchart is seen: its own."""
    if not is_subcharts(path):
        return release.text
    return [one for one in release.objects if one.labels["app.kubernetes.io/name"] == path[0]]


NOT_SHOWN: dict[values.Path, str] = {
    ("cluster-segments", "settings", "CLUSTER_METHOD"): "there is one method so far",
    ("global", "environment"): "it decides what is refused: test_bad_input.py",
    ("global", "secrets", "source"): "test_toggles.py",
    ("devDatabase", "enabled"): "test_toggles.py",
    **{(name, "enabled"): "test_toggles.py" for name in (*code.STAGES, *code.SERVICES)},
}
"""Key -> why no other value of it can be seen in a render."""


def test_every_key_is_used_by_a_template(render: Renderer) -> None:
    known = {path for path, schema in values.keys().items() if schema} - NOT_SHOWN.keys()
    unseen = known - shown_by_sentinel(render)
    without = {path for path in unseen if sentinels.sentinel(path, 5000) is None}
    left = unseen - shown_by_change(without, render)
    unused = sorted(".".join(path) for path in left)
    assert not unused, f"no render shows a change of: {', '.join(unused)}"


def faults(release: Release, crds: Path) -> list[str]:
    """Return what Kubernetes and the operators would not take of a release."""
    return [
        f"{one.id}: {fault}"
        for one in release.objects
        for fault in (schemas.custom_faults(one, crds) if schemas.is_custom(one) else schemas.faults(one, NEWEST))
    ]


@pytest.mark.parametrize("text", values.NOT_TEXT_TO_YAML)
@pytest.mark.parametrize("scene", SCENES)
def test_a_text_that_yaml_would_read_as_something_else_stays_a_text(
    scene: str, text: str, render: Renderer, crds: Path
) -> None:
    """Set every key to the text at once, where its schema takes it. Names of objects must differ, so they stay."""
    taken = {path for path, schema in values.keys().items() if schema and values.is_valid(text, schema)}
    given = [
        at(path, text) for path in taken if path[-1] not in {"name", "externalSecretName"} and fits(path, SCENES[scene])
    ]
    found = faults(render(merged(SCENES[scene], *given)), crds)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["007", "1e5", "true"])
@pytest.mark.parametrize("scene", ["external secrets, proxy, autoscaling", "throw-away database"])
def test_a_release_and_a_namespace_may_be_called_what_yaml_would_not_read_as_a_text(
    scene: str, name: str, render: Renderer, crds: Path
) -> None:
    found = faults(render(SCENES[scene], release=name, namespace=name), crds)
    assert not found, "\n".join(found)
