"""What the benchmarks share: a row, a stopwatch that alternates with the peer, memory, and a filled database."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from seed_analytics import migrations
from seed_analytics.local import Postgres
from seed_analytics.platform_tables import create_platform_tables
from seed_analytics.simulate import simulate


@dataclass(frozen=True)
class Row:
    """One line of the table; `ratio` is measured / peer, so that below 1 is better; `well`: not beyond its bound."""

    what: str
    measured: str
    against: str
    ratio: str
    well: bool = True


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def beside(
    what: str,
    ours: Callable[[], object],
    name: str,
    peer: Callable[[], object],
    *,
    runs: int = 5,
    warm_up: bool = True,
) -> Row:
    """Time ours and the peer in turn, after a warm-up of each unless one run of the peer takes minutes."""
    if warm_up:
        ours()
        peer()
    times = [(seconds(ours), seconds(peer)) for _ in range(runs)]
    mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    return Row(what, f"{mine:.3g} s", f"{name}: {theirs:.3g} s", f"{ratio:.2g}")


def within(what: str, value: float, bound: float, unit: str) -> Row:
    return Row(what, f"{value:.3g} {unit}", f"bound: {bound:g} {unit}", f"{value / bound:.2g}", value <= bound)


def none(what: str, count: int) -> Row:
    return Row(what, f"{count}", "bound: 0", "0" if count == 0 else "inf", count == 0)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all its children, MB."""
    process = psutil.Process(pid)
    return float(sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))) / 2**20


@contextmanager
def simulated(learners: int, weeks: int) -> Iterator[dict[str, str]]:
    """A database with simulated learners and their KPIs; gives the environment that reaches it."""
    with Postgres() as server:
        env = {"DATABASE_URL": server.create_database("bench")}
        migrations.migrate(env["DATABASE_URL"])
        with psycopg.connect(env["DATABASE_URL"], autocommit=True) as conn:
            create_platform_tables(conn)
            simulate(conn, learners=learners, weeks=weeks, seed=1)
        stage("compute-weekly-kpis", env | {"KPI_LOOKBACK_WEEKS": str(weeks)})
        yield env


def stage(name: str, env: dict[str, str]) -> tuple[float, float]:
    """Run a stage as a pod does and return its wall seconds and its peak resident memory, MB."""
    command = [sys.executable, "-m", "seed_analytics.cli", name]
    begun, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as shown:
        process = subprocess.Popen(command, env=os.environ | env, stderr=shown)
        # Not ru_maxrss: that starts at the size of the process that spawned this one.
        while process.poll() is None:
            peak = max(peak, _high_water_mb(process.pid))
            time.sleep(0.01)
        wall = time.perf_counter() - begun
        if process.returncode:
            shown.seek(0)
            raise SystemExit(f"{name} ended with {process.returncode}:\n{shown.read().decode()}")
    return wall, peak


def _high_water_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)  # gone once the process has ended
    return int(found[1]) / 1024 if found else 0.0
