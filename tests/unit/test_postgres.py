"""Which PostgreSQL a session has: said, and never another than was asked for."""

from __future__ import annotations

import pytest
from postgres import choose


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


def test_without_a_daemon_the_embedded_server_is_used_and_why_is_said() -> None:
    chosen = choose("auto")
    assert chosen.image is None
    assert "no Docker daemon answers" in chosen.why


def test_a_container_that_is_asked_for_and_cannot_be_is_an_error() -> None:
    with pytest.raises(pytest.UsageError, match="no daemon answers"):
        choose("container")


def test_the_embedded_server_that_is_asked_for_needs_no_daemon() -> None:
    assert choose("embedded").image is None
