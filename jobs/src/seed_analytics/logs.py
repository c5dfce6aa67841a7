"""Log lines: JSON in a pod, progress on a terminal, plain in a pipe. Passwords and tokens never appear."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from rich.console import Console

console = Console(stderr=True)

# Up to the last @ of the line: a password may hold any character, and rather too much is hidden than too little.
_PASSWORD_IN_URL = re.compile(r"(://[^:\s]*:).+(@)")
_PASSWORD_IN_DSN = re.compile(r"(password\s*=\s*)('(?:\\.|[^'\\])*'|(?:\\.|\S)+)", re.IGNORECASE)
_BEARER = re.compile(r"(Bearer\s+)\S+", re.IGNORECASE)


def redact(text: str) -> str:
    """Return the text with passwords of connection strings and bearer tokens replaced by ``***``."""
    return _BEARER.sub(r"\1***", _PASSWORD_IN_DSN.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1***\2", text)))


def _redacted(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _clean(value) for key, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


def chosen_format(log_format: str) -> str:
    """Resolve ``auto``: rich on a terminal, json in a pod (Kubernetes sets KUBERNETES_SERVICE_HOST), else plain."""
    if log_format != "auto":
        return log_format
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "json"
    return "rich" if sys.stderr.isatty() else "plain"


def configure(log_format: str = "auto") -> None:
    """Set up structlog for the whole process; lines go to standard error, results to standard output."""
    rendered: dict[str, Any] = {
        "json": structlog.processors.JSONRenderer(),
        # Plain tracebacks: the pretty ones print local variables, and a password may be among them.
        **{
            form: structlog.dev.ConsoleRenderer(
                colors=form == "rich", pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
            for form in ("plain", "rich")
        },
    }
    form = chosen_format(log_format)
    timestamp = (
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if form == "json"
        else structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            timestamp,
            structlog.processors.format_exc_info,  # before _redacted, which sees text only
            _redacted,
            rendered[form],
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


@contextmanager
def progress(text: str, *, log_format: str = "auto") -> Iterator[None]:
    """Show a spinner with the text while the block runs, on a terminal; do nothing elsewhere."""
    if chosen_format(log_format) == "rich":
        with console.status(text):
            yield
    else:
        yield
