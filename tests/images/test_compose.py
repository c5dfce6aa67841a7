"""compose.yaml as its users run it: the pipeline to its end, and a report."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from containers import DOCKER, IMAGES, SERVICES, VERSION, find_image, missing
from docker import DockerClient
from docker.models.images import Image
from seed_analytics.demo import demo as demo_of_the_working_tree
from support import ROOT, until

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
        missing(f"`{DOCKER} compose` is not installed")
    for name in IMAGES:
        find_image(engine, name)
    settings = {"LEARNERS": "120", "WEEKS": "12", "REPORT_DIR": str(folder), "POSTGRES_IMAGE": postgres_image.tags[0]}
    # Docker reads its own settings and plugins from the home folder; nothing else comes from outside.
    env = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST", "REGISTRY") if name in os.environ}

    def run(*argv: str, unset: str = "", env_file: str = "") -> subprocess.CompletedProcess[str]:
        given = (
            env if env_file else {name: value for name, value in (env | SECRETS | settings).items() if name != unset}
        )
        project = ["--project-name", f"seed-test-{os.getpid()}", "--env-file", env_file or os.devnull]
        command = [DOCKER, "compose", *project, *argv]
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


def test_every_container_is_restricted(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert int(service["pids_limit"]) > 0, name
        assert not service.get("privileged"), name


def test_only_what_gives_folders_away_has_capabilities_or_another_user(config: dict[str, Any]) -> None:
    services = config["services"].items()
    assert {name: service["cap_add"] for name, service in services if service.get("cap_add")} == {
        "report-folder": ["CHOWN"],
        "database": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
    }
    assert {name: service["user"] for name, service in services if service.get("user")} == {"report-folder": "0:0"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_longer_to_stop_than_it_gives_its_fits(config: dict[str, Any], name: str) -> None:
    [declared] = re.findall(r'"SHUTDOWN_GRACE_SECS", (\d+)', (ROOT / "r-plumber-common/R/settings.R").read_text())
    assert "SHUTDOWN_GRACE_SECS" not in (config["services"][name]["environment"] or {})
    assert int(config["services"][name]["stop_grace_period"].removesuffix("s")) >= int(declared) + 10


@pytest.mark.parametrize("name", IMAGES)
def test_it_builds_an_image_as_make_does(config: dict[str, Any], name: str) -> None:
    dry = subprocess.run(["make", "-n", f"image-{name}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(dry.replace("\\\n", " "))
    by_make = {
        flag: [given for word, given in pairwise(words) if word == flag] for flag in ("--file", "--target", "--label")
    }
    [build] = {
        json.dumps(service["build"], sort_keys=True)
        for service in config["services"].values()
        if f"{name}:" in service["image"]
    }
    by_compose = json.loads(build)
    assert by_compose["context"] == str(ROOT)
    assert [by_compose["dockerfile"]] == by_make["--file"]
    assert by_compose.get("target") == next(iter(by_make["--target"]), None)
    assert by_compose["labels"].keys() == {label.partition("=")[0] for label in by_make["--label"]}
    assert by_compose["labels"]["org.opencontainers.image.version"] == VERSION


def test_its_learners_are_those_of_make_demo(compose: Compose) -> None:
    demo = {name: parameter.default for name, parameter in signature(demo_of_the_working_tree).parameters.items()}
    done = compose("config", "--format", "json", env_file=".env.example")
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)["services"]["pipeline"]["environment"]
    learners = {"LEARNERS": demo["learners"], "WEEKS": demo["weeks"], "SIMULATION_SEED": demo["seed"]}
    assert {name: int(given[name]) for name in learners} == learners


def versions(config: dict[str, Any]) -> set[str]:
    return {service["image"].rpartition(":")[2] for name, service in config["services"].items() if name != "database"}


def test_its_default_version_is_the_packages(config: dict[str, Any]) -> None:
    assert versions(config) == {VERSION}


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_secret_is_named(compose: Compose, name: str) -> None:
    done = compose("config", unset=name)
    assert done.returncode != 0
    assert name in done.stderr
    assert "copy .env.example to .env" in done.stderr


def test_the_example_of_settings_is_enough(compose: Compose) -> None:
    done = compose("config", "--format", "json", env_file=".env.example")
    assert done.returncode == 0, done.stderr
    assert versions(json.loads(done.stdout)) == {VERSION}


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


def test_a_shell_as_first_process_hears_that_it_is_to_stop(engine: DockerClient, compose: Compose) -> None:
    started = compose("run", "--detach", "--no-deps", "--pull", "never", "pipeline", "sleep 600; true")
    assert started.returncode == 0, started.stderr
    container = engine.containers.get(started.stdout.strip())
    try:
        # Before the shell's command runs, its init may not be there yet to hear a signal.
        until(lambda: any(argv[-1] == "sleep 600" for argv in container.top(ps_args="-o pid,args")["Processes"]))
        container.stop(timeout=30)
        assert container.wait()["StatusCode"] == 143  # 137: it heard nothing and was killed
    finally:
        container.remove(force=True)


def test_it_runs_in_the_background(compose: Compose, folder: Path) -> None:
    assert compose("down", "--timeout", "5").returncode == 0
    (folder / "report.html").unlink(missing_ok=True)
    up = compose("up", "--detach", "--no-build", "--pull", "never")
    assert up.returncode == 0, up.stderr
    ended = compose("wait", "pipeline")
    assert ended.returncode == 0, compose("logs", "pipeline").stdout
    assert (folder / "report.html").exists()
