"""Each stage as a process of its own, 10,000 learners: wall time, and memory within 300 MB."""

from __future__ import annotations

from collections.abc import Iterator

from seed_analytics.local import RService
from seed_analytics.settings import SERVICES, STAGES

from benchmarks._measure import Row, simulated, stage, within

LEARNERS, WEEKS, MEMORY_MB = 10_000, 16, 300


def rows() -> Iterator[Row]:
    services = {prefix: RService(name) for prefix, name in SERVICES.items()}
    try:
        for service in services.values():
            service.start()
        with simulated(LEARNERS, WEEKS) as env:
            for prefix, service in services.items():
                service.wait_ready()
                env |= {f"{prefix}_BASE_URL": service.base_url, f"{prefix}_INTERNAL_TOKEN": service.token}
            for name in STAGES:
                wall, memory = stage(name, env)
                what = f"{name}, {LEARNERS:,} learners, {wall:.1f} s"
                yield within(what, memory, MEMORY_MB, "MB")
    finally:
        for service in services.values():
            service.stop()
