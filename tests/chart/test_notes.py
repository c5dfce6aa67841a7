"""The notes of `helm install`: what was installed, what is off, and three commands that name only what is there."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from chart.conftest import inputs
from chart.harness import code
from chart.harness.render import CHART, Release, Renderer

NOTES = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: notes
data:
  notes: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}
"""


@pytest.fixture(scope="module")
def noted(render: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """Render the chart with its notes in a ConfigMap: `helm template` leaves them out."""
    folder = tmp_path_factory.mktemp("noted") / CHART.name
    shutil.copytree(CHART, folder)
    (folder / "templates" / "notes-for-the-test.yaml").write_text(NOTES)
    return Renderer(render.binary, folder)


@pytest.fixture(params=inputs())
def told(request: pytest.FixtureRequest, noted: Renderer) -> tuple[str, Release]:
    """The notes of one input, and its objects."""
    given = inputs()[request.param]
    release = noted(given.values, files=given.files, **given.options)
    return release["ConfigMap/notes"]["data"]["notes"], release


def names(release: Release, kind: str, component: str) -> set[str]:
    return {one.name for one in release.of(kind) if one.labels.get("app.kubernetes.io/component") == component}


def test_every_stage_stands_there_with_its_schedule_and_time_zone(told: tuple[str, Release]) -> None:
    notes, release = told
    for cronjob in release.of("CronJob"):
        spec = cronjob["spec"]
        wanted = rf"^ +{cronjob.name} +{re.escape(spec['schedule'])} +{re.escape(spec['timeZone'])}$"
        assert re.search(wanted, notes, flags=re.MULTILINE), f"{cronjob.name} in:\n{notes}"


def test_every_service_stands_there_with_its_address(told: tuple[str, Release]) -> None:
    notes, release = told
    said = set(re.findall(r"^ +http://(\S+)$", notes, flags=re.MULTILINE))
    assert said == names(release, "Service", "service")


def test_every_subchart_that_is_off_is_named(told: tuple[str, Release]) -> None:
    notes, release = told
    off = {name for name in (*code.STAGES, *code.SERVICES) if not code.value_of(f"{name}.enabled", release.values)}
    (line,) = re.findall(r"^Off \(NAME\.enabled\): (.*)$", notes, flags=re.MULTILINE) or [""]
    assert set(line.split(", ")) & {*code.STAGES, *code.SERVICES} == off


def test_three_commands_follow(told: tuple[str, Release]) -> None:
    notes, release = told
    steps = re.findall(r"^  (\d)\. .*\n     (.+)$", notes, flags=re.MULTILINE)
    assert [number for number, _ in steps] == ["1", "2", "3"]
    for _, command in steps:
        assert re.match(r"(kubectl|helm|\(?for) ", command), command
        assert command.startswith("helm show") or f"--namespace {release.namespace}" in command, command


def test_no_command_names_what_is_not_there(told: tuple[str, Release]) -> None:
    notes, release = told
    known = {one.name for one in release.objects} | {
        reference
        for which in code.CREDENTIALS
        for reference in [code.value_of(f"global.secrets.{which}.name", release.values)]
    }
    given = [name for listed in re.findall(r"for stage in (.*?) ;", notes) for name in listed.split()]
    given += re.findall(r"get secrets (.*)$", notes, flags=re.MULTILINE)
    given += re.findall(r"port-forward service/(\S+)", notes)
    given += re.findall(r"logs job/(\S+)", notes)
    assert {name for text in given for name in text.split()} <= known
    assert f"helm test {release.name} " in notes or not names(release, "Job", "test")


def test_a_release_without_a_database_speaks_of_none(told: tuple[str, Release]) -> None:
    notes, release = told
    reads = any("DATABASE_URL" in json.dumps(pod.spec) for pod in release.pods)
    for line in ("Database:", "Schema:"):
        assert (f"\n{line}" in notes) is reads


def test_a_release_that_is_suspended_says_so(noted: Renderer) -> None:
    values = {"global": {"secrets": {"source": "existing"}, "stages": {"suspend": True}}}
    notes = noted(values)["ConfigMap/notes"]["data"]["notes"]
    assert len(re.findall(r"  suspended$", notes, flags=re.MULTILINE)) == len(list(noted(values).of("CronJob")))


def test_a_release_of_nothing_has_notes_too(noted: Renderer) -> None:
    off = {name: {"enabled": False} for name in (*code.STAGES, *code.SERVICES)}
    release = noted(off | {"migrations": {"mode": "none"}})
    assert "There is no stage" in release["ConfigMap/notes"]["data"]["notes"]
