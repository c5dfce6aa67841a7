"""Log lines: one JSON object a line in a pod, and no secret in any form."""

from __future__ import annotations

import json

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from seed_analytics import logs

WORD = st.text(st.characters(categories=["L", "N"], max_codepoint=0x24F), min_size=6, max_size=20)


@given(user=WORD, password=WORD.map(lambda word: "pw" + word), host=WORD)
def test_password_of_a_url_is_redacted(user: str, password: str, host: str) -> None:
    shown = logs.redact(f"cannot reach postgresql://{user}:{password}@{host}:5432/db?x=1")
    assert f":{password}@" not in shown
    assert f"{user}:***@{host}" in shown


@given(password=WORD.map(lambda word: "pw" + word))
def test_password_of_a_connection_string_is_redacted(password: str) -> None:
    assert password not in logs.redact(f"host=db password={password} user=me")
    assert password not in logs.redact(f"host=db password='{password} x' user=me")


@given(token=WORD.map(lambda word: "tk" + word))
def test_bearer_token_is_redacted(token: str) -> None:
    assert token not in logs.redact(f"authorization: Bearer {token}")


def test_pod_logs_are_json_lines_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    logs.configure("auto")
    structlog.get_logger().info("Loaded 500 users with 6 features", url="postgresql://me:secret@db/x", rows=500)
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "Loaded 500 users with 6 features"
    assert (line["level"], line["rows"], line["url"]) == ("info", 500, "postgresql://me:***@db/x")
    assert line["timestamp"].endswith("Z")


def test_pipes_get_plain_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    logs.configure("auto")
    structlog.get_logger().info("Stored cluster_fit_meta: run_id=cluster-20251102-071523")
    shown = capsys.readouterr().err
    assert "Stored cluster_fit_meta: run_id=cluster-20251102-071523" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("form", ["plain", "rich", "json"])
def test_traceback_shows_no_local_variable(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form)

    def connect(url: str) -> None:
        raise RuntimeError("it broke")

    try:
        connect("postgresql://me:secret-word@db/seedtest")
    except RuntimeError:
        structlog.get_logger().exception("A defect")
    shown = capsys.readouterr().err
    assert "it broke" in shown
    assert "secret-word" not in shown.replace('connect("postgresql://me:secret-word@db/seedtest")', "")
