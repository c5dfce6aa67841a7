"""Every stage of the jobs image against the services' images and PostgreSQL, over a network without a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from containers import TOKEN, Ended
from seed_analytics.settings import MODEL_STAGES


@pytest.fixture(scope="module")
def finished(platform: Any) -> dict[str, Ended]:
    """Stage -> how it ended."""
    return {stage: platform.run(stage) for stage in MODEL_STAGES}


@pytest.fixture
def report_folder(tmp_path: Path) -> dict[str, dict[str, str]]:
    """tmp_path, mounted at /report for whatever account writes there."""
    tmp_path.chmod(0o777)
    return {str(tmp_path): {"bind": "/report", "mode": "rw"}}


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_a_stage_succeeds(finished: dict[str, Ended], stage: str) -> None:
    assert finished[stage].code == 0, finished[stage].output


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_no_secret_is_in_a_log(platform: Any, finished: dict[str, Ended], stage: str) -> None:
    assert platform.password not in finished[stage].output
    assert TOKEN not in finished[stage].output


def test_verify_finds_nothing_wrong(platform: Any, finished: dict[str, Ended]) -> None:
    assert finished
    ended = platform.run("verify")
    assert ended.code == 0, ended.output


def test_the_report_is_written_where_it_is_mounted(
    platform: Any, finished: dict[str, Ended], tmp_path: Path, report_folder: dict[str, dict[str, str]]
) -> None:
    assert finished
    ended = platform.run("report", "--report-path", "/report/report.html", volumes=report_folder)
    assert ended.code == 0, ended.output
    assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("command", [*MODEL_STAGES, "report"])
def test_with_next_to_no_room_in_tmp_it_succeeds(
    platform: Any, finished: dict[str, Ended], report_folder: dict[str, dict[str, str]], command: str
) -> None:
    assert finished
    argv = (command, "--report-path", "/report/report.html") if command == "report" else (command,)
    small = {"/tmp": "mode=1777,size=4k"}  # noqa: S108 - in the container
    ended = platform.run(*argv, tmpfs=small, volumes=report_folder)
    assert ended.code == 0, ended.output
