"""A second `make demo` (500 learners, 16 weeks, every stage, report): within a minute."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import Row, within

DEMO_SECS = 60


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "seed_analytics.cli", "demo"],
            env=os.environ | {"REPORT_PATH": str(Path(folder) / "report.html")},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        yield within("demo: 500 learners, 16 weeks", time.perf_counter() - begun, DEMO_SECS, "s")
