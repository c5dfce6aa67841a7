"""What the R services answer, over real HTTP: every bad request a problem of the right status, every good one true."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from containers import Service
from fits import FITS, ROUTES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families
from seed_analytics.local import RService

Served = RService | Service  # from the working tree, from the images
PROBLEM = "application/problem+json"
JSON = {"Content-Type": "application/json"}
ROUTE_IDS = [path for _, path in ROUTES]


def post(service: Served, path: str, **request: Any) -> httpx.Response:
    """Post with the right token and content type, unless `headers` say otherwise."""
    headers = {"Authorization": f"Bearer {service.token}", **JSON, **request.pop("headers", {})}
    return httpx.post(service.base_url + path, headers=headers, timeout=120, **request)


def first_route(service: Served) -> str:
    return next(iter(FITS[service.name]))


def assert_problem(reply: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Assert that the reply is an RFC 9457 problem of this status and type, and return it."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == PROBLEM
    problem = reply.json()
    assert problem["type"] == f"urn:seed-analytics:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"].endswith((".", "?"))
    return problem


# ---- What is no fit


def test_health_has_exactly_the_fields_that_the_guide_names(service: Served) -> None:
    reply = httpx.get(f"{service.base_url}/healthz")
    more = {"stan_version"} if service.name == "r-brms-plumber" else set()
    assert reply.status_code == 200
    assert reply.json().keys() == {"status", "service", "version", "timestamp"} | more
    assert reply.json()["status"] == "ok"
    assert reply.json()["service"] == service.name
    stamp = datetime.strptime(reply.json()["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=1)


def test_a_warm_service_is_ready(service: Served) -> None:
    reply = httpx.get(f"{service.base_url}/readyz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ready"})


def test_metrics_count_requests_by_route_and_status(service: Served) -> None:
    def count(status: str) -> float:
        families = text_string_to_metric_families(httpx.get(f"{service.base_url}/metrics").text)
        labels = {"service": service.name, "method": "POST", "route": first_route(service), "status": status}
        samples = [sample for family in families for sample in family.samples]
        return sum(s.value for s in samples if s.name == "seed_http_requests_total" and s.labels == labels)

    before = count("401")
    httpx.post(service.base_url + first_route(service), content=b"{}")
    assert count("401") == before + 1


def test_errors_are_counted_from_0_on(start_any: Callable[..., Served]) -> None:
    families = text_string_to_metric_families(httpx.get(f"{start_any().base_url}/metrics").text)
    counted = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "seed_http_requests_total" and sample.labels["method"] == "POST"
    }
    assert counted == {(path, status): 0 for path in FITS["r-forecast-plumber"] for status in ("200", "500", "503")}


def test_metrics_hold_the_state_of_the_workers(service: Served) -> None:
    families = {f.name: f for f in text_string_to_metric_families(httpx.get(f"{service.base_url}/metrics").text)}
    gauges = {name: family.samples[0].value for name, family in families.items() if family.type == "gauge"}
    assert gauges.keys() >= {"seed_queue_length", "seed_workers_busy", "seed_workers", "seed_ready"}
    assert gauges["seed_ready"] == 1
    assert families["seed_fit_seconds"].type == "histogram"


def test_the_openapi_document_is_valid_and_names_every_route(service: Served) -> None:
    document = httpx.get(f"{service.base_url}/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert {path for path, item in document["paths"].items() if "post" in item} == set(FITS[service.name])


# ---- Good requests


@pytest.fixture(scope="session")
def schemas(services: Mapping[str, Served]) -> dict[str, dict[str, Any]]:
    """Request and reply schema of each fit, from /openapi.json."""
    found = {}
    for name, path in ROUTES:
        post = httpx.get(f"{services[name].base_url}/openapi.json").json()["paths"][path]["post"]
        found[path] = {
            "request": post["requestBody"]["content"]["application/json"]["schema"],
            "reply": post["responses"]["200"]["content"]["application/json"]["schema"],
        }
    return found


@pytest.mark.parametrize(("name", "path"), ROUTES, ids=ROUTE_IDS)
def test_a_fit_replies_as_its_schema_says(
    services: Mapping[str, Served], schemas: dict[str, dict[str, Any]], name: str, path: str
) -> None:
    Draft202012Validator(schemas[path]["request"]).validate(FITS[name][path])
    reply = post(services[name], path, json=FITS[name][path] | {"seed": 7})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    Draft202012Validator(schemas[path]["reply"]).validate(reply.json())
    assert reply.json()["seed"] == 7
    assert reply.json()["versions"].keys() >= {"R", name}


@pytest.mark.parametrize(("name", "path"), ROUTES, ids=ROUTE_IDS)
def test_the_same_seed_gives_the_same_reply(services: Mapping[str, Served], name: str, path: str) -> None:
    first, again = (post(services[name], path, json=FITS[name][path]).json() for _ in range(2))
    del first["elapsed_secs"], again["elapsed_secs"]
    assert first == again


# ---- Bad requests


def test_an_unknown_path_is_not_found(service: Served) -> None:
    assert_problem(httpx.get(f"{service.base_url}/nowhere"), 404, "not-found")
    assert_problem(post(service, first_route(service) + "/", json={}), 404, "not-found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_fit_answers_post_alone(service: Served, method: str) -> None:
    reply = httpx.request(method, service.base_url + first_route(service))
    assert_problem(reply, 405, "method-not-allowed")
    assert reply.headers["allow"] == "POST"


def test_health_answers_get_alone(service: Served) -> None:
    reply = httpx.post(f"{service.base_url}/healthz", json={})
    assert_problem(reply, 405, "method-not-allowed")
    assert reply.headers["allow"] == "GET"


def test_what_answers_get_takes_no_body(service: Served) -> None:
    assert_problem(httpx.request("GET", f"{service.base_url}/healthz", json={}), 413, "too-large")


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer", "Basic dTpw", "{token}", "Bearer {token}x"])
def test_a_missing_or_wrong_token_is_unauthorized(service: Served, given: str | None) -> None:
    headers = JSON if given is None else {**JSON, "Authorization": given.format(token=service.token)}
    reply = httpx.post(service.base_url + first_route(service), content=b"{}", headers=headers)
    assert_problem(reply, 401, "unauthorized")
    assert reply.headers["www-authenticate"] == "Bearer"


def test_a_token_that_is_no_utf8_is_unauthorized(service: Served) -> None:
    headers = {b"Authorization": b"Bearer \xff", b"Content-Type": b"application/json"}
    reply = httpx.post(service.base_url + first_route(service), content=b"{}", headers=headers)
    assert_problem(reply, 401, "unauthorized")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": b"\xff"},
        {"Content-Type": "text/csv"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_a_body_that_is_not_plain_json_is_unsupported(service: Served, headers: dict[str, str | bytes]) -> None:
    assert_problem(post(service, first_route(service), content=b"{}", headers=headers), 415, "unsupported-media-type")


def test_a_charset_beside_the_media_type_is_accepted(service: Served) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert_problem(post(service, first_route(service), content=b"{}", headers=headers), 422, "invalid")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": }', b'{"a": NaN}', b"[1,]", b"{}{}", b'"\xff"', b"\x00", b'{"a": "\\u0000"}', b"[" * 100_000],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_is_bad_json(service: Served, body: bytes) -> None:
    assert_problem(post(service, first_route(service), content=body), 400, "bad-json")


@pytest.mark.parametrize("body", ["{}", "[]", "null", "1", '"text"', '{"unknown": 1}'])
def test_json_of_another_form_is_invalid(service: Served, body: str) -> None:
    assert assert_problem(post(service, first_route(service), content=body), 422, "invalid")["errors"]


def edits(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Yield every single fault that can be put into a body: (where and what, a function that puts it)."""

    def parent(root: Any) -> Any:
        for key in path[:-1]:
            root = root[key]
        return root

    def assign(value: Any) -> Callable[[Any], None]:
        return lambda root: parent(root).__setitem__(path[-1], value)

    where = ".".join(map(str, path))
    if path:
        yield f"{where} of a wrong type", assign({"a": [1]} if not isinstance(body, dict) else 1)
    if isinstance(body, dict):
        yield f"{where} with an unknown field", lambda root: _at(root, path).__setitem__("an-unknown field", "x")
        for key in body:
            yield from edits(body[key], (*path, key))
    elif isinstance(body, list) and body and len(path) > 1:
        yield f"{where} ragged", lambda root: _at(root, path).append(body[0])
        yield f"{where}[0] of a wrong type", assign([[1], *body[1:]])
        if not isinstance(body[0], str):
            yield f"{where}[0] the string NaN", assign(["NaN", *body[1:]])


