"""Kubernetes objects as the tests see them: read-only, named ``Kind/name``, with their pods found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml


class Frozen(dict):
    """A dict that refuses to be changed: a render is shared by many tests."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a rendered object is read-only: change a copy, thaw(object)")

    def __deepcopy__(self, _: Any) -> Frozen:
        return self

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class Obj(Frozen):
    """A Kubernetes object."""

    @property
    def kind(self) -> str:
        return str(self["kind"])

    @property
    def name(self) -> str:
        return str(self["metadata"]["name"])

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def labels(self) -> Mapping[str, str]:
        return self["metadata"].get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self["metadata"].get("annotations") or {}

    def __repr__(self) -> str:
        return self.id


POD_TEMPLATE = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template")),
}
"""Kind -> where its pod is."""


@dataclass(frozen=True)
class Pod:
    """A pod that an object makes, or is."""

    owner: Obj
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.owner.id

    @property
    def labels(self) -> Mapping[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        """All of them, init containers and sidecars first."""
        return (*self.spec.get("initContainers", ()), *self.spec.get("containers", ()))

    def __repr__(self) -> str:
        return f"the pod of {self.id}"


def pod_of(obj: Obj) -> Pod | None:
    """Return the pod that an object makes, if it makes one."""
    if obj.kind not in POD_TEMPLATE:
        return None
    template: Mapping[str, Any] = obj
    for key in POD_TEMPLATE[obj.kind]:
        template = template[key]
    return Pod(obj, template.get("metadata", {}), template["spec"])


def freeze(value: Any, kind: type[Frozen] = Frozen) -> Any:
    """Return a read-only copy; `kind` is the class of the outermost dict."""
    if isinstance(value, dict):
        return kind({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return a copy that can be changed."""
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    return [thaw(item) for item in value] if isinstance(value, (list, tuple)) else value


def find(value: Any, key: str) -> Iterator[Any]:
    """Find everything that stands under a key, at any depth."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == key:
                yield item
            yield from find(item, key)
    elif isinstance(value, tuple):
        for item in value:
            yield from find(item, key)


class _Loader(yaml.CSafeLoader):
    """Reads as Kubernetes does (sigs.k8s.io/yaml): 1e5 is a number, a date a text, and no key stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own interface
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping = loader.construct_mapping(node, deep=True)
    if len(mapping) < len(node.value):
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        problem = f"keys that stand twice: {', '.join(twice)}"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def load_all(text: str) -> list[Any]:
    """Read the documents of a YAML stream; a key that stands twice in a mapping is an error."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
