"""Log lines: one JSON object a line in a pod, and no secret in any form."""

from __future__ import annotations

import json

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from seed_analytics import logs

WORD = st.text(st.characters(categories=["L", "N"], max_codepoint=0x24F), min_size=6, max_size=20)


# Any printable characters, `@ / : ' \` and blanks among them, between marks that appear nowhere else.
PASSWORD = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])).map(lambda text: f"pw{MARK}{text}{MARK}")
MARK = "qZq"


@given(user=st.just("") | WORD, password=PASSWORD, host=WORD)
@example(user="u", password=f"p@{MARK}", host="h")
@example(user="u", password=f"p {MARK}", host="h")
@example(user="", password=f"p/:{MARK}", host="h")
def test_password_of_a_url_is_redacted(user: str, password: str, host: str) -> None:
    shown = logs.redact(f"cannot reach postgresql://{user}:{password}@{host}:5432/db?x=1")
    assert MARK not in shown
    assert f"{user}:***@{host}" in shown


@given(password=PASSWORD)
@example(password=f"it's {MARK}")
def test_password_of_a_connection_string_is_redacted(password: str) -> None:
    shown = logs.redact(make_conninfo(host="db", password=password, user="me"))
    assert MARK not in shown
    assert "user=me" in shown


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
def test_values_within_values_are_redacted(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form)
    url = "http://me:secret-word@r-irt-plumber"
    structlog.get_logger().warning("stamina.retry_scheduled", args=(url,), kwargs={"urls": [url]})
    shown = capsys.readouterr().err
    assert shown.count("http://me:***@r-irt-plumber") == 2
    assert "secret-word" not in shown


@pytest.mark.parametrize("form", ["plain", "rich", "json"])
def test_exception_is_redacted(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form)
    url = "postgresql://me:secret-word@db/seedtest"

    def connect() -> None:
        raise RuntimeError("cannot reach " + url)

    try:
        connect()
    except RuntimeError:
        structlog.get_logger().exception("A defect")
    shown = capsys.readouterr().err
    assert "cannot reach postgresql://me:***@db/seedtest" in shown
    assert "secret-word" not in shown


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