def _at(root: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        root = root[key]
    return root


# Columns of one row among others may be named freely there, and lists of their own cannot be ragged.
FAULTS = [
    pytest.param(name, path, put, id=f"{path} {what}".strip())
    for name, path in ROUTES
    for what, put in edits(FITS[name][path])
    if not (path == "/survival/fit" and what.endswith("unknown field") and what.startswith(("visits", "score")))
    if not what.endswith("ragged") or not what.startswith(("at ", "covariates "))
]


@pytest.mark.parametrize(("name", "path", "put"), FAULTS)
def test_a_single_fault_is_invalid_and_named(
    services: Mapping[str, Served], name: str, path: str, put: Callable[[Any], None]
) -> None:
    body = copy.deepcopy(FITS[name][path])
    put(body)
    errors = assert_problem(post(services[name], path, json=body), 422, "invalid")["errors"]
    assert all(error["field"] and error["message"] for error in errors)


REQUIRED = [
    pytest.param(name, path, field, id=f"{path} {field}")
    for name, path in ROUTES
    for field in FITS[name][path]
    if field not in {"covariates", "score", "n_samples", "n_chains", "prior_a"}
]


@pytest.mark.parametrize(("name", "path", "field"), REQUIRED)
def test_a_missing_field_is_invalid_and_named(services: Mapping[str, Served], name: str, path: str, field: str) -> None:
    body = {key: value for key, value in FITS[name][path].items() if key != field}
    errors = assert_problem(post(services[name], path, json=body), 422, "invalid")["errors"]
    named = {error["field"].split(".")[0] for error in errors}
    assert named <= {field, "patterns"}  # rows stand in for patterns


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(("name", "path"), ROUTES, ids=ROUTE_IDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_in_any_field_is_refused_or_fitted_and_never_an_internal_error(
    services: Mapping[str, Served], name: str, path: str, data: st.DataObject
) -> None:
    body = copy.deepcopy(FITS[name][path])
    fields = [(top,) for top in body] + [(t, f) for t, v in body.items() if isinstance(v, dict) for f in v]
    field = data.draw(st.sampled_from(fields))
    _at(body, field[:-1])[field[-1]] = data.draw(JSON_VALUES)
    reply = post(services[name], path, content=json.dumps(body))
    assert reply.status_code in {200, 400, 422}, (field, reply.text)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_any_bytes_are_refused(service: Served, body: bytes) -> None:
    reply = post(service, first_route(service), content=body)
    assert reply.status_code in {400, 422}, reply.text
    assert reply.headers["content-type"] == PROBLEM


def raw_reply(service: Served, head: str, body: Iterable[bytes] = ()) -> bytes:
    """Send a head and a body until the service answers or closes; return what it said."""
    address = urlsplit(service.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1"))
        try:
            for piece in body:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closes on what it has refused, as it should
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def head_of(service: Served, more: str) -> str:
    return (
        f"POST {first_route(service)} HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        f"Authorization: Bearer {service.token}\n{more}\n\n"
    )


HEADERS = ("Authorization", "Content-Type", "Content-Encoding", "Transfer-Encoding", "X-Other")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(HEADERS), value=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")))
def test_any_bytes_in_a_header_are_refused(service: Served, name: str, value: str) -> None:
    sent = {"Authorization": f"Bearer {service.token}", "Content-Type": JSON["Content-Type"], name: value}
    lines = "\n".join(f"{header}: {given}" for header, given in sent.items())
    head = f"POST {first_route(service)} HTTP/1.1\nConnection: close\nContent-Length: 2\n{lines}\n\n"
    reply = raw_reply(service, head + "{}")
    # Control characters are no header at all: the connection is closed on them.
    assert reply == b"" or (reply.startswith(b"HTTP/1.1 4") and f"\nContent-Type: {PROBLEM}".encode() in reply)


# ---- Size


def test_a_declared_gigabyte_is_refused_before_a_byte_of_it_is_sent(service: Served) -> None:
    reply = raw_reply(service, head_of(service, f"Content-Length: {2**30}"))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"problem:too-large" in reply


def test_chunks_without_end_are_refused_unread(service: Served) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while sent < 2**30:
            sent += len(chunk)
            yield chunk

    reply = raw_reply(service, head_of(service, "Transfer-Encoding: chunked"), chunks())
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert sent < 2**26


def test_an_empty_length_is_no_length(service: Served) -> None:
    reply = raw_reply(service, head_of(service, "Content-Length: "))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"problem:too-large" in reply


def test_a_body_above_the_limit_is_refused_and_one_below_is_read(start_any: Callable[..., Served]) -> None:
    service = start_any(MAX_BODY_BYTES="1000")
    assert_problem(post(service, "/prophet/fit", content=b" " * 1001), 413, "too-large")
    assert_problem(post(service, "/prophet/fit", content=b" " * 1000), 400, "bad-json")


def test_a_client_that_sends_a_refused_large_body_still_reads_the_reply(service: Served) -> None:
    reply = httpx.post(service.base_url + first_route(service), content=b" " * 10_000_000, headers=JSON)
    assert_problem(reply, 401, "unauthorized")
