"""The whole pipeline on one machine: ``seed-analytics demo``, and ``stop`` for what it was asked to leave running.

Every step is the command that a pod runs, as a process of its own with its settings in the environment. The folder
``.demo`` of the checkout holds the logs, what runs (``state.json``) and how to reach it (``env``, for its owner only).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

import click
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from seed_analytics.errors import ExitCode, StageError, TryLater
from seed_analytics.local import Child, Postgres, Recorded, RService, checkout, postgres_binaries, tail
from seed_analytics.settings import MODEL_STAGES, SERVICES, STAGES

DATABASE = "seedtest"


@dataclass(frozen=True)
class Plan:
    """What is run on a data set.

    Attributes:
        stages: those that the data hold enough for.
        env: settings that suit the data; the user's own environment wins.

    """

    stages: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


SIMULATED = Plan(MODEL_STAGES)
PLANS = {
    # One graded submission a learner and month is no weekly score, but daily clicks are engagement; no item is answered
    # by learners who also answered enough others.
    "oulad": Plan(
        tuple(stage for stage in MODEL_STAGES if stage != "calibrate-irt-weekly"),
        {"BRMS_SCORE_SOURCE": "A_t", "PROPHET_METRICS": "A_t", "PROPHET_LOOKBACK_WEEKS": "30"},
    ),
    # Learners practised for days, not months; in two conditions with items of their own, to which they came by chance.
    "memphis": Plan(("calibrate-irt-weekly",), {"MIRT_EQUAL_GROUPS": "true"}),
}
"""Name of a public data set (`datasets.ADAPTERS`) -> what is run on it."""

MAX_KPI_WEEKS = 520  # KPI_LOOKBACK_WEEKS takes no more
OTHER_STEPS = 7  # all but the plan's stages
STOP_SECS = 15.0


@dataclass
class State:
    """What a demo has running, on disk, so that `stop` finds it.

    Attributes:
        processes: the demo itself, while it runs, and its children.
        folders: to be removed when these have ended.

    """

    path: Path
    processes: list[Recorded] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> State | None:
        """Return the state that a demo left, or None where there is none."""
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(path, [Recorded(**process) for process in held["processes"]], held["folders"])

    def write(self) -> None:
        """Write it whole, or not at all."""
        partial = self.path.with_suffix(".partial")
        held = {"processes": [asdict(process) for process in self.processes], "folders": self.folders}
        partial.write_text(json.dumps(held, indent=2), encoding="utf-8")
        partial.replace(self.path)

    @property
    def running(self) -> list[Recorded]:
        """What of it still runs."""
        return [process for process in self.processes if process.running]


def _folder() -> Path:
    return checkout() / ".demo"


def stop() -> ExitCode:
    """End what ``demo`` left running, or a demo that is under way; say what that was."""
    folder = _folder()
    state = State.read(folder / "state.json")
    running = state.running if state else []
    # The demo itself comes first: told to stop, it stops its children.
    for process in running:
        if process.stop(STOP_SECS):
            click.echo(f"stopped {process.name} (pid {process.pid})")
    if not running:
        click.echo("Nothing of a demo is running.")
    if state:
        _forget(state)
    return ExitCode.OK


def _forget(state: State) -> None:
    for path in state.folders:
        shutil.rmtree(path, ignore_errors=True)
    for name in ("state.json", "env"):
        (state.path.parent / name).unlink(missing_ok=True)


class _Steps:
    """Runs commands one after the other and shows how far they are: a bar on a terminal, lines elsewhere."""

    def __init__(self, total: int, env: Mapping[str, str], logs: Path) -> None:
        self._env = {**env, "LOG_FORMAT": "plain", "PYTHONUNBUFFERED": "1"}
        self._logs = logs
        self._total = total
        self._done = 0
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> _Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show one step while the block runs."""
        self._done += 1
        self.say(f"[{self._done}/{self._total}] {name}", "bold")
        self._bar.update(self._task, description=name)
        begun = time.monotonic()
        yield
        self._bar.update(self._task, advance=1)
        self.say(f"  {time.monotonic() - begun:.1f} s")

    def run(self, name: str, *flags: str, **env: str) -> int:
        """Run ``seed-analytics NAME FLAGS`` and return its exit code; what it says is shown and kept."""
        command = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "seed_analytics.cli", name, *flags]
        with (
            (self._logs / f"{name}.log").open("w", encoding="utf-8") as log,
            subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**self._env, **env},
                start_new_session=True,
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    log.write(line)
                    self.say("  " + line.rstrip(), "dim")
            except BaseException:
                process.terminate()  # it rolls back and says so in analytics_runs
                raise
        return process.returncode


