"""compose.yaml as its users run it: the pipeline to its end, and a report."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import DOCKER, IMAGES, find_image
from docker import DockerClient
from docker.models.images import Image
from support import ROOT

SECRETS = {
    "R_IRT_INTERNAL_TOKEN": "compose-irt-token",
    "R_FORECAST_INTERNAL_TOKEN": "compose-forecast-token",
    "R_BRMS_INTERNAL_TOKEN": "compose-brms-token",
    "POSTGRES_PASSWORD": "compose-password",
}
Compose = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report is written; Docker makes it."""
    return tmp_path_factory.mktemp("compose") / "report"


@pytest.fixture(scope="module")
def compose(engine: DockerClient, postgres_image: Image, folder: Path) -> Iterator[Compose]:
    """Run ``docker compose ARGV`` with the images as they were built, in a project of its own."""
    if subprocess.run([DOCKER, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip(f"`{DOCKER} compose` is not installed")
    for name in IMAGES:
        find_image(engine, name)
    settings = {"LEARNERS": "120", "WEEKS": "12", "REPORT_DIR": str(folder), "POSTGRES_IMAGE": postgres_image.tags[0]}
    # Docker reads its own settings and plugins from the home folder; nothing else comes from outside.
    env = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST", "REGISTRY") if name in os.environ}

    def run(*argv: str, unset: str = "") -> subprocess.CompletedProcess[str]:
        given = {name: value for name, value in (env | SECRETS | settings).items() if name != unset}
        command = [DOCKER, "compose", "--project-name", f"seed-test-{os.getpid()}", "--env-file", os.devnull, *argv]
        return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False, timeout=580)

    yield run
    run("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="module")
def config(compose: Compose) -> dict[str, Any]:
    """What compose makes of the file."""
    done = compose("--profile", "jobs", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def pipeline(compose: Compose) -> subprocess.CompletedProcess[str]:
    """The pipeline, run to its end."""
    return compose("run", "--rm", "--pull", "never", "pipeline")


def test_nothing_is_published_and_nothing_reaches_out(config: dict[str, Any]) -> None:
    assert not any(service.get("ports") for service in config["services"].values())
    assert all(set(service["networks"]) == {"inside"} for service in config["services"].values())
    assert config["networks"]["inside"]["internal"]


def test_what_is_ours_is_restricted(config: dict[str, Any]) -> None:
    ours = {name: service for name, service in config["services"].items() if name != "database"}
    for name, service in ours.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert int(service["mem_limit"]) > 0, name


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_named(compose: Compose, name: str) -> None:
    done = compose("config", unset=name)
    assert done.returncode != 0
    assert name in done.stderr
    assert "copy .env.example to .env" in done.stderr


def test_the_example_of_settings_names_every_secret() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines} >= SECRETS.keys()


def test_the_pipeline_reaches_its_end(pipeline: subprocess.CompletedProcess[str]) -> None:
    assert pipeline.returncode == 0, pipeline.stdout + pipeline.stderr
    assert "checks are well" in pipeline.stdout + pipeline.stderr


def test_no_secret_is_printed(pipeline: subprocess.CompletedProcess[str]) -> None:
    assert not [value for value in SECRETS.values() if value in pipeline.stdout + pipeline.stderr]


def test_the_report_is_there(pipeline: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert pipeline.returncode == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    assert page.count("<svg") > 3
