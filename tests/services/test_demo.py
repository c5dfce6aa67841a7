"""The demo as a user runs it: all of it, kept, stopped, failing and interrupted. Each run starts its own servers."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from seed_analytics.demo import PLANS, State
from seed_analytics.errors import ExitCode
from seed_analytics.settings import STAGES
from support import SHARED

# The same command with a folder of its own, so that a developer's kept demo is left alone.
COMMAND = (
    "import pathlib, sys; from seed_analytics import cli, demo; "
    "folder = pathlib.Path(sys.argv.pop(1)); demo._folder = lambda: folder; cli.main()"
)
DATA = {"oulad": SHARED / "data/oulad", "memphis": SHARED / "data/irt"}
SMALL = ("demo", "--learners", "100", "--weeks", "8")


def start(folder: Path, *argv: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(folder), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "REPORT_PATH": str(folder / "report.html"), **env},
    )


def run(folder: Path, *argv: str, **env: str) -> tuple[int, str]:
    with start(folder, *argv, **env) as process:
        output, _ = process.communicate()
        return process.returncode, output


@dataclass
class Kept:
    """A demo that was kept: what it said, and where its files are."""

    folder: Path
    code: int
    output: str

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that a shell gets from it."""
        shown = subprocess.run(
            ["bash", "-c", 'set -a; source "$1"; env -0', "-", str(self.folder / "env")],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
        ).stdout
        return dict(line.split("=", 1) for line in shown.split("\0") if line)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("demo")
    try:
        yield Kept(folder, *run(folder, "demo", "--keep"))
    finally:
        run(folder, "stop")


def test_demo_runs_every_stage_and_verifies(kept: Kept) -> None:
    assert kept.code == ExitCode.OK, kept.output
    with psycopg.connect(kept.env["DATABASE_URL"]) as conn:
        ended = dict(conn.execute("SELECT stage, status FROM analytics_runs").fetchall())
    assert ended == dict.fromkeys(STAGES, "succeeded")
    assert "checks are well" in kept.output


def test_demo_says_where_its_report_is(kept: Kept) -> None:
    report = kept.folder / "report.html"
    assert f"Report: {report.as_uri()}" in kept.output
    assert report.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")


def test_demo_writes_plain_lines_into_a_pipe(kept: Kept) -> None:
    assert "\x1b" not in kept.output
    assert "\r" not in kept.output


def test_kept_demo_names_its_addresses_but_no_token(kept: Kept) -> None:
    said = kept.output + "".join(path.read_text() for path in (kept.folder / "logs").iterdir())
    for service in ("IRT", "FORECAST", "BRMS"):
        assert kept.env[f"R_{service}_BASE_URL"] in kept.output
        assert kept.env[f"R_{service}_INTERNAL_TOKEN"] not in said
    assert kept.env["DATABASE_URL"] in kept.output


def test_tokens_are_for_their_owner_only(kept: Kept) -> None:
    assert stat.S_IMODE((kept.folder / "env").stat().st_mode) == 0o600


def test_kept_demo_is_at_hand_in_a_shell(kept: Kept) -> None:
    ask = (
        'source "$1"; psql "$DATABASE_URL" --no-psqlrc -Atc "SELECT count(*) > 0 FROM attempt" && seed-analytics verify'
    )
    done = subprocess.run(
        ["bash", "-c", ask, "-", str(kept.folder / "env")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("t\n")


def test_second_demo_leaves_a_kept_one_alone(kept: Kept) -> None:
    code, output = run(kept.folder, *SMALL)
    assert code == ExitCode.TRY_LATER
    assert "already running here" in output
    with psycopg.connect(kept.env["DATABASE_URL"]) as conn:
        assert conn.execute("SELECT count(*) > 0 FROM attempt").fetchone() == (True,)


def test_stop_ends_every_process_and_removes_data_and_tokens(kept: Kept) -> None:
    state = State.read(kept.folder / "state.json")
    assert state
    assert len(state.running) == 4
    code, output = run(kept.folder, "stop")
    assert code == ExitCode.OK
    assert output.count("stopped ") == 4
    assert state.running == []
    assert not any(Path(folder).exists() for folder in state.folders)
    assert not (kept.folder / "env").exists()


@pytest.mark.parametrize("name", DATA)
def test_demo_of_a_public_data_set_runs_what_is_planned_for_it(tmp_path: Path, name: str) -> None:
    if not DATA[name].is_dir():
        pytest.skip("the files are not beside the project")
    try:
        demo = Kept(tmp_path, *run(tmp_path, "demo", "--keep", "--data", str(DATA[name])))
        assert demo.code == ExitCode.OK, demo.output
        with psycopg.connect(demo.env["DATABASE_URL"]) as conn:
            ended = dict(conn.execute("SELECT stage, status FROM analytics_runs").fetchall())
    finally:
        run(tmp_path, "stop")
    assert ended == dict.fromkeys(("compute-weekly-kpis", *PLANS[name].stages), "succeeded")


def test_failing_stage_ends_the_demo_with_its_code_and_stops_everything(tmp_path: Path) -> None:
    code, output = run(tmp_path, *SMALL, "--keep", MIRT_MODEL="3PL")
    assert code == ExitCode.CONFIG
    assert "MIRT_MODEL" in output
    assert f"calibrate-irt-weekly ended with {ExitCode.CONFIG:d}" in output
    assert not (tmp_path / "state.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "demo", "--learners", "5000", "--keep") as process:
        assert process.stdout
        for line in process.stdout:
            if "simulate" in line:
                break
        state = State.read(tmp_path / "state.json")
        assert state
        assert len(state.running) == 5  # itself, PostgreSQL and three services
        time.sleep(1)  # into the step
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 128 + number
    assert state.running == []
    assert not any(Path(folder).exists() for folder in state.folders)