class _Failed(StageError):
    """A step of the demo failed, and said why."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code) if code in list(ExitCode) else ExitCode.INTERNAL


class _Demo:
    """The servers of one demo and the steps that run against them."""

    def __init__(self, folder: Path, steps: _Steps, plan: Plan, *, keep: bool) -> None:
        self._folder = folder
        self._plan = plan
        self._steps = steps
        self._state = _claim(folder)
        self._keep = keep
        self._faults: list[tuple[str, int]] = []
        logs = folder / "logs"
        self._postgres = Postgres(log_path=logs / "postgresql.log", keep=keep)
        self._state.folders.append(str(self._postgres.folder))
        # Who presses Ctrl-C does not want the answer to a fit.
        env = {"SHUTDOWN_GRACE_SECS": "2"}
        self._services = {
            name: RService(name, env=env, log_path=logs / f"{name}.log", keep=keep) for name in SERVICES.values()
        }
        self._children: list[Child] = [self._postgres, *self._services.values()]

    def __enter__(self) -> Self:
        """Start all servers and wait for PostgreSQL; the services load their models while the log is being filled."""
        try:
            with self._steps.step("PostgreSQL"):
                for child in self._children:
                    child.start()
                    self._state.processes.append(child.recorded)
                    self._state.write()
                self._postgres.wait_ready()
                self._postgres.create_database(DATABASE)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what was started, unless it is to be kept and all went well enough to be of use."""
        if error or not self._keep:
            self._stop()
            return
        self._state.processes = self._state.processes[1:]  # all but ourselves
        self._state.write()
        self._steps.say(f"Still running, until `make stop`:\n  DATABASE_URL={shlex.quote(self._url)}")
        for name, service in self._services.items():
            self._steps.say(f"  {name:20} {service.base_url}")
        self._steps.say(f"All of it with the services' tokens, for a shell: source {self._write_env()}")

    def _stop(self) -> None:
        for child in reversed(self._children):
            child.stop(STOP_SECS)
        _forget(self._state)

    @property
    def _url(self) -> str:
        return self._postgres.url(DATABASE)

    @property
    def _env(self) -> dict[str, str]:
        """Variables by which a command finds everything; they are whole only when the services are ready."""
        env = {"DATABASE_URL": self._url}
        for prefix, name in SERVICES.items():
            env[f"{prefix}_BASE_URL"] = self._services[name].base_url
            env[f"{prefix}_INTERNAL_TOKEN"] = self._services[name].token
        return env

    def _command(self, name: str, *flags: str, env: Mapping[str, str]) -> None:
        """Run a command as one step.

        Raises:
            _Failed: it did not end well. What stands in nobody's way is remembered instead: a rejected fit, since the
                last good numbers stay, and `verify`, since the report shows what is wrong.

        """
        with self._steps.step(name):
            code = self._steps.run(name, *flags, **env)
        if code == ExitCode.REJECTED or (code and name == "verify"):
            self._faults.append((name, code))
        elif code:
            service = STAGES[name].service if name in STAGES else None
            if service:
                log = self._services[service].log_path
                self._steps.say(f"The end of {log}:\n{tail(log)}")
            raise _Failed(f"{name} ended with {code}; what it said is above and in {self._folder / 'logs'}", code)

    def fill(self, learners: int, weeks: int, seed: int, data: Path | None) -> None:
        """Create all tables, fill the platform's, and compute the KPIs of every week."""
        env = {"DATABASE_URL": self._url}
        self._command("migrate", "--with-platform-tables", env=env)
        if data is None:
            self._command(
                *("simulate", "--learners", str(learners), "--weeks", str(weeks), "--seed", str(seed)), env=env
            )
        else:
            self._command("load", str(data.resolve()), env=env)
        with psycopg.connect(self._url) as conn:
            kpi_weeks = conn.execute(
                "SELECT least(%s, ceil(extract(epoch FROM now() - min(started_at)) / 604800)) FROM attempt",
                [MAX_KPI_WEEKS],
            ).fetchone()
        self._command("compute-weekly-kpis", f"--kpi-lookback-weeks={kpi_weeks[0] if kpi_weeks else 0}", env=env)

    def fit(self, report: Path) -> None:
        """Run the plan's stages, verify them and write the report.

        Raises:
            _Failed: a command did not end well.

        """
        with self._steps.step("R services"):
            for service in self._services.values():
                service.wait_ready()
        env = self._env | {"VERIFY_STAGES": ",".join(self._plan.stages), "REPORT_PATH": str(report)}
        for command in (*self._plan.stages, "verify", "report"):
            self._command(command, env=env)
        self._steps.say(f"Report: {report.as_uri()}")

    def judge(self) -> None:
        """Raise what was remembered.

        Raises:
            _Failed: a fit was rejected or `verify` found a fault; with the exit code of the first.

        """
        if self._faults:
            said = "; ".join(
                f"{name} was rejected: nothing of it was published" if code == ExitCode.REJECTED else f"{name} failed"
                for name, code in self._faults
            )
            raise _Failed(f"{said}. The reason is above and in the report.", self._faults[0][1])

    def _write_env(self) -> Path:
        """Write the file that a shell can source to reach what is left running; it holds tokens."""
        path = self._folder / "env"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            for name, value in self._env.items():
                file.write(f"export {name}={shlex.quote(value)}\n")
            programs = f"{Path(sys.executable).parent}:{postgres_binaries()}"
            file.write(f"export PATH={shlex.quote(programs)}:$PATH  # seed-analytics, psql\n")
        return path


