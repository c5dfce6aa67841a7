"""Write the charts' values.schema.json and docs/values.md from the comments of their values.yaml.

    python tools/chart_values.py            write
    python tools/chart_values.py --check    exit 1, naming the files, where they are not as they would be written

The comment above a key is its description. A line ``@schema {...}`` in it narrows the type that the default value
shows: JSON Schema keywords, and ``$ref`` to a type of chart_definitions.yaml. Mappings are strict: a key that is not
written down is refused. A subchart may also set what the umbrella sets for all of its kind (global.stages,
global.services), so those keys are taken over from there.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
UMBRELLA = ROOT / "charts" / "seed-analytics"
REFERENCE = ROOT / "docs" / "values.md"

Schema = dict[str, Any]

INT32_MAX = 2**31 - 1

COMMON = {"stage": "stages", "service": "services"}
"""Kind of a subchart, as its Chart.yaml says -> the block of ``global`` whose keys it may set for itself."""

INJECTED: dict[str, Schema] = {"global": {"description": "Copied here by Helm; set it at the top.", "type": "object"}}
"""What Helm copies into the values of every subchart before it validates the umbrella's."""

DEFINITIONS: dict[str, Schema] = yaml.safe_load((ROOT / "tools" / "chart_definitions.yaml").read_text())
"""The named types; references between them are bare names."""


class Comments:
    """The comment above each key of a YAML file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text().splitlines()

    def above(self, node: yaml.Node) -> tuple[str, Schema]:
        """Return description and ``@schema`` keywords of the key at `node`."""
        line, column = node.start_mark.line, node.start_mark.column
        described: list[str] = []
        schema: Schema = {}
        while line > 0 and re.match(rf" {{{column}}}#", self.lines[line - 1]):
            line -= 1
            text = self.lines[line].strip().removeprefix("#").strip()
            if text.startswith("@schema"):
                schema = yaml.safe_load(text.removeprefix("@schema")) | schema
            else:
                described.insert(0, text)
        if not described:
            raise SystemExit(f"{self.path}:{node.start_mark.line + 1}: {node.value} has no description above it")
        return " ".join(described), schema


def schema_of(default: Any, annotated: Schema) -> Schema:
    """Return the schema of a value: what its annotation says, and else what its default shows."""
    schema: Schema = {}
    if name := annotated.pop("$ref", None):
        # Helm compiles a schema at every render: what is referred to is compiled once.
        if DEFINITIONS[name]["type"] == "object" or not annotated:
            return {"$ref": f"#/definitions/{name}"} | annotated
        schema = copy.deepcopy(DEFINITIONS[name])
    if items := annotated.get("items"):
        annotated["items"] = schema_of(None, dict(items))
    if not schema and "enum" not in annotated and "type" not in annotated:
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
        schema["type"] = kinds[type(default)]
    whole = schema | annotated
    # Kubernetes' integers have 32 bits.
    return {"maximum": INT32_MAX} | whole if "integer" in kinds_of(whole) else whole


def kinds_of(schema: Schema) -> list[str]:
    """Return the types that a schema allows."""
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def read(path: Path) -> Schema:
    """Return the strict schema of a values.yaml, with descriptions and defaults."""
    comments = Comments(path)

    def mapping(node: yaml.MappingNode) -> Schema:
        properties: dict[str, Schema] = {}
        for key, value in node.value:
            description, annotated = comments.above(key)
            default = yaml.safe_load(yaml.serialize(value))
            if isinstance(value, yaml.MappingNode) and "$ref" not in annotated:
                own = mapping(value)
            else:
                own = schema_of(default, annotated) | {"default": default}
            properties[key.value] = {"description": description} | own
        return strict(properties)

    root = yaml.compose(path.read_text())
    assert isinstance(root, yaml.MappingNode), path  # noqa: S101
    return mapping(root)


def strict(properties: dict[str, Schema]) -> Schema:
    """Return an object that holds these properties and no other."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def required(schema: Schema) -> Schema:
    """Return the schema with all keys required that have a default: null would take the default away.

    Keys whose default is empty stay free to be null.
    """
    if "properties" not in schema:
        return schema
    properties = {key: required(value) for key, value in schema["properties"].items()}
    empty: tuple[Any, ...] = (None, "", {}, [])
    needed = sorted(
        key for key, value in properties.items() if "properties" in value or value.get("default") not in empty
    )
    return schema | {"properties": properties} | ({"required": needed} if needed else {})


def over(common: Schema, own: Schema) -> Schema:
    """Return a subchart's schema: its own keys, and those that it may set for itself."""
    properties = dict(own["properties"])
    for key, value in common["properties"].items():
        if key not in properties:
            properties[key] = without_defaults(value)
        elif "properties" in value and "properties" in properties[key]:
            properties[key] = over(value, properties[key])
    return own | {"properties": properties}


