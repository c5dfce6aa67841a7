"""The R services: time to ready, idle memory within 400 MB, /healthz within 50 ms while fits run, full queues."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any, TypeAlias

import httpx
from containers import HTTP, Service
from fits import FITS, LONG
from seed_analytics.local import RService
from seed_analytics.settings import SERVICES

from benchmarks._measure import Row, none, resident_mb, within

IDLE_MB, HEALTH_MS, READY_SECS = 400, 50, {"r-irt-plumber": 2, "r-forecast-plumber": 5, "r-brms-plumber": 6}
CLIENTS, LOAD_SECS, REFUSALS = 8, 15.0, 30


Asked: TypeAlias = RService | Service  # of the working tree, or in a container


def _send(url: str, token: str, body: dict[str, Any]) -> httpx.Response:
    reply: httpx.Response = HTTP.post(url, json=body, headers={"authorization": f"Bearer {token}"}, timeout=1200)
    return reply


def post(service: Asked, path: str, body: dict[str, Any]) -> httpx.Response:
    return _send(service.base_url + path, service.token, body)


def _fit(url: str, token: str, body: dict[str, Any], begun: Event, stopped: Event, ended: Synchronized[int]) -> None:
    begun.set()
    while not stopped.is_set():
        _send(url, token, body).raise_for_status()
        ended.value += 1


@contextmanager
def fitting(service: Asked) -> Iterator[Synchronized[int]]:
    """Keep the service's worker busy with long fits; gives how many have ended, and raises where one failed.

    They are asked for by a process of its own: a reply of megabytes would keep clients in this one from theirs.
    """
    spawn, (path, body) = multiprocessing.get_context("spawn"), LONG[service.name]
    begun, stopped, ended = spawn.Event(), spawn.Event(), spawn.Value("i", 0)
    caller = spawn.Process(target=_fit, args=(service.base_url + path, service.token, body, begun, stopped, ended))
    caller.start()
    begun.wait(60)
    time.sleep(1)
    try:
        yield ended
    finally:
        stopped.set()
        caller.join()
    if caller.exitcode:
        raise SystemExit(f"{service.name}: a fit of {path} failed")


def health_under_load(what: str, service: Asked, secs: float = LOAD_SECS) -> Iterator[Row]:
    """Ask for /healthz by several clients while fits run."""
    times, failed = list[float](), list[httpx.HTTPError]()

    def client(deadline: float) -> None:
        with httpx.Client(headers={"connection": "close"}) as http:
            while time.monotonic() < deadline:
                begun = time.perf_counter()
                try:
                    http.get(f"{service.base_url}/healthz", timeout=5).raise_for_status()
                    times.append(time.perf_counter() - begun)
                except httpx.HTTPError as error:
                    failed.append(error)
                time.sleep(0.02)  # a probe and a few dashboards, not a flood

    with fitting(service) as fits, ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, [time.monotonic() + secs] * CLIENTS))
    p99 = 1000 * statistics.quantiles(times, n=100)[98]
    yield within(f"{what}: /healthz p99 during {fits.value} fits, {len(times)} asked", p99, HEALTH_MS, "ms")
    yield none("  of these failed", len(failed))


def refusals(name: str) -> Iterator[Row]:
    """Ask for fits that the queue has no room for."""
    path, body = next(iter(FITS[name].items()))
    with RService(name, env={"QUEUE_LENGTH": "0"}) as service, ThreadPoolExecutor(1) as pool:
        long = pool.submit(post, service, *LONG[name])
        time.sleep(1)
        begun, replies = time.perf_counter(), [post(service, path, body) for _ in range(REFUSALS)]
        mean = 1000 * (time.perf_counter() - begun) / REFUSALS
        if long.done():
            raise SystemExit(f"{name}: the fit was over before {REFUSALS} others were refused")
        long.result().raise_for_status()
    other = sum(reply.status_code != 503 or int(reply.headers["retry-after"]) < 1 for reply in replies)
    yield within(f"{name}: a full queue's refusal, mean of {REFUSALS}", mean, HEALTH_MS, "ms")
    yield none("  of these other than 503 with Retry-After", other)


def rows() -> Iterator[Row]:
    for name in SERVICES.values():
        begun = time.perf_counter()
        with RService(name) as service:
            yield within(f"{name}: start to ready", time.perf_counter() - begun, READY_SECS[name], "s")
            yield within(f"{name}: idle memory", resident_mb(service.pid), IDLE_MB, "MB")
            yield from health_under_load(name, service)
        yield from refusals(name)