def demo(
    *, learners: int = 500, weeks: int = 16, seed: int = 1, data: Path | None = None, keep: bool = False
) -> ExitCode:
    """Run the whole pipeline here: servers, tables, learners, every stage, verify, report.

    Args:
        learners: number of simulated learners.
        weeks: length of their log.
        seed: of the simulation.
        data: folder of a public data set to load instead; stages and settings are then those of its plan.
        keep: leave PostgreSQL and the services running; `stop` ends them.

    Returns:
        OK.

    Raises:
        TryLater: a demo is already running or was kept.
        StageError: a step failed, with that step's exit code.

    """
    folder = _folder()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    report = Path(os.environ.get("REPORT_PATH", "report.html")).resolve()
    plan = SIMULATED if data is None else _plan_for(data)
    settings = {**plan.env, **os.environ}
    with _told_to_stop(), _Steps(len(plan.stages) + OTHER_STEPS, settings, folder / "logs") as steps:
        with _Demo(folder, steps, plan, keep=keep) as run:
            run.fill(learners, weeks, seed, data)
            run.fit(report)
        run.judge()
    return ExitCode.OK


def _plan_for(data: Path) -> Plan:
    from seed_analytics.datasets import recognise  # noqa: PLC0415 - reads Parquet, which takes a while to load

    name = recognise(data)
    return PLANS.get(name, SIMULATED) if name else SIMULATED  # `load` is about to say which data sets it knows


def _claim(folder: Path) -> State:
    """Return the state of a new demo, unless one is running.

    Raises:
        TryLater: one is.

    """
    path = folder / "state.json"
    before = State.read(path)
    if before and before.running:
        names = ", ".join(process.name for process in before.running)
        how = f"Use it (source {folder / 'env'})" if (folder / "env").exists() else "Wait for it"
        raise TryLater(f"A demo is already running here ({names}). {how}, or end it with `make stop`.")
    if before:  # it was killed without a word
        _forget(before)
    state = State(path, [Recorded.of("demo", os.getpid(), signal.SIGTERM)])
    state.write()
    return state


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into an orderly end, once: what comes after must not break that end."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