def without_defaults(schema: Schema) -> Schema:
    """Return a key that may be set but has no default of its own: the one of all applies."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {key: without_defaults(value) for key, value in kept["properties"].items()}
    return kept


def used_definitions(schema: Any, found: dict[str, Schema] | None = None) -> dict[str, Schema]:
    """Return the named types that a schema refers to, and those that they refer to in turn."""
    found = {} if found is None else found
    for name in re.findall(r'"#/definitions/(\w+)"', json.dumps(schema)):
        if name not in found:
            found[name] = pointed(DEFINITIONS[name])
            used_definitions(found[name], found)
    return found


def pointed(schema: Any) -> Any:
    """Return a named type with its references as JSON pointers."""
    if isinstance(schema, dict):
        return {key: f"#/definitions/{value}" if key == "$ref" else pointed(value) for key, value in schema.items()}
    return [pointed(item) for item in schema] if isinstance(schema, list) else schema


def document(title: str, schema: Schema) -> str:
    """Return a values.schema.json. Draft 7 is what Helm 3 and Helm 4 both know."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title}
    tail = {"definitions": dict(sorted(used_definitions(schema).items()))}
    return json.dumps(head | schema | tail, indent=1, ensure_ascii=False) + "\n"


def renamed(schema: Schema) -> None:
    """Let renamed keys through the schema, so that the chart itself can say their new names."""
    for old, new in (yaml.safe_load((UMBRELLA / "files" / "renamed-keys.yaml").read_text()) or {}).items():
        place = schema
        *path, last = old.split(".")
        for key in path:
            place = place["properties"][key]
        place["properties"][last] = {"description": f"Renamed: {new}.", "deprecated": True}


def rows(schema: Schema, prefix: str = "") -> list[str]:
    """Return the reference's table rows of a schema's keys."""
    found = []
    for key, value in schema["properties"].items():
        if value.get("deprecated"):
            continue
        path = f"{prefix}{key}"
        if "properties" in value:
            found += rows(value, f"{path}.")
        else:
            said = value["description"] + (f" One of {choices(value)}." if "enum" in value else "")
            cells = [f"`{path}`", f"`{json.dumps(value['default'], ensure_ascii=False)}`", said]
            found.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return found


def choices(schema: Schema) -> str:
    """Return the values that a key may have, in words."""
    return ", ".join(f"`{json.dumps(item)}`" if item in ("", None) else f"`{item}`" for item in schema["enum"])


def table(schema: Schema, prefix: str = "") -> str:
    """Return a reference table."""
    return "\n".join(["| key | default | what it is |", "|---|---|---|", *rows(schema, prefix)])


def outputs() -> dict[Path, str]:
    """Return every file to write and its text."""
    umbrella = read(UMBRELLA / "values.yaml")
    shared = umbrella["properties"]["global"]["properties"]
    written: dict[Path, str] = {}
    sections: list[str] = []
    for chart in sorted(UMBRELLA.glob("charts/*/values.yaml")):
        name = chart.parent.name
        annotations = yaml.safe_load((chart.parent / "Chart.yaml").read_text())["annotations"]
        block = COMMON[annotations["seed-analytics/kind"]]
        own = read(chart)
        whole = over(shared[block], own)
        sections.append(
            f"## {name}\n\n{umbrella['properties'][name]['description']} "
            f"Any key of `global.{block}` may be set here too.\n\n{table(own, f'{name}.')}\n"
        )
        umbrella["properties"][name] = (
            {"description": umbrella["properties"][name]["description"]}
            | whole
            | {"properties": INJECTED | whole["properties"]}
        )
        needed = required(own)["required"]
        written[chart.parent / "values.schema.json"] = document(
            name, whole | {"properties": INJECTED | whole["properties"], "required": needed}
        )
    subcharts = {path.parent.name for path in UMBRELLA.glob("charts/*/values.yaml")}
    release = strict({key: value for key, value in umbrella["properties"].items() if key not in subcharts})
    whole = required(release)
    whole["properties"] |= {key: value for key, value in umbrella["properties"].items() if key in subcharts}
    whole["properties"]["seed-lib"] = {"description": "Nothing to set: a library."} | strict(INJECTED)
    renamed(whole)
    written[UMBRELLA / "values.schema.json"] = document("seed-analytics", whole)
    written[REFERENCE] = "\n".join([INTRODUCTION, "## The release\n", table(release) + "\n", *sections])
    return written


INTRODUCTION = """\
# Values of the chart

Written by `tools/chart_values.py` from the comments in `charts/seed-analytics/**/values.yaml`: change those.
A key that is not here is refused, and so is a value of another type.
"""


def main() -> None:
    """Write the files, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    check = parser.parse_args().check
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not what the values.yaml files say: run python tools/chart_values.py")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(outputs()[path])
            print(f"wrote {path.relative_to(ROOT)}")
    if check and stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
