"""The R services over HTTP: JSON in columns, a bearer token, retries, and errors turned into exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import stamina
import structlog

from seed_analytics.errors import ConfigFault, Rejected, StageError, Unavailable
from seed_analytics.logs import redact
from seed_analytics.numbers import dumps
from seed_analytics.settings import SERVICES, Settings

log = structlog.get_logger()

RETRIES = {"retries": "mirt_max_retries", "retry_delay_secs": "mirt_retry_delay_secs"}
"""Attribute of RService -> setting of calibrate-irt-weekly, the one stage that lets its retries be set."""

LEVERS = {
    "R_IRT": "MIRT_MAX_OBS or MIRT_LOOKBACK_DAYS",
    "R_FORECAST": "SURVIVAL_LOOKBACK_DAYS or PROPHET_LOOKBACK_WEEKS",
    "R_BRMS": "BRMS_LOOKBACK_WEEKS",
}
"""Prefix of a service's settings -> the settings that say how much is sent to it."""

UNFITTABLE = "urn:seed-analytics:problem:unfittable"
TOO_LONG = "urn:seed-analytics:problem:timeout"
MAX_RETRY_AFTER_SECS = 60.0
CONNECT_TIMEOUT_SECS = 5.0


class _Again(Exception):
    """The service may answer if asked again."""

    def __init__(self, message: str, wait_secs: float = 0.0) -> None:
        super().__init__(message)
        self.wait_secs = wait_secs


@dataclass(frozen=True)
class RService:
    """One R model service.

    Attributes:
        name: as in the chart, for example ``r-irt-plumber``.
        prefix: of its settings, for example ``R_IRT``.
        base_url: without a trailing slash.
        token: sent as bearer token; empty sends none.
        timeout_secs: longest wait for one reply.
        retries: tries after the first one when the service is unreachable or busy.
        retry_delay_secs: first wait between tries, doubled each time.

    """

    name: str
    prefix: str
    base_url: str
    token: str
    timeout_secs: float
    retries: int = 3
    retry_delay_secs: float = 5.0

    def post(self, path: str, body: Mapping[str, Any], expect: Iterable[str]) -> dict[str, Any]:
        """Send a fit and return its reply.

        Args:
            path: for example ``/irt/calibrate``.
            body: what the route takes; numpy values and NaN are allowed, NaN is sent as null.
            expect: keys that the reply must hold.

        Raises:
            Unavailable: unreachable, too late, busy after all retries, status 5xx, or a reply that cannot be used.
            ConfigFault: the service refuses the token or so much data, or something else is at its address.
            Rejected: the service says that these data cannot be fitted.
            StageError: the service refuses the request as malformed, which is a defect on our side.

        """
        payload = dumps(body)

        def backoff(error: Exception) -> bool | float:
            return error.wait_secs or True if isinstance(error, _Again) else False

        try:
            for attempt in stamina.retry_context(
                on=backoff,
                attempts=self.retries + 1,
                timeout=None,
                wait_initial=self.retry_delay_secs,
                wait_max=max(self.retry_delay_secs, MAX_RETRY_AFTER_SECS),
                wait_jitter=min(1.0, self.retry_delay_secs),
            ):
                with attempt:
                    return self._once(path, payload, frozenset(expect))
        except _Again as error:
            raise Unavailable(f"{error}. Is {self.name} up? ({self.prefix}_BASE_URL={self.base_url})") from None
        raise AssertionError("unreachable")

    def _once(self, path: str, payload: bytes, expect: frozenset[str]) -> dict[str, Any]:
        where = f"{self.name} POST {path}"
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        try:
            reply = httpx.post(
                f"{self.base_url}{path}",
                content=payload,
                headers=headers,
                timeout=httpx.Timeout(self.timeout_secs, connect=CONNECT_TIMEOUT_SECS),
            )
        except httpx.ReadTimeout:
            # Asking again would queue a second copy of a fit that may still run.
            raise Unavailable(
                f"{where}: no reply in {self.timeout_secs:g} s; raise {self.prefix}_TIMEOUT_SECS or send less data"
            ) from None
        except httpx.DecodingError as error:
            raise Unavailable(f"{where}: the reply cannot be unpacked: {redact(str(error))}") from None
        except httpx.TransportError as error:
            raise _Again(f"{where}: {type(error).__name__}: {redact(str(error))}") from None
        return self._read(where, reply, expect)

    def _read(self, where: str, reply: httpx.Response, expect: frozenset[str]) -> dict[str, Any]:
        content = _json_object(reply)
        status = reply.status_code
        if status == httpx.codes.OK:
            missing = expect - (content or {}).keys()
            if content is None or missing:
                what = f"lacks {', '.join(sorted(missing))}" if content else "is not a JSON object"
                raise Unavailable(f"{where}: the reply {what}; does the address belong to {self.name}?")
            return content
        said = _problem(content, reply)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigFault(f"{where}: {self.name} refuses the token in {self.prefix}_INTERNAL_TOKEN ({status})")
        if reply.is_redirect or status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            sentence = (
                f"{where}: {status} {said}; {self.prefix}_BASE_URL={redact(self.base_url)} is not the address "
                f"of {self.name}, or something stands between that answers in its place"
            )
            # A router says 404 of a service without a pod, too: that passes.
            raise ConfigFault(sentence) if reply.is_redirect or content else Unavailable(sentence)
        if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise ConfigFault(
                f"{where}: {status} {said}; lower {LEVERS[self.prefix]}, or raise MAX_BODY_BYTES of {self.name}"
            )
        if content and content.get("type") == TOO_LONG:
            # Asking again would run into the same limit.
            raise Unavailable(f"{where}: {said} Lower {LEVERS[self.prefix]}, or raise FIT_TIMEOUT_SECS of {self.name}")
        if status in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
            raise _Again(f"{where}: {status} {said}", _retry_after(reply))
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{where}: {status} {said}")
        if content and content.get("type") == UNFITTABLE:
            raise Rejected(f"{self.name}: {content.get('detail') or said}")
        raise StageError(f"{where}: {status} {said}")


def _json_object(reply: httpx.Response) -> dict[str, Any] | None:
    try:
        content = reply.json()
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _problem(content: Mapping[str, Any] | None, reply: httpx.Response) -> str:
    if content is None:
        return redact(reply.text[:200].strip())
    faults = "; ".join(f"{item.get('field')}: {item.get('message')}" for item in content.get("errors") or [])
    return redact(" ".join(str(part) for part in (content.get("title"), content.get("detail"), faults) if part))


def _retry_after(reply: httpx.Response) -> float:
    said = reply.headers.get("retry-after", "")
    return min(float(said), MAX_RETRY_AFTER_SECS) if said.isdigit() else 0.0


def client(name: str, settings: Settings) -> RService:
    """Return the client of a service by its name, as a stage's settings describe it.

    Args:
        name: for example ``r-irt-plumber``.
        settings: of a class that knows the service (``IrtService``, ``ForecastService``, ``BrmsService``).

    """
    prefix = next(prefix for prefix, service in SERVICES.items() if service == name)
    own = {key: getattr(settings, f"{prefix.lower()}_{key}") for key in ("base_url", "internal_token", "timeout_secs")}
    retry = {field: getattr(settings, setting) for field, setting in RETRIES.items() if hasattr(settings, setting)}
    return RService(
        name=name,
        prefix=prefix,
        base_url=str(own["base_url"]).rstrip("/"),
        token=own["internal_token"].get_secret_value(),
        timeout_secs=own["timeout_secs"],
        **retry,
    )
