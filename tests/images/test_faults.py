"""Trouble that only a container's limits make: no memory left, no room in /tmp; and clients that never finish asking."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from containers import SERVICES, Containers, Service, serve
from docker.types import Ulimit
from fits import FITS

SMALL_TMP = "exec,mode=1777,size=64m"


def fit(service: Service, **more: object) -> httpx.Response:
    path, body = next(iter(FITS[service.name].items()))
    return service.post(path, body | more)


def assert_problem(reply: httpx.Response, *statuses: int) -> None:
    assert reply.status_code in statuses, reply.text[:500]
    assert reply.headers["content-type"] == "application/problem+json"


def healthy(service: Service) -> bool:
    reply = service.get("/healthz")
    return reply is not None and reply.status_code == 200


def killed(service: Service) -> int:
    """How many processes the kernel has killed for want of memory, by the first or second version of cgroups."""
    folder = "/sys/fs/cgroup"
    files = f"cat {folder}/memory.events {folder}/memory/memory.oom_control 2>/dev/null"
    lines = service.container.exec_run(["sh", "-c", files]).output.decode().splitlines()
    return next(int(count) for name, count in map(str.split, lines) if name == "oom_kill")


def much(service: str) -> tuple[str, dict[str, object]]:
    """Return a request with thousands of copies of the rows of a small one: 8 to 18 MB, of which no fit fits into 450."""
    path, body = next(iter(FITS[service].items()))
    name = {"r-irt-plumber": "responses", "r-forecast-plumber": "visits", "r-brms-plumber": "rows"}[service]
    copies = 400_000 // len(body[name]["user_id"])
    many = {column: values * copies for column, values in body[name].items()}
    many["user_id"] = [f"{user}-{row // 1000}" for row, user in enumerate(many["user_id"])]
    return path, body | {name: many}


@pytest.mark.parametrize("name", SERVICES)
def test_a_fit_that_is_out_of_memory_fails_alone(containers: Containers, name: str) -> None:
    service = serve(containers, name, mem_limit="450m", memswap_limit="450m")
    assert_problem(service.post(*much(name)), 500, 503)
    assert healthy(service)
    assert fit(service).status_code == 200
    assert killed(service) > 0, "nothing was short of memory"


def fill_tmp(service: Service, *, left_kb: int) -> None:
    fill = f"cat /dev/zero >/tmp/filled; truncate -s -{left_kb}K /tmp/filled"
    assert b"No space left" in service.container.exec_run(["sh", "-c", fill]).output


def empty_tmp(service: Service) -> None:
    assert service.container.exec_run(["rm", "/tmp/filled"]).exit_code == 0  # noqa: S108 - in the container


@pytest.mark.parametrize("name", SERVICES)
def test_a_full_tmp_stops_no_service(containers: Containers, name: str) -> None:
    service = serve(containers, name, tmpfs={"/tmp": SMALL_TMP})  # noqa: S108 - in the container
    fill_tmp(service, left_kb=0)
    assert_problem(fit(service), 500, 503)
    assert healthy(service)
    empty_tmp(service)
    assert fit(service).status_code == 200


def test_a_body_that_tmp_has_no_room_for_is_not_taken_for_another(containers: Containers) -> None:
    service = serve(containers, "r-irt-plumber", tmpfs={"/tmp": SMALL_TMP})  # noqa: S108 - in the container
    fill_tmp(service, left_kb=1024)
    assert fit(service).status_code == 200
    path, body = next(iter(FITS[service.name].items()))
    reply = service.post(path, body | {"more": "x" * 5_000_000})
    assert_problem(reply, 503)
    assert reply.json()["type"] == "urn:seed-analytics:problem:unavailable"
    assert fit(service).status_code == 200, "what was written of the body was left behind"


def test_a_reply_that_tmp_has_no_room_for_is_not_cut_short(containers: Containers) -> None:
    service = serve(containers, "r-forecast-plumber", tmpfs={"/tmp": SMALL_TMP})  # noqa: S108 - in the container
    fill_tmp(service, left_kb=1024)
    # Its body has 450 kB, its reply 800: /tmp has room for the one or the other.
    users = [str(user) for user in range(30_000)]
    score = {"user_id": users, "days_away": [3] * len(users), "x": [0.5] * len(users)}
    reply = service.post("/survival/fit", FITS[service.name]["/survival/fit"] | {"score": score})
    assert_problem(reply, 503)
    assert reply.json()["type"] == "urn:seed-analytics:problem:unavailable"
    assert fit(service).status_code == 200, "what was written of the reply was left behind"


@contextmanager
def never_finishing(service: Service, clients: int, token: str, *, body: str = "{", pause: float = 0) -> Iterator[None]:
    """Clients that have sent their head and, after a pause, a first byte, or a part of the head and no body, and then
    send nothing more.
    """
    address = urlsplit(service.base_url)
    path = next(iter(FITS[service.name]))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    more = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n" if body else ""
    with ExitStack() as stack:
        opened = []
        for _ in range(clients):
            opened.append(stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=10)))
            opened[-1].sendall((head + more).encode())
            # A burst would fill the kernel's queue of connections, and who comes then waits for seconds.
            time.sleep(0.01)
        time.sleep(pause)
        for client in opened:
            client.sendall(body.encode())
        time.sleep(0.5)  # the service is to see the bytes
        yield


def test_clients_that_never_finish_keep_nobody_waiting(service: Service) -> None:
    with never_finishing(service, 50, service.token), never_finishing(service, 50, service.token, body=""):
        assert healthy(service)
        assert fit(service).status_code == 200


@pytest.mark.parametrize("pause", [0, 1.5], ids=["at once", "a while after the head"])
def test_any_number_of_clients_without_the_token_keep_nobody_waiting(service: Service, pause: float) -> None:
    with never_finishing(service, 300, "wrong", pause=pause):  # R has 128 connections
        assert healthy(service)
        assert fit(service).status_code == 200


def test_more_half_heads_than_a_process_usually_may_open_keep_nobody_waiting(containers: Containers) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))  # of this process, their client
    try:
        limit = Ulimit(name="nofile", soft=1024, hard=4096)
        service = serve(containers, "r-irt-plumber", ulimits=[limit])
        with never_finishing(service, 1100, service.token, body=""):
            assert healthy(service)
            assert fit(service).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("pause", [0, 1.5], ids=["at once", "a while after the head"])
def test_clients_with_the_token_that_never_finish_are_too_many_until_they_are_gone(
    service: Service, pause: float
) -> None:
    with never_finishing(service, 150, service.token, pause=pause):
        assert healthy(service)
        assert_problem(fit(service), 503)
    service.wait(lambda: fit(service).status_code == 200, "it fits again")
