"""`render()`: the real ``helm template``, once for each distinct input."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from chart.harness import helm
from chart.harness.objects import Obj, Pod, freeze, load_all, pod_of

CHART = helm.REPOSITORY / "charts" / "seed-analytics"
OLDEST, NEWEST = "1.29", "1.37"
KUBERNETES = tuple(f"1.{minor}" for minor in range(29, 38))
"""The versions of Kubernetes that the chart supports."""
LONGEST_RELEASE = "r" * 53
"""Helm refuses a release name that is longer."""


class Refused(Exception):
    """Helm did not render: the message is what the user reads."""


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[Obj, ...]:
    """Read one document; most documents of one render stand in the next one too."""
    return tuple(freeze(document, Obj) for document in load_all(text))


@dataclass(frozen=True)
class Release:
    """What a render gave.

    Attributes:
        text: as Helm printed it.
        values: the values given over the chart's own.

    """

    text: str
    values: Mapping[str, Any]
    name: str
    namespace: str

    @cached_property
    def objects(self) -> tuple[Obj, ...]:
        return tuple(obj for document in re.split(r"^---$", self.text, flags=re.MULTILINE) for obj in _read(document))

    @cached_property
    def by_id(self) -> Mapping[str, Obj]:
        return {obj.id: obj for obj in self.objects}

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        return tuple(pod for pod in map(pod_of, self.objects) if pod)

    @property
    def ids(self) -> set[str]:
        return set(self.by_id)

    def __getitem__(self, id: str) -> Obj:  # noqa: A002
        """Return the object `Kind/name`."""
        if id not in self.by_id:
            raise AssertionError(f"there is no {id} among {', '.join(sorted(self.by_id)) or 'no objects'}")
        return self.by_id[id]

    def pod(self, id: str) -> Pod:  # noqa: A002
        """Return the pod of the object `Kind/name`."""
        pod = pod_of(self[id])
        assert pod, f"{id} makes no pod"
        return pod

    def of(self, *kinds: str) -> Iterator[Obj]:
        return (obj for obj in self.objects if obj.kind in kinds)

    def with_objects(self, objects: Iterable[Mapping[str, Any]]) -> Release:
        """Return this release with other objects, for tests of the tests."""
        return Release("\n---\n".join(map(json.dumps, objects)), self.values, self.name, self.namespace)


class Renderer:
    """Renders a chart with one Helm, and remembers."""

    def __init__(self, binary: Path, chart: Path = CHART) -> None:
        self.binary = binary
        self.chart = chart
        self._known: dict[tuple[Any, ...], Release | Refused] = {}

    def __call__(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        files: Sequence[str | Path] = (),
        kube_version: str = OLDEST,
        release: str = "seed",
        namespace: str = "analytics",
    ) -> Release:
        """Render the chart.

        Args:
            values: over those of the files.
            files: values files, by their path in the chart or anywhere.
            kube_version: Kubernetes of the cluster.
            release: name of the release.
            namespace: where it goes.

        Raises:
            Refused: Helm did not render; the message is Helm's.

        """
        values = {} if values is None else values
        key = (json.dumps(values, sort_keys=True), tuple(map(str, files)), kube_version, release, namespace)
        if key not in self._known:
            self._known[key] = self._render(values, files, kube_version, release, namespace)
        known = self._known[key]
        if isinstance(known, Refused):
            raise Refused(str(known))
        return known

    def afresh(self, values: Mapping[str, Any], **options: Any) -> Release:
        """Render without remembering."""
        return Renderer(self.binary, self.chart)(values, **options)

    def all(self, inputs: Iterable[Mapping[str, Any]], **options: Any) -> list[Release | Refused]:
        """Render many values at once, on all cores; refusals are returned, in their place."""

        def one(values: Mapping[str, Any]) -> Release | Refused:
            try:
                return self(values, **options)
            except Refused as refused:
                return refused

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, inputs))

    def run(self, *args: str | Path, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run Helm with any arguments."""
        return subprocess.run([self.binary, *args], input=input, capture_output=True, text=True, check=False)

    def _render(
        self, values: Mapping[str, Any], files: Sequence[str | Path], kube_version: str, release: str, namespace: str
    ) -> Release | Refused:
        paths = [self.chart / file for file in files]
        args = ["template", release, self.chart, "--namespace", namespace, "--kube-version", kube_version]
        done = self.run(*args, *(f"--values={path}" for path in paths), "--values=-", input=json.dumps(values))
        if done.returncode:
            return Refused(re.sub(r"^Error: ", "", done.stderr))
        given: dict[str, Any] = {}
        for path in paths:
            given = merged(given, *load_all(path.read_text()))
        return Release(done.stdout, freeze(merged(given, values)), release, namespace)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over values as Helm does: maps merge, all else is replaced."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else deepcopy(value)
    return result


def at(path: str | Sequence[str], value: Any) -> dict[str, Any]:
    """Return values with one key set: ``at("global.stages.timeZone", "UTC")``."""
    for key in reversed(path.split(".") if isinstance(path, str) else path):
        value = {key: value}
    return dict(value)


Render = Callable[..., Release]
