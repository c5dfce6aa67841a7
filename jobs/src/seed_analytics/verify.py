"""verify: services are well, the guide's queries answer, every stage is fresh (``helm test`` runs this)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import LiteralString, cast

import httpx
import stamina
import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seed_analytics import db
from seed_analytics.clients import RService, client
from seed_analytics.errors import ExitCode, InputFault, StageError, TryLater, Unavailable
from seed_analytics.logs import redact
from seed_analytics.settings import STAGES, VerifySettings

HEALTH_TIMEOUT_SECS = 5.0
HEALTH_ATTEMPTS = 5  # with 1, 2, 4 and 5 s between: some networks let a new pod out only after seconds

KEPT_SHARE = 0.9  # of the learners that a key was written to; the platform may have removed a few since


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        found: what was seen, in words.
        fault: what is wrong, as the error that it means; None when all is well.

    """

    name: str
    found: str
    fault: StageError | None = None


def verify(settings: VerifySettings) -> ExitCode:
    """Look at services, queries and freshness, print a table, and fail with the gravest fault.

    Raises:
        InputFault: a query of the guide fails, or published keys are gone or out of range.
        Unavailable: a service or PostgreSQL does not answer.
        TryLater: a stage has no fresh numbers.

    """
    checks = [health(client(name, settings)) for name in settings.verify_services]
    with (
        db.translated(),
        db.connect(settings.database_url.get_secret_value(), application="seed-analytics/verify") as conn,
    ):
        checks += [query(conn, name, statement) for name, statement in guide().items()]
        checks += freshness(conn, settings)
        checks.append(kept(conn, settings.verify_stages))
    table = Table("", "Check", "Found", box=None, pad_edge=False)
    for check in checks:
        # As plain text: what stands in a table of the database may look like markup, or hold a password.
        said = Text(redact(str(check.fault or check.found)))
        table.add_row("[red]fail[/]" if check.fault else "[green]ok[/]", Text(check.name), said)
    Console().print(table)
    faults = [check for check in checks if check.fault]
    for kind in (InputFault, Unavailable, TryLater):
        if any(isinstance(check.fault, kind) for check in faults):
            raise kind(f"{len(faults)} of {len(checks)} checks failed: {', '.join(check.name for check in faults)}")
    structlog.get_logger().info(f"All {len(checks)} checks are well")
    return ExitCode.OK


@stamina.retry(on=httpx.TransportError, attempts=HEALTH_ATTEMPTS, timeout=None, wait_initial=1.0, wait_jitter=0.0)
def ask(url: str) -> httpx.Response:
    """Get a reply that is no error."""
    return httpx.get(url, timeout=HEALTH_TIMEOUT_SECS).raise_for_status()


def health(service: RService) -> Check:
    """Ask a service for its health and whether it is ready for fits."""
    name = f"{service.name} /healthz"
    try:
        said = ask(f"{service.base_url}/healthz").json()
        ask(f"{service.base_url}/readyz")
        if said["service"] != service.name:
            fault = Unavailable(f"{said['service']} answers at {service.prefix}_BASE_URL={service.base_url}")
            return Check(name, "", fault)
        return Check(name, f"{said['status']}, version {said['version']}")
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Check(name, "", Unavailable(f"{type(error).__name__}: {error}"))


def guide() -> dict[str, LiteralString]:
    """Return the guide's queries by name, as they stand in sql/verify/guide.sql."""
    parts = re.split(r"^-- name: (\S+)$", db.read_sql("verify/guide.sql"), flags=re.MULTILINE)[1:]
    return {name: cast("LiteralString", text.strip()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def query(conn: db.Connection, name: str, statement: LiteralString) -> Check:
    """Run one of the guide's queries."""
    try:
        with db.translated():
            rows = conn.execute(statement).fetchall()
    except StageError as error:
        return Check(f"query {name}", "", InputFault(str(error)))
    return Check(f"query {name}", f"{len(rows)} row(s)")


def freshness(conn: db.Connection, settings: VerifySettings) -> list[Check]:
    """Compare the age of each stage's numbers with its limit; where there are none yet, that of its newest skip."""
    rows = db.fetch_columns(conn, db.read_sql("verify/freshness.sql"), {"stages": list(settings.verify_stages)})
    limits = {stage: info.max_age_hours for stage, info in STAGES.items()} | settings.max_age_hours
    checks = []
    for stage, status, reason, run_id, age in db.rows_of(rows):
        name, limit = f"freshness {stage}", limits.get(stage, 2 * 24)
        last = f"the last run {run_id} {_ended(status)}" + (f": {reason}" if reason else "")
        if status is None:
            checks.append(Check(name, "", TryLater("has never run")))
        elif age is None:
            checks.append(Check(name, "", TryLater(f"has never succeeded; {last}")))
        elif age > limit:
            checks.append(Check(name, "", TryLater(f"stale: {age:.0f} h old, at most {limit} h; {last}")))
        else:
            checks.append(Check(name, f"{age:.1f} h old; {last}"))
    return checks


def kept(conn: db.Connection, stages: tuple[str, ...]) -> Check:
    """Look whether the keys S, P and sigma are still in weekly_kpi where the newest runs wrote them, and in range."""
    name = "keys S, P, sigma in weekly_kpi"
    rows = list(db.rows_of(db.fetch_columns(conn, db.read_sql("verify/kpis_kept.sql"), {"stages": list(stages)})))
    found = ", ".join(f"{key} of {kept} of {written} users" for key, written, kept, _ in rows) or "none was written"
    gone = [key for key, written, kept, _ in rows if kept < KEPT_SHARE * written]
    odd = [f"{count} values of {key} are out of range" for key, _, _, count in rows if count]
    if gone or odd:
        lost = [f"{' and '.join(gone)} went lost"] if gone else []
        return Check(
            name,
            "",
            InputFault(f"{found}; {'; '.join([*lost, *odd])}. Does another job replace kpis instead of merging?"),
        )
    return Check(name, found)


def _ended(status: str) -> str:
    return {"succeeded": "succeeded", "failed": "failed", "running": "is running"}.get(status, f"was {status}")
