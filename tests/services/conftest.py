"""The three services in turn, and services started apart with settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fits import FITS
from seed_analytics.local import RService


@pytest.fixture(params=FITS, scope="session")
def service(request: pytest.FixtureRequest, services: dict[str, RService]) -> RService:
    """Each of the three services in turn."""
    return services[request.param]


@pytest.fixture
def start() -> Iterator[Callable[..., RService]]:
    """Start r-forecast-plumber with settings of its own: ``start(QUEUE_LENGTH="0")``."""
    started = []

    def start_service(*, token: str | None = None, ready: bool = True, **env: str) -> RService:
        service = RService("r-forecast-plumber", token=token, env=env)
        started.append(service)
        service.start()
        if ready:
            service.wait_ready()
        return service

    yield start_service
    for service in started:
        service.stop()
