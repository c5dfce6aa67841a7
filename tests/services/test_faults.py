"""How a service bears trouble: long fits, full queues, killed workers, signals, wrong settings."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from containers import Service
from fits import FITS
from seed_analytics.local import RService
from support import ROOT, until

Served = RService | Service  # from the working tree, from the images
FITS_OF_FORECAST = FITS["r-forecast-plumber"]
PATH = "/survival/fit"
SLOW_PATH = "/prophet/fit"
# Each draw of the trends to come takes about half a millisecond.
FINISHED_SAMPLES, ENDLESS_SAMPLES = 15_000, 100_000


def post(service: Served, path: str = PATH, **more: int) -> httpx.Response:
    body = FITS_OF_FORECAST[path] | more
    headers = {"Authorization": f"Bearer {service.token}"}
    return httpx.post(service.base_url + path, json=body, headers=headers, timeout=180)


def gauge(service: Served, name: str) -> float:
    lines = httpx.get(f"{service.base_url}/metrics", timeout=30).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


@contextmanager
def slow_fit(service: Served, n_samples: int = FINISHED_SAMPLES) -> Iterator[Future[httpx.Response]]:
    """Run a long fit; the body of the statement starts when a worker has it."""
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(post, service, SLOW_PATH, n_samples=n_samples)
        until(lambda: gauge(service, "seed_workers_busy") == 1)
        yield reply


def text_of(service: Served) -> str:
    return service.log_path.read_text() if isinstance(service, RService) else service.container.logs().decode()


def log_of(service: Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(service).splitlines() if line.startswith("{")]


def workers_of(service: RService) -> list[psutil.Process]:
    """The R processes that the service's HTTP process has started."""
    (http,) = [p for p in psutil.Process(service.pid).children() if "R" in p.name()]
    return [child for child in http.children() if "R" in child.name()]


def kill_worker(service: Served) -> None:
    """Kill the worker that was ready last."""

    def warm() -> list[int]:
        return [line["pid"] for line in log_of(service) if line.get("event") == "worker_warm"]

    until(lambda: bool(warm()))  # a container's log may be behind
    pid = warm()[-1]
    if isinstance(service, RService):
        os.kill(pid, signal.SIGKILL)
    else:
        assert service.container.exec_run(["sh", "-c", f"kill -KILL {pid}"]).exit_code == 0


def tell(service: Served, sent: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to what started the service."""
    if isinstance(service, RService):
        os.kill(service.pid, sent)
    else:
        service.container.kill(sent.name)


def runs(service: Served) -> bool:
    if isinstance(service, RService):
        return psutil.Process(service.pid).status() != psutil.STATUS_ZOMBIE
    service.container.reload()
    return bool(service.container.status == "running")


def address(service: Served) -> tuple[str, int]:
    """Where the service itself listens: what publishes a container's port keeps megabytes of a reply on their way."""
    if isinstance(service, RService):
        return "127.0.0.1", int(service.base_url.rpartition(":")[2])
    service.container.reload()
    [network] = service.container.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"]), 8080


def ended(service: Served) -> int:
    """Wait until the service has ended, and return its exit code."""
    if isinstance(service, RService):
        return int(psutil.Process(service.pid).wait(60))
    return int(service.container.wait(timeout=60)["StatusCode"])


def kind(reply: httpx.Response) -> str:
    assert reply.headers["content-type"] == "application/problem+json"
    if reply.status_code == 503:
        assert int(reply.headers["retry-after"]) > 0
    return str(reply.json()["type"]).rpartition(":")[2]


def test_health_and_metrics_answer_while_a_fit_runs(start_any: Callable[..., Served]) -> None:
    service = start_any()
    with slow_fit(service) as reply:
        for path in ("healthz", "readyz", "metrics", "openapi.json"):
            assert httpx.get(f"{service.base_url}/{path}", timeout=30).status_code == 200
        assert not reply.done()
        assert reply.result().status_code == 200


def test_a_full_queue_is_busy_and_says_when_to_come_back(start_any: Callable[..., Served]) -> None:
    service = start_any(QUEUE_LENGTH="0")
    with slow_fit(service) as running:
        reply = post(service)
        assert (reply.status_code, kind(reply)) == (503, "busy")
        assert running.result().status_code == 200
    assert post(service).status_code == 200


def test_a_fit_waits_in_the_queue(start_any: Callable[..., Served]) -> None:
    service = start_any(QUEUE_LENGTH="1")
    with slow_fit(service) as running, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, service)
        until(lambda: gauge(service, "seed_queue_length") == 1)
        assert post(service).status_code == 503
        assert running.result().status_code == waiting.result().status_code == 200


