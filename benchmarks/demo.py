"""A second `make demo` (500 learners, 16 weeks, every stage, report): in a minute, its growth fit in 5 seconds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from seed_analytics.local import checkout

from benchmarks._measure import Row, within

DEMO_SECS, SAMPLING_SECS = 60, 5
COMMAND = (sys.executable, "-m", "seed_analytics.cli")
FIT_SECS = "SELECT (timings ->> 'fit')::float FROM analytics_runs WHERE stage = 'fit-bayesian-growth'"


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"REPORT_PATH": str(Path(folder) / "report.html")}
        try:
            begun = time.perf_counter()
            subprocess.run([*COMMAND, "demo", "--keep"], env=env, stdout=subprocess.DEVNULL, check=True)
            yield within("demo: 500 learners, 16 weeks", time.perf_counter() - begun, DEMO_SECS, "s")
            text = (checkout() / ".demo" / "env").read_text()
            (url,) = shlex.split(re.search("^export DATABASE_URL=(.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
            with psycopg.connect(url) as conn:
                fit = conn.execute(FIT_SECS).fetchone()[0]  # type: ignore[index]
            yield within("  its growth fit, asked by the stage: Stan and what is made of it", fit, SAMPLING_SECS, "s")
        finally:
            subprocess.run([*COMMAND, "stop"], stdout=subprocess.DEVNULL, check=True)
