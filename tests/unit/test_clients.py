"""What each misbehaviour of a service means for a run. The misbehaving server is real HTTP on loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from seed_analytics.cli import COMMAND_SETTINGS
from seed_analytics.clients import LEVERS, UNFITTABLE, RService, client
from seed_analytics.errors import ConfigFault, Rejected, StageError, Unavailable
from seed_analytics.settings import SERVICES, GrowthSettings, IrtSettings, SurvivalSettings, describe

TOKEN = "a-token-that-nobody-may-see"  # noqa: S105
WELL = (200, {"content-type": "application/json"}, b'{"scores": {"user_id": ["u1"]}}')


@dataclass
class Misbehaving:
    """An HTTP server that gives its scripted replies in turn, the last one for ever."""

    replies: list[object]
    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def misbehaving() -> Iterator[Callable[..., Misbehaving]]:
    servers = []

    def start(*replies: object) -> Misbehaving:
        script = Misbehaving(list(replies))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                script.seen.append(dict(self.headers))
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
                if callable(reply):
                    reply(self)
                    return
                status, headers, body = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        return script

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def service(url: str, timeout: float = 5, retries: int = 2) -> RService:
    return RService("r-forecast-plumber", "R_FORECAST", url, TOKEN, timeout, retries, retry_delay_secs=0.01)


def problem(status: int, kind: str, detail: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = {"type": kind, "title": "No", "status": status, "detail": detail}
    return status, {"content-type": "application/problem+json"} | headers, json.dumps(body).encode()


def test_good_reply_is_returned(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving(WELL)
    assert service(server.url).post("/survival/fit", {"x": [1.5]}, ("scores",)) == {"scores": {"user_id": ["u1"]}}


def test_token_is_sent_as_bearer(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving(WELL)
    service(server.url).post("/survival/fit", {}, ())
    assert server.seen[0]["authorization"] == f"Bearer {TOKEN}"


def test_nan_is_sent_as_null(misbehaving: Callable[..., Misbehaving]) -> None:
    bodies = []

    def keep(handler: BaseHTTPRequestHandler) -> None:
        bodies.append(handler.headers["content-length"])
        handler.send_response(200)
        handler.send_header("content-length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    server = misbehaving(keep)
    service(server.url).post("/survival/fit", {"x": [float("nan")]}, ())
    assert bodies == [str(len(b'{"x":[null]}'))]


def test_busy_service_is_asked_again(misbehaving: Callable[..., Misbehaving]) -> None:
    busy = problem(503, "urn:seed-analytics:problem:busy", "The queue is full.")
    server = misbehaving(busy, busy, WELL)
    assert "scores" in service(server.url).post("/survival/fit", {}, ("scores",))
    assert len(server.seen) == 3


def test_retry_after_is_waited_for(misbehaving: Callable[..., Misbehaving]) -> None:
    busy = problem(503, "urn:seed-analytics:problem:busy", "The queue is full.", **{"retry-after": "1"})
    server = misbehaving(busy, WELL)
    begun = time.monotonic()
    service(server.url).post("/survival/fit", {}, ("scores",))
    assert time.monotonic() - begun >= 1


def test_service_that_stays_busy_is_unavailable(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving(problem(503, "urn:seed-analytics:problem:busy", "The queue is full."))
    with pytest.raises(Unavailable, match="The queue is full"):
        service(server.url).post("/survival/fit", {}, ())
    assert len(server.seen) == 3


def test_fit_that_took_too_long_is_not_asked_for_again(misbehaving: Callable[..., Misbehaving]) -> None:
    detail = "The fit took longer than 1200 seconds and was stopped."
    server = misbehaving(problem(503, "urn:seed-analytics:problem:timeout", detail, **{"retry-after": "1"}))
    with pytest.raises(Unavailable, match="1200 seconds.*SURVIVAL_LOOKBACK_DAYS.*FIT_TIMEOUT_SECS of r-forecast"):
        service(server.url).post("/survival/fit", {}, ())
    assert len(server.seen) == 1


def test_service_that_is_down_is_unavailable_and_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match="Is r-forecast-plumber up.*R_FORECAST_BASE_URL"):
        service(f"http://127.0.0.1:{port}").post("/survival/fit", {}, ())


def test_status_500_is_unavailable_and_not_asked_again(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving(problem(500, "urn:seed-analytics:problem:internal", "It broke."))
    with pytest.raises(Unavailable, match="500 .*It broke"):
        service(server.url).post("/survival/fit", {}, ())
    assert len(server.seen) == 1


def test_late_reply_is_unavailable_and_not_asked_again(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving(lambda _: time.sleep(3))
    with pytest.raises(Unavailable, match="no reply in 1.5 s; raise R_FORECAST_TIMEOUT_SECS"):
        service(server.url, timeout=1.5).post("/survival/fit", {}, ())
    assert len(server.seen) == 1


def test_connection_cut_in_mid_reply_is_unavailable(misbehaving: Callable[..., Misbehaving]) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"scores"')
        handler.close_connection = True

    with pytest.raises(Unavailable):
        service(misbehaving(cut).url).post("/survival/fit", {}, ("scores",))


@pytest.mark.parametrize(
    "body", [b"", b"<html>It works!</html>", b"[1, 2]", b'"scores"', b'{"scores"', b"\xff\xfe", b"{}"]
)
def test_garbage_is_unavailable(misbehaving: Callable[..., Misbehaving], body: bytes) -> None:
    server = misbehaving((200, {"content-type": "text/html"}, body))
    with pytest.raises(Unavailable, match="r-forecast-plumber POST /survival/fit: the reply"):
        service(server.url).post("/survival/fit", {}, ("scores",))


@pytest.mark.parametrize("status", [401, 403])
def test_refused_token_is_a_config_fault_that_names_the_variable(
    misbehaving: Callable[..., Misbehaving], status: int
) -> None:
    server = misbehaving(problem(status, "urn:seed-analytics:problem:unauthorized", "Wrong token."))
    with pytest.raises(ConfigFault, match="R_FORECAST_INTERNAL_TOKEN") as fault:
        service(server.url).post("/survival/fit", {}, ())
    assert TOKEN not in str(fault.value)


@pytest.mark.parametrize(
    "reply",
    [
        (302, {"location": "https://login.example/?next=x"}, b""),
        (307, {"location": "/elsewhere"}, b""),
        problem(404, "urn:seed-analytics:problem:not-found", "There is no /survival/fit."),
        problem(405, "urn:seed-analytics:problem:method-not-allowed", "Not by POST."),
    ],
    ids=lambda reply: str(reply[0]),
)
def test_something_else_at_the_address_is_a_config_fault_that_names_the_variable(
    misbehaving: Callable[..., Misbehaving], reply: object
) -> None:
    url = misbehaving(reply).url.replace("//", "//me:secret-word@")
    with pytest.raises(ConfigFault, match="R_FORECAST_BASE_URL=http://me:") as fault:
        service(url).post("/survival/fit", {}, ())
    assert "secret-word" not in str(fault.value)


@pytest.mark.parametrize("body", [b"", b"<html>default backend - 404</html>"], ids=["empty", "page"])
def test_a_router_that_knows_no_pod_of_the_service_is_a_service_that_is_away(
    misbehaving: Callable[..., Misbehaving], body: bytes
) -> None:
    url = misbehaving((404, {"content-type": "text/html"}, body)).url
    with pytest.raises(Unavailable, match="R_FORECAST_BASE_URL=http://"):
        service(url).post("/survival/fit", {}, ())


def test_request_that_is_too_large_is_a_config_fault_that_names_what_to_set(
    misbehaving: Callable[..., Misbehaving],
) -> None:
    server = misbehaving(problem(413, "urn:seed-analytics:problem:too-large", "At most 104857600 bytes."))
    with pytest.raises(ConfigFault, match="104857600.*SURVIVAL_LOOKBACK_DAYS.*MAX_BODY_BYTES of r-forecast-plumber"):
        service(server.url).post("/survival/fit", {}, ())


def test_levers_are_settings() -> None:
    names = {word for lever in LEVERS.values() for word in lever.split(" or ")}
    assert LEVERS.keys() == SERVICES.keys()
    assert names <= {item.name for kind in COMMAND_SETTINGS.values() for item in describe(kind)}


def test_reply_that_cannot_be_unpacked_is_unavailable(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving((200, {"content-type": "application/json", "content-encoding": "gzip"}, b"{}"))
    with pytest.raises(Unavailable, match="cannot be unpacked"):
        service(server.url).post("/survival/fit", {}, ())


SETTINGS_OF = {"r-irt-plumber": IrtSettings, "r-forecast-plumber": SurvivalSettings, "r-brms-plumber": GrowthSettings}


@pytest.mark.parametrize("prefix", SERVICES)
def test_client_is_as_the_service_s_settings_say(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://")
    monkeypatch.setenv(f"{prefix}_BASE_URL", "http://somewhere:8080/")
    monkeypatch.setenv(f"{prefix}_TIMEOUT_SECS", "77")
    monkeypatch.setenv(f"{prefix}_INTERNAL_TOKEN", TOKEN)
    name = SERVICES[prefix]
    assert client(name, SETTINGS_OF[name]()) == RService(name, prefix, "http://somewhere:8080", TOKEN, 77, 3, 5)


def test_retries_are_those_of_the_stage_that_lets_them_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://")
    monkeypatch.setenv("MIRT_MAX_RETRIES", "7")
    monkeypatch.setenv("MIRT_RETRY_DELAY_SECS", "0.5")
    found = client("r-irt-plumber", IrtSettings())
    assert (found.retries, found.retry_delay_secs) == (7, 0.5)


def test_data_that_cannot_be_fitted_are_rejected_in_the_service_s_words(
    misbehaving: Callable[..., Misbehaving],
) -> None:
    server = misbehaving(problem(422, UNFITTABLE, "Nobody ever came back."))
    with pytest.raises(Rejected, match="r-forecast-plumber: Nobody ever came back"):
        service(server.url).post("/survival/fit", {}, ())


def test_request_that_is_refused_as_malformed_is_a_defect(misbehaving: Callable[..., Misbehaving]) -> None:
    server = misbehaving(problem(422, "urn:seed-analytics:problem:invalid", "visits.day[3] is no integer"))
    with pytest.raises(StageError, match="visits.day") as fault:
        service(server.url).post("/survival/fit", {}, ())
    assert type(fault.value) is StageError
