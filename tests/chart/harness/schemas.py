"""Strict validation against Kubernetes's own schemas and those of custom resources, with the validators remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate.utils as published
import yaml
from chart.harness.objects import Obj
from referencing import Registry, Resource

_LISTS = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    "array", lambda _, instance: isinstance(instance, (list, tuple))
)
_WHOLE = jsonschema.FormatChecker(formats=())


@_WHOLE.checks("int32")
def _is_int32(value: object) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@_WHOLE.checks("int64")
def _is_int64(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_LISTS)

BUILT_IN = (".k8s.io",)


def is_custom(obj: Obj) -> bool:
    """Say whether an object's kind is a custom resource."""
    group, _, version = obj["apiVersion"].rpartition("/")
    return "." in group and not group.endswith(BUILT_IN) and bool(version)


def faults(obj: Obj, kubernetes: str) -> list[str]:
    """Say what the API server of a Kubernetes version would not take; unknown fields too."""
    return _told(_built_in(obj.kind, obj["apiVersion"], kubernetes), obj)


def custom_faults(obj: Obj, crds: Path) -> list[str]:
    """Say what an operator's own schema does not allow; unknown fields too."""
    return _told(_custom(obj.kind, obj["apiVersion"], crds), obj)


def filled_in(obj: Obj, crds: Path) -> list[str]:
    """Say what the API server would fill in by the defaults of a CRD: a GitOps controller would show it as drift."""
    return list(_filled_in(obj, _custom(obj.kind, obj["apiVersion"], crds).schema, obj.id))


def _filled_in(value: Any, schema: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _filled_in(value[name], child, f"{path}.{name}")
            elif "default" in child:
                yield f"{path}.{name} = {child['default']!r}"
    elif isinstance(value, (list, tuple)):
        for n, item in enumerate(value):
            yield from _filled_in(item, schema.get("items", {}), f"{path}[{n}]")


def _told(validator: Any, obj: Obj) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(obj)]


@cache
def _definitions(folder: str, kubernetes: str) -> Registry[Any]:
    document = published.schema_contents(f"kubernetes-json-schema/{folder}/_definitions.json", kubernetes)
    return Resource.from_contents(document) @ Registry()


@cache
def _built_in(kind: str, api_version: str, kubernetes: str) -> Any:
    if kubernetes not in {published.major_minor(version) for version in published.all_versions()}:
        raise LookupError(f"kubernetes-validate holds no schemas of Kubernetes {kubernetes}")
    group, _, version = api_version.rpartition("/")
    file = "-".join(part for part in (kind.lower(), group.split(".")[0], version) if part)
    folder = f"v{kubernetes}.0-local-strict"
    try:
        schema = published.schema_contents(f"kubernetes-json-schema/{folder}/{file}.json", kubernetes)
    except FileNotFoundError:
        raise LookupError(f"Kubernetes {kubernetes} knows no {api_version} {kind}") from None
    return _Validator(
        schema, format_checker=_WHOLE, registry=Resource.from_contents(schema) @ _definitions(folder, kubernetes)
    )


@cache
def _custom(kind: str, api_version: str, folder: Path) -> Any:
    for file in sorted(folder.glob("*.yaml")):
        text = file.read_text()
        if f"\n    kind: {kind}\n" not in text:  # a megabyte of YAML takes a second to read
            continue
        spec = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            if version["served"] and f"{spec['group']}/{version['name']}" == api_version:
                schema = version["schema"]["openAPIV3Schema"]
                return _Validator(_strict({**schema, "properties": {**schema["properties"], **_ENVELOPE}}))
    raise LookupError(f"{folder} holds no served {api_version} {kind}")


_ENVELOPE = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


def _strict(schema: Any) -> Any:
    """Close every object whose fields are listed: what a CRD does not name, the API server would silently drop."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    # Not into anyOf and its like: they name some of the fields, the rest of the schema names all.
    for key in {"items", "additionalProperties"} & schema.keys():
        closed[key] = _strict(schema[key])
    if "properties" in schema:
        closed["properties"] = {name: _strict(item) for name, item in schema["properties"].items()}
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
