"""Children on a laptop: PostgreSQL and services start, say why they do not, and never outlive whom they belong to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from seed_analytics import demo, local
from seed_analytics.errors import TryLater, Unavailable
from seed_analytics.local import Postgres, Recorded, RService
from support import until

WAIT_SECS = 20.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def recorded(process: subprocess.Popen[bytes]) -> Recorded:
    return Recorded.of("sleeper", process.pid, signal.SIGTERM)


def parent_of_postgres(*, keep: bool) -> tuple[subprocess.Popen[str], Recorded, Path]:
    """Start a process that starts PostgreSQL; return it, its child and the child's folder."""
    script = f"""
        import time
        from seed_analytics.local import Postgres
        with Postgres(keep={keep}) as server:
            child = server.recorded
            print(child.pid, child.started, child.stop_signal, server.folder, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid, started, number, folder = parent.stdout.readline().split()
    return parent, Recorded("PostgreSQL", int(pid), int(started), int(number)), Path(folder)


class TestPostgres:
    def test_answers_in_utf8_and_utc_whatever_the_shell_is_set_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")
        monkeypatch.setenv("PGPORT", "1")
        with Postgres() as server:
            url = server.create_database("learners")
            with psycopg.connect(url) as conn:
                shown = conn.execute("SELECT current_database(), 'ñ', current_setting('timezone')").fetchone()
                encoding = conn.execute("SHOW server_encoding").fetchone()
        assert shown == ("learners", "ñ", "UTC")
        assert encoding == ("UTF8",)

    def test_leaves_nothing_behind(self) -> None:
        with Postgres() as server:
            child, folder = server.recorded, server.folder
            assert child.running
            assert folder.is_dir()
        assert not child.running
        assert not folder.exists()

    def test_does_not_listen_on_the_network(self) -> None:
        with Postgres() as server, psycopg.connect(server.url()) as conn:
            assert conn.execute("SHOW listen_addresses").fetchone() == ("",)

    def test_ends_when_its_parent_is_killed(self) -> None:
        parent, child, folder = parent_of_postgres(keep=False)
        with parent:
            assert child.running
            parent.kill()
        try:
            until(lambda: not child.running, WAIT_SECS)
        finally:
            child.stop()
            shutil.rmtree(folder)

    def test_outlives_its_parent_when_kept_and_ends_when_told(self) -> None:
        parent, child, folder = parent_of_postgres(keep=True)
        with parent:
            parent.kill()
        time.sleep(0.5)
        assert child.running
        assert child.stop()
        assert not child.running
        shutil.rmtree(folder)


class TestRecorded:
    def test_stops_the_process_that_it_recorded(self, sleeper: subprocess.Popen[bytes]) -> None:
        assert recorded(sleeper).stop()
        assert sleeper.wait(WAIT_SECS) == -signal.SIGTERM

    def test_leaves_another_process_alone_that_has_got_its_pid(self, sleeper: subprocess.Popen[bytes]) -> None:
        earlier = recorded(sleeper)
        earlier = Recorded(earlier.name, earlier.pid, earlier.started - 1, earlier.stop_signal)
        assert not earlier.running
        assert not earlier.stop()
        assert sleeper.poll() is None

    def test_of_an_ended_process_is_not_running(self, sleeper: subprocess.Popen[bytes]) -> None:
        sleeper.kill()
        sleeper.wait()
        assert not recorded(sleeper).running

    def test_kills_what_does_not_end_on_its_signal(self) -> None:
        stubborn = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"]
        with subprocess.Popen(stubborn, start_new_session=True, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            assert recorded(process).stop(wait_secs=0.2)
            assert process.wait(WAIT_SECS) == -signal.SIGKILL


class TestRService:
    def test_that_cannot_start_is_reported_with_the_end_of_its_log(self, tmp_path: Path) -> None:
        service = RService("r-no-such-plumber", log_path=tmp_path / "log")
        with pytest.raises(Unavailable, match=r"(?s)r-no-such-plumber ended with status 64.*there is no .*plumber\.R"):
            service.__enter__()

    def test_makes_up_a_token_of_its_own(self, tmp_path: Path) -> None:
        tokens = {RService("r-irt-plumber", log_path=tmp_path / "log").token for _ in range(3)}
        assert len(tokens) == 3
        assert min(map(len, tokens)) >= 32


def test_tail_is_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert local.tail(log, 2) == "  | line 98\n  | line 99"


class TestDemoState:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(demo, "_folder", lambda: tmp_path)
        return tmp_path

    def left_behind(self, folder: Path, process: subprocess.Popen[bytes]) -> Path:
        """Write the state of a demo that left one process and one folder; return the latter."""
        data = folder / "data"
        data.mkdir()
        demo.State(folder / "state.json", [recorded(process)], [str(data)]).write()
        (folder / "env").write_text("export R_IRT_INTERNAL_TOKEN=secret\n")
        return data

    def test_stop_ends_what_a_demo_left_and_removes_its_data_and_tokens(
        self, folder: Path, sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = self.left_behind(folder, sleeper)
        demo.stop()
        assert sleeper.wait(WAIT_SECS) == -signal.SIGTERM
        assert f"stopped sleeper (pid {sleeper.pid})" in capsys.readouterr().out
        assert not data.exists()
        assert list(folder.iterdir()) == []

    def test_stop_says_so_when_nothing_runs(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        demo.stop()
        assert "Nothing of a demo is running" in capsys.readouterr().out

    def test_a_second_demo_does_not_start_beside_the_first(
        self, folder: Path, sleeper: subprocess.Popen[bytes]
    ) -> None:
        self.left_behind(folder, sleeper)
        with pytest.raises(TryLater, match="already running here"):
            demo.demo()
        assert sleeper.poll() is None

    def test_a_demo_that_was_killed_is_no_obstacle(self, folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
        data = self.left_behind(folder, sleeper)
        sleeper.kill()
        sleeper.wait()
        state = demo._claim(folder)
        assert [process.pid for process in state.running] == [os.getpid()]
        assert not data.exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_signals_end_it_in_order_with_the_shells_exit_code(self, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        with pytest.raises(SystemExit) as ended, demo._told_to_stop():
            signal.raise_signal(number)
        assert ended.value.code == 128 + number
        assert signal.getsignal(number) is before
