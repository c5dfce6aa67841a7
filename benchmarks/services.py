"""The R services: time to ready, idle memory within 400 MB, /healthz within 50 ms while a fit runs."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
from seed_analytics.local import RService
from seed_analytics.settings import SERVICES

from benchmarks._measure import Row, resident_mb, within

IDLE_MB, HEALTH_MS, READY_SECS = 400, 50, {"r-irt-plumber": 2, "r-forecast-plumber": 5, "r-brms-plumber": 6}
CLIENTS, LOAD_SECS = 8, 15.0


def long_fit(service: RService, stopped: threading.Event) -> None:
    """Keep the service's worker busy: a calibration of 4,000 learners and 300 items, again and again."""
    rng = np.random.default_rng(1)
    users, items = 4000, 300
    theta, b = rng.standard_normal(users), rng.standard_normal(items)
    user, item = np.repeat(np.arange(users), 60), rng.integers(0, items, users * 60)
    pairs = np.unique(np.column_stack([user, item]), axis=0)
    right = rng.random(len(pairs)) < 1 / (1 + np.exp(-(theta[pairs[:, 0]] - b[pairs[:, 1]])))
    responses = {
        "user_id": [f"u{n}" for n in pairs[:, 0]],
        "item_id": [f"i{n}" for n in pairs[:, 1]],
        "correct": right.astype(int).tolist(),
    }
    headers = {"authorization": f"Bearer {service.token}"}
    while not stopped.is_set():
        reply = httpx.post(
            f"{service.base_url}/irt/calibrate", json={"responses": responses}, headers=headers, timeout=300
        )
        reply.raise_for_status()


def health_under_load(service: RService, secs: float = LOAD_SECS) -> tuple[float, int, int]:
    """Return the 99th percentile of /healthz in ms, the requests and the failures, while fits run."""
    stopped, times, failed = threading.Event(), [], []
    fitting = threading.Thread(target=long_fit, args=(service, stopped))
    fitting.start()
    time.sleep(1)
    deadline = time.monotonic() + secs

    def client() -> None:
        with httpx.Client(headers={"connection": "close"}) as http:
            while time.monotonic() < deadline:
                begun = time.perf_counter()
                try:
                    http.get(f"{service.base_url}/healthz", timeout=5).raise_for_status()
                    times.append(time.perf_counter() - begun)
                except httpx.HTTPError as error:
                    failed.append(error)
                time.sleep(0.02)  # a probe and a few dashboards, not a flood

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    stopped.set()
    fitting.join()
    return 1000 * statistics.quantiles(times, n=100)[98], len(times), len(failed)


def rows() -> Iterator[Row]:
    for name in SERVICES.values():
        begun = time.perf_counter()
        with RService(name) as service:
            yield within(f"{name}: start to ready", time.perf_counter() - begun, READY_SECS[name], "s")
            yield within(f"{name}: idle memory", resident_mb(service.pid), IDLE_MB, "MB")
            if name == "r-irt-plumber":
                p99, asked, failed = health_under_load(service)
                yield within(f"{name}: /healthz p99 in fits, {asked} asked, {failed} failed", p99, HEALTH_MS, "ms")
