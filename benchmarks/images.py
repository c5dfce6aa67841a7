"""The images, within the limits of the chart: size, start to ready, memory, /healthz while fits run; build times.

Build times only with BENCH_BUILDS=true (`make bench-builds`): each image without its cache, from a base image that is
here, takes minutes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker
from containers import IMAGES, REGISTRY, SERVICES, VERSION, Containers, Service, serve
from docker.errors import DockerException, ImageNotFound
from fits import FITS

from benchmarks._measure import Row, within
from benchmarks.services import IDLE_MB, READY_SECS, health_under_load

ROOT = Path(__file__).resolve().parents[1]

SIZE_MB = {"seed-analytics-jobs": 400, "r-irt-plumber": 700, "r-forecast-plumber": 1000, "r-brms-plumber": 1200}
BUILD_SECS = dict.fromkeys(IMAGES, 120) | {"r-brms-plumber": 240}
STARTS, LOAD_SECS, FITS_BEFORE_MEMORY, GROWTH = 5, 60.0, 200, 1.2


def build(name: str) -> float:
    """Build an image without its cache and return the seconds; it is tagged apart and removed."""
    tag = "benchmark/"
    begun = time.perf_counter()
    make = ["make", f"image-{name}", f"REGISTRY={tag}", "BUILD_FLAGS=--no-cache"]
    made = subprocess.run(make, check=False, cwd=ROOT, capture_output=True, text=True)
    taken = time.perf_counter() - begun
    if made.returncode:
        raise RuntimeError(f"{' '.join(make)} ended with {made.returncode}:\n{made.stderr[-2000:]}")
    docker.from_env().images.remove(f"{tag}{name}:{VERSION}")
    return taken


def start(engine: docker.DockerClient, name: str) -> float:
    """Return the seconds from the start of a service's container to its being ready."""
    with Containers(engine) as containers:
        time.sleep(1)  # the one before is still being taken down
        container = serve(containers, name).container
        ready = datetime.now(UTC)
        container.reload()
        return (ready - datetime.fromisoformat(container.attrs["State"]["StartedAt"])).total_seconds()


def of_service(engine: docker.DockerClient, name: str) -> Iterator[Row]:
    taken = statistics.median(start(engine, name) for _ in range(STARTS))
    yield within(f"{name} image: started to ready, median of {STARTS}", taken, READY_SECS[name], "s")
    with Containers(engine) as containers:
        yield from of_running(serve(containers, name))


def of_running(service: Service) -> Iterator[Row]:
    name = service.name
    idle = service.memory_mb()
    yield within(f"{name} image: idle memory", idle, IDLE_MB, "MB")
    for path, body in FITS[name].items():
        for _ in range(FITS_BEFORE_MEMORY):
            service.post(path, body).raise_for_status()
        yield within(f"  after {FITS_BEFORE_MEMORY} of {path}", service.memory_mb(), GROWTH * idle, "MB")
    yield from health_under_load(f"{name} image", service, LOAD_SECS)


def rows() -> Iterator[Row]:
    try:
        engine = docker.from_env()
        engine.ping()
        sizes = {name: engine.images.get(f"{REGISTRY}{name}:{VERSION}").attrs["Size"] / 1e6 for name in IMAGES}
    except (DockerException, ImageNotFound) as error:
        yield Row("images", "not measured", f"{type(error).__name__}: is Docker here, and `make images` done?", "")
        return
    for name, size in sizes.items():
        yield within(f"{name} image: size", size, SIZE_MB[name], "MB")
    for name in SERVICES:
        yield from of_service(engine, name)
    if os.environ.get("BENCH_BUILDS") == "true":
        for name in IMAGES:
            yield within(f"{name} image: build without cache", build(name), BUILD_SECS[name], "s")
