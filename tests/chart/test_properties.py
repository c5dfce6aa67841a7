"""Whatever the schema accepts renders valid objects, or is refused in a sentence; whatever it rejects is refused with
the path of the key.

`--examples 2000` draws so many for each property; the default is a sample.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.conftest import SOURCE
from chart.harness import rules, schemas, values
from chart.harness.objects import Obj
from chart.harness.render import NEWEST, OLDEST, Refused, Release, Renderer, at, merged
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

BASES: dict[str, tuple[str, ...]] = {
    "values": (),
    "values-dev": ("values-dev.yaml",),
    "values-prod": ("values-prod.yaml",),
}

USERS_OWN = {
    "mounts_its_volumes_and_no_others": "extraVolumes and extraVolumeMounts are the user's, and belong together",
    "names_nothing_twice": "the user's mounts and volumes may collide with each other",
    "cannot_write_its_image": "securityContext.readOnlyRootFilesystem is a setting",
    "sets_resources": "resources are a setting",
}
"""Rule -> why a user's values may break it."""

MANY = 5
"""Faults after which a run is given up."""

AT_ONCE = 10
"""Mistakes in the values of one render."""

Change = tuple[values.Path, Any]

pytestmark = pytest.mark.timeout(3600)  # as many examples as are asked for, each a render of a fifth of a second


def draw(examples: int, strategy: Any, check: Callable[[Any], None], *, series: int = 0) -> None:
    """Check so many examples, the same ones each time in each series. A failure is reduced by `smallest`: a render is
    too slow for hypothesis to do it.
    """

    @seed(20251102 + series)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check_one(drawn: Any) -> None:
        check(drawn)

    check_one()


def smallest(drawn: list[Change], faults: Callable[[list[Change]], list[str]]) -> list[Change]:
    """Leave out changes as long as the first fault stays."""
    first = faults(drawn)[0]
    for change in drawn:
        fewer = [other for other in drawn if other is not change]
        if first in faults(fewer):
            drawn = fewer
    return drawn


class Validity:
    """Asks whether objects are valid, each distinct one once."""

    def __init__(self, crds: Path) -> None:
        self.crds = crds if crds.exists() else None
        self.known: set[str] = set()

    def faults(self, obj: Obj) -> list[str]:
        text = json.dumps(obj, sort_keys=True)
        if text in self.known:
            return []
        if schemas.is_custom(obj):
            found = schemas.custom_faults(obj, self.crds) if self.crds else []
        else:
            found = [fault for version in (OLDEST, NEWEST) for fault in schemas.faults(obj, version)]
        if not found:
            self.known.add(text)
        return [f"{obj.id}: {fault}" for fault in found]


@pytest.fixture(scope="module")
def validity(request: pytest.FixtureRequest) -> Validity:
    return Validity(request.config.getoption("--crds"))


@pytest.mark.parametrize("base", BASES)
def test_what_the_schema_accepts_renders_valid_objects(
    base: str, render: Renderer, examples: int, validity: Validity
) -> None:
    outcomes: Counter[str] = Counter()
    found: dict[tuple[values.Path, ...], str] = {}
    start = {} if BASES[base] else SOURCE

    def faults(drawn: list[Change]) -> list[str]:
        try:
            release = render.afresh(merged(start, *(at(*change) for change in drawn)), files=BASES[base])
        except Refused as refused:
            outcomes["refused"] += 1
            return [] if is_a_sentence(str(refused)) else [f"crashes: {refused}"]
        outcomes["rendered"] += 1
        try:
            return [fault for obj in release.objects for fault in validity.faults(obj)] or broken(release)
        except yaml.YAMLError as error:
            return [f"is no YAML: {error}"]

    def check(drawn: list[Change]) -> None:
        if len(found) < MANY and faults(drawn):
            reduced = smallest(drawn, faults)
            told = f"{faults(reduced)[0]}\n    with {reduced}"
            found.setdefault(tuple(path for path, _ in reduced), told)

    draw(-(-examples // len(BASES)), values.changes(), check, series=list(BASES).index(base))
    assert not found, "\n".join(found.values())
    assert outcomes["rendered"] > outcomes["refused"], f"too few rendered to say much: {dict(outcomes)}"


def broken(release: Release) -> list[str]:
    """Ask the rules that no values of a user may break."""
    kept = {name: rule for name, rule in rules.POD_RULES.items() if name not in USERS_OWN}
    faults = [fault for pod in release.pods for fault in rules.broken(kept, pod, release)]
    return faults + [fault for obj in release.objects for fault in rules.broken(rules.OBJECT_RULES, obj, release)]


def test_every_keyword_of_the_schema_is_one_that_values_are_drawn_by() -> None:
    known = values.ANNOTATIONS | values.DRAWN | values.SIFTED
    used = {word for schema in values.subschemas(values.umbrella()) for word in schema}
    assert used - known == set()
    assert known - used == set(), "drawn by, though no schema uses it"


def is_a_sentence(message: str) -> bool:
    """Say whether a refusal was written by the chart (`fail`), rather than being a crash of a template."""
    return "execution error at" in message


def apart(drawn: list[Change]) -> list[Change]:
    """Leave out a change that another is within or around, or of which a message about another could be taken to be."""
    kept: list[Change] = []
    for path, value in drawn:
        if not any(names(path, "/".join(other)) or names(other, "/".join(path)) for other, _ in kept):
            kept.append((path, value))
    return kept


def names(path: values.Path, line: str) -> bool:
    """Say whether a line of a message names every key of a path."""
    return all(key in line for key in path)


def test_what_the_schema_does_not_accept_is_refused_with_the_path(render: Renderer, examples: int) -> None:
    found: list[str] = []

    def refusal(*mistakes: Change) -> str:
        try:
            render.afresh(merged(SOURCE, *(at(*mistake) for mistake in mistakes)))
        except Refused as refused:
            return str(refused)
        return "nothing was refused"

    def by_schema(message: str, mistakes: list[Change]) -> None:
        if is_a_sentence(message):
            found.append(f"{mistakes} passed the schema: {message}")
            return
        for path, wrong in mistakes:
            if not any(names(path, line) for line in message.splitlines()):
                found.append(f"{'.'.join(path)} = {wrong!r} is not named: {message}")

    def by_schema_or_chart(message: str, path: values.Path, wrong: Any) -> None:
        if not any(f"{'.'.join(path)} " in line and "set" in line for line in message.splitlines()):
            by_schema(message, [(path, wrong)])

    def check(drawn: list[Change]) -> None:
        if len(found) >= MANY:
            return
        # Helm lists all that a schema does not accept; a format is refused by the chart, which names the first.
        formats = [mistake for mistake in drawn if "format" in values.keys().get(mistake[0], {})]
        for mistake in formats:
            by_schema_or_chart(refusal(mistake), *mistake)
        if others := apart([mistake for mistake in drawn if mistake not in formats]):
            by_schema(refusal(*others), others)

    draw(-(-examples // AT_ONCE), st.lists(values.mistakes(), min_size=AT_ONCE, max_size=AT_ONCE), check)
    assert not found, "\n".join(found)
