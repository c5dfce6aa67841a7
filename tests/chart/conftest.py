"""Options and fixtures of the chart's tests: which Helm, which CRDs, and the renders that are walked over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.harness import code, helm, schemas
from chart.harness.objects import Obj, Pod, pod_of
from chart.harness.render import CHART, LONGEST_RELEASE, Refused, Release, Renderer, at

CHECKOV = helm.REPOSITORY / ".cache" / "checkov" / "bin" / "checkov"
DEFAULT_EXAMPLES = 200


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chart")
    group.addoption(
        "--checkov", default=str(CHECKOV), help="the command checkov (default: the one of tools/setup test)"
    )
    group.addoption(
        "--examples", type=int, default=DEFAULT_EXAMPLES, help="values drawn by the property tests (%(default)s)"
    )


@dataclass(frozen=True)
class Input:
    """One way to install the chart.

    Attributes:
        files: values files in the chart's folder.
        values: over those of the files.
        options: of `render()`.

    """

    files: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


SOURCE = {"global": {"secrets": {"source": "existing"}}}
"""All that the chart's own values lack."""


LONGEST_PREFIX = "p" * (52 - len("-") - max(map(len, code.STAGES)))
"""A CronJob's name holds at most 52 characters."""


def inputs() -> dict[str, Input]:
    """Return every way to install the chart that the walkers look at: each values file, and the longest names."""
    files = [*sorted(CHART.glob("values-*.yaml")), *sorted(CHART.glob("ci/*-values.yaml"))]
    return {
        "values": Input(values=SOURCE),
        **{file.stem: Input(files=(str(file.relative_to(CHART)),)) for file in files},
        "values-prod, longest names": Input(
            files=("values-prod.yaml",),
            values=at("global.namePrefix", LONGEST_PREFIX),
            options={"release": LONGEST_RELEASE},
        ),
        "longest release name": Input(files=("values-dev.yaml",), options={"release": LONGEST_RELEASE}),
    }


@cache
def _renderer(choice: str) -> Renderer:
    # Nobody's own Helm settings or plugins take part.
    for name in [name for name in os.environ if name.startswith("HELM_")]:
        del os.environ[name]
    return Renderer(helm.find(choice))


def _render(renderer: Renderer, name: str) -> Release | Refused:
    given = inputs()[name]
    try:
        release = renderer(given.values, files=given.files, **given.options)
        return release if release.objects else Refused("renders no object")
    except Refused as refused:
        return refused
    except yaml.YAMLError as error:
        return Refused(f"renders what is no YAML: {error}")


def all_renders(renderer: Renderer) -> list[Release]:
    """Return the render of every input that renders (test_objects.py says which do not)."""
    renders = (_render(renderer, name) for name in inputs())
    return [release for release in renders if isinstance(release, Release)]


def _pod_if(test: Callable[[Pod], str], obj: Obj) -> Pod | None:
    pod = pod_of(obj)
    return pod if pod and test(pod) else None


SUBJECTS: dict[str, Callable[[Obj], Obj | Pod | None]] = {
    "obj": lambda obj: obj,
    "built_in": lambda obj: None if schemas.is_custom(obj) else obj,
    "custom": lambda obj: obj if schemas.is_custom(obj) else None,
    "pod": pod_of,
    "job_pod": lambda obj: _pod_if(code.command_of, obj),
    "service_pod": lambda obj: _pod_if(code.service_of, obj),
}
"""Fixture -> what of an object it is; None where the object has no such thing."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test one case for each render (`release`), or for each object or pod of each, named ``Kind/name``."""
    subjects = [name for name in SUBJECTS if name in metafunc.fixturenames]
    if not subjects and "release" not in metafunc.fixturenames:
        return
    cases = []
    renderer = _renderer(metafunc.config.getoption("--helm"))
    for name in inputs():
        release = _render(renderer, name)
        if not subjects:
            cases.append(pytest.param((release, None), id=name))
        elif isinstance(release, Release):
            found = [(obj.id, SUBJECTS[subjects[0]](obj)) for obj in release.objects]
            cases += [pytest.param((release, it), id=f"{name}: {id}") for id, it in found if it]  # noqa: A001
    metafunc.parametrize("_case", cases, indirect=True)


@pytest.fixture
def _case(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    return request.param


@pytest.fixture
def release(_case: tuple[Any, ...]) -> Release:
    """A render of one of the inputs."""
    if isinstance(_case[0], Refused):
        pytest.fail(f"does not render: {_case[0]}", pytrace=False)
    return _case[0]


def _subject(_case: tuple[Any, ...]) -> Obj | Pod:
    """An object (or its pod) of one of the inputs."""
    return _case[1]


obj, built_in, custom, pod, job_pod, service_pod = (pytest.fixture(_subject, name=name) for name in SUBJECTS)


@pytest.fixture(scope="session")
def render(request: pytest.FixtureRequest) -> Renderer:
    """The real `helm template`; see harness/render.py."""
    return _renderer(request.config.getoption("--helm"))


@pytest.fixture(scope="session")
def crds(request: pytest.FixtureRequest) -> Path:
    """The folder of the operators' CRDs."""
    folder: Path = request.config.getoption("--crds")
    if not any(folder.glob("*.yaml")):
        pytest.skip(f"there are no CRDs in {folder}: say where they are with --crds")
    return folder


@pytest.fixture(scope="session")
def examples(request: pytest.FixtureRequest) -> int:
    """How many values a property test draws."""
    return int(request.config.getoption("--examples", DEFAULT_EXAMPLES))


@pytest.fixture(scope="session")
def checkov(request: pytest.FixtureRequest) -> str:
    """The command checkov. It lives in an environment of its own, since it pins a hundred packages."""
    asked: str = request.config.getoption("--checkov", str(CHECKOV))
    found = shutil.which(asked)
    assert found, f"there is no {asked}: run tools/setup test, or name one by --checkov"
    return found