def test_two_workers_fit_at_once(start_any: Callable[..., Served]) -> None:
    service = start_any(WORKERS="2", QUEUE_LENGTH="0")
    until(lambda: gauge(service, "seed_workers") == 2)
    with slow_fit(service) as running:
        assert post(service).status_code == 200
        assert not running.done()


def test_a_killed_worker_fails_its_fit_alone(start_any: Callable[..., Served]) -> None:
    service = start_any()
    with slow_fit(service, ENDLESS_SAMPLES) as reply:
        kill_worker(service)
        assert (reply.result().status_code, kind(reply.result())) == (500, "internal")
    assert post(service).status_code == 200
    assert gauge(service, "seed_worker_restarts_total") == 1


def test_an_idle_worker_that_is_killed_is_replaced(start_any: Callable[..., Served]) -> None:
    service = start_any()
    kill_worker(service)
    until(lambda: gauge(service, "seed_worker_restarts_total") == 1)
    assert post(service).status_code == 200


def test_a_worker_that_cannot_be_started_is_tried_again(start: Callable[..., RService]) -> None:
    service = start()
    (worker,) = workers_of(service)
    http = worker.parent()
    assert http
    before = resource.prlimit(http.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(http.pid, resource.RLIMIT_NOFILE, (3, before[1]))  # no pipe can be made to a new process
    worker.kill()
    until(lambda: [line.get("state") for line in log_of(service)].count("down") > 0)
    resource.prlimit(http.pid, resource.RLIMIT_NOFILE, before)
    until(lambda: gauge(service, "seed_workers") == 1)
    assert post(service).status_code == 200


def test_a_killed_worker_leaves_no_file(start: Callable[..., RService], tmp_path: Path) -> None:
    service = start(TMPDIR=str(tmp_path))

    def folders() -> set[Path]:
        return {path for path in tmp_path.rglob("Rtmp*") if path.is_dir()}

    before = folders()
    (worker,) = workers_of(service)
    worker.kill()
    until(lambda: gauge(service, "seed_worker_restarts_total") == 1)
    until(lambda: gauge(service, "seed_workers") == 1)
    after = folders()
    assert len(before) == len(after) == 2  # the HTTP process's, a worker's
    assert len(before & after) == 1


def test_a_service_that_has_stopped_leaves_no_file(start: Callable[..., RService], tmp_path: Path) -> None:
    service = start(TMPDIR=str(tmp_path))
    process = psutil.Process(service.pid)
    assert post(service).status_code == 200
    assert list(tmp_path.iterdir())
    os.kill(service.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert not list(tmp_path.iterdir())


def test_a_fit_past_its_deadline_is_stopped(start_any: Callable[..., Served]) -> None:
    service = start_any(FIT_TIMEOUT_SECS="1")
    reply = post(service, SLOW_PATH, n_samples=ENDLESS_SAMPLES)
    assert (reply.status_code, kind(reply)) == (503, "timeout")
    until(lambda: httpx.get(f"{service.base_url}/readyz").status_code == 200)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_the_running_fit_finish(start_any: Callable[..., Served], sent: signal.Signals) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what runs in its background
    try:
        service = start_any(SHUTDOWN_GRACE_SECS="120")
    finally:
        signal.signal(signal.SIGINT, before)
    workers = workers_of(service) if isinstance(service, RService) else []  # a container's end with it
    with slow_fit(service) as reply:
        tell(service, sent)
        until(lambda: httpx.get(f"{service.base_url}/readyz", timeout=30).status_code == 503)
        assert kind(httpx.get(f"{service.base_url}/readyz", timeout=30)) == "busy"
        assert httpx.get(f"{service.base_url}/healthz", timeout=30).status_code == 200
        refused = post(service)
        assert (refused.status_code, kind(refused)) == (503, "busy")
        assert reply.result().status_code == 200
    assert ended(service) == 0
    assert psutil.wait_procs(workers, 10)[1] == []
    assert log_of(service)[-1] == {**log_of(service)[-1], "event": "stopped", "finished": True}


def test_a_signal_lets_a_slow_reader_have_its_reply(start_any: Callable[..., Served]) -> None:
    service = start_any()
    # More than the buffers between the two hold.
    score = {"user_id": [f"user{i}" for i in range(400_000)], "days_away": [3] * 400_000, "x": [0.5] * 400_000}
    body = json.dumps(FITS_OF_FORECAST[PATH] | {"score": score}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(120)
        client.connect(address(service))
        client.sendall(head.encode() + body)
        reply = http.client.HTTPResponse(client)
        reply.begin()  # the reply is on its way
        tell(service)
        time.sleep(3)
        assert runs(service)
        text = reply.read()  # raises IncompleteRead where the connection ends early
    assert len(json.loads(text)["scores"]["survival"]) == 400_000
    assert ended(service) == 0


def test_a_fit_that_outlasts_the_grace_is_given_up(start_any: Callable[..., Served]) -> None:
    service = start_any(SHUTDOWN_GRACE_SECS="1")
    with slow_fit(service, ENDLESS_SAMPLES) as reply:
        tell(service)
        assert (reply.result().status_code, kind(reply.result())) == (503, "busy")
    assert ended(service) == 0


def test_workers_do_not_outlive_a_killed_server(start: Callable[..., RService]) -> None:
    service = start()
    with slow_fit(service, ENDLESS_SAMPLES) as reply:
        workers = workers_of(service)
        workers[0].parent().kill()
        assert psutil.wait_procs(workers, 30)[1] == []
        with pytest.raises(httpx.TransportError):
            reply.result()


def test_workers_hold_no_socket_of_the_server(start: Callable[..., RService]) -> None:
    (worker,) = workers_of(start())
    assert worker.net_connections() == []


def test_workers_yield_to_the_process_that_answers_probes(start: Callable[..., RService]) -> None:
    (worker,) = workers_of(start())
    assert worker.nice() == worker.parent().nice() + 10


def test_out_of_memory_a_worker_is_ended_first(start: Callable[..., RService]) -> None:
    (worker,) = workers_of(start())
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (worker.pid, worker.ppid())]
    assert scores[0] == 1000 > scores[1]


def test_workers_do_not_know_the_token(start: Callable[..., RService]) -> None:
    service = start(token="a-secret-token")  # noqa: S106
    (worker,) = workers_of(service)
    post(service)
    read = "import sys, psutil; print(psutil.Process(int(sys.argv[1])).environ())"
    told = subprocess.run(
        [sys.executable, "-c", read, str(worker.pid)], capture_output=True, text=True, check=True
    ).stdout
    assert "PATH" in told
    assert "a-secret-token" not in told


def test_the_log_has_a_line_for_each_request_but_answered_probes_and_never_the_token(
    start_any: Callable[..., Served],
) -> None:
    service = start_any(token="a-secret-token")  # noqa: S106
    post(service)
    httpx.get(f"{service.base_url}/nowhere", headers={"Authorization": "Bearer another-token"})
    for path in ("/healthz", "/readyz", "/metrics"):
        httpx.get(service.base_url + path, timeout=30).raise_for_status()
    lines = [line for line in log_of(service) if "route" in line and line["status"] != 503]  # asked before it was ready
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", PATH, 200),
        ("GET", "other", 404),
    ]
    assert all(line.keys() >= {"timestamp", "service", "seconds", "bytes"} for line in lines)
    assert "token" not in text_of(service)


def test_a_token_with_a_trailing_newline_is_the_token(start_any: Callable[..., Served]) -> None:
    service = start_any(token="secret\n")  # noqa: S106
    reply = httpx.post(
        service.base_url + PATH, json=FITS_OF_FORECAST[PATH], headers={"Authorization": "Bearer secret"}, timeout=60
    )
    assert reply.status_code == 200


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "INTERNAL_TOKEN"),
        ({"INTERNAL_TOKEN": " \n"}, "INTERNAL_TOKEN"),
        ({"INTERNAL_TOKEN": "x", "PORT": "http"}, "PORT"),
        ({"INTERNAL_TOKEN": "x", "WORKERS": "0"}, "WORKERS"),
        ({"INTERNAL_TOKEN": "x", "ALLOW_ANONYMOUS": "maybe"}, "ALLOW_ANONYMOUS"),
    ],
    ids=str,
)
def test_wrong_settings_stop_the_start_with_78_and_are_named(name: str, env: dict[str, str], said: str) -> None:
    base = {key: value for key, value in os.environ.items() if key != "INTERNAL_TOKEN"}
    done = subprocess.run(
        [ROOT / "r-plumber-common" / "serve", ROOT / name],
        env={**base, "PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.startswith(said)


def test_a_port_in_use_stops_the_start_with_78(start: Callable[..., RService]) -> None:
    port = start().base_url.rpartition(":")[2]
    again = start(PORT=port, ready=False)
    assert ended(again) == 78
    assert f"port {port}: is it in use?" in again.log_path.read_text()


def test_anonymous_callers_are_served_only_where_that_is_allowed(start_any: Callable[..., Served]) -> None:
    service = start_any(token="", ALLOW_ANONYMOUS="true")
    assert httpx.post(service.base_url + PATH, json=FITS_OF_FORECAST[PATH], timeout=60).status_code == 200


def test_plain_logs_are_readable_lines(start_any: Callable[..., Served]) -> None:
    service = start_any(LOG_FORMAT="plain", ready=False)
    until(lambda: "event=started" in text_of(service))
    assert re.search(r" r-forecast-plumber event=started version=0\.1\.0 host=[\d.]+ port=\d+ ", text_of(service))
