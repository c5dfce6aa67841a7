"""report: the newest numbers as one self-contained HTML page, for teachers first and data scientists beneath."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import structlog
from markupsafe import Markup

from seed_analytics import __version__, db
from seed_analytics.db import Columns, Connection
from seed_analytics.errors import ConfigFault
from seed_analytics.report import forecast, growth, irt, runs, segments, survival
from seed_analytics.report.parts import Picture, Section, Table
from seed_analytics.report.words import moment
from seed_analytics.settings import ReportSettings

PARTS: tuple[Any, ...] = (segments, survival, forecast, growth, irt)
"""Modules of the sections, in the order of the page: EMPTY, TABLES and section(read)."""


def write_report(settings: ReportSettings) -> Path:
    """Read the newest numbers and write the page; an older page is replaced at once or not at all.

    Args:
        settings: `as_of` sets the clock by which ages are told; what is shown is always the newest. With `dry_run`
            the page is made but not written.

    Returns:
        Where the page is.

    Raises:
        ConfigFault: the page cannot be written to REPORT_PATH.
        Unavailable: PostgreSQL does not answer.

    """
    url, path = settings.database_url.get_secret_value(), settings.report_path
    with db.translated(), db.connect(url, application="seed-analytics/report") as conn:
        page = render(conn, settings.as_of or db.present(conn))
    if settings.dry_run:
        structlog.get_logger().info(f"Dry run: {path} ({len(page) / 1e6:.1f} MB) was not written")
        return path
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # where it could not be written it may not be there either
            part.unlink()
        raise ConfigFault(f"REPORT_PATH: {path} cannot be written: {error.strerror}.") from error
    structlog.get_logger().info(f"Wrote {path} ({len(page.encode()) / 1e6:.1f} MB)")
    return path


def render(conn: Connection, now: datetime) -> str:
    """Return the page as HTML. The same rows and the same `now` give the same page.

    Args:
        conn: a connection; everything is read in one snapshot.
        now: the moment from which ages are counted.

    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

        def read(name: str, /, **params: Any) -> Columns:
            return db.fetch_columns(conn, db.read_sql(f"report/{name}.sql"), params)

        wanted = sorted({table for part in PARTS for table in part.TABLES})
        there = set(read("tables", tables=wanted)["name"])
        cards = runs.cards(read, now) if "analytics_runs" in there else []
        sections = []
        for part in PARTS:
            missing = sorted(set(part.TABLES) - there)
            sections.append(replace(part.EMPTY, absent=_missing(missing)) if missing else part.section(read))
    return compose(cards, sections, now)


def compose(cards: Sequence[runs.Card], sections: Sequence[Section], now: datetime) -> str:
    """Return the page of these cards and sections as HTML; every text in them is escaped."""
    return _template().render(
        cards=cards,
        newest={card.stage: card for card in cards},
        sections=sections,
        written=moment(now),
        version=__version__,
        css=Markup(_text("page.css")),  # noqa: S704 - a file of this package
        is_picture=lambda part: isinstance(part, Picture),
        grouped=_grouped,
    )


def _missing(tables: list[str]) -> str:
    return f"The database lacks {', '.join(tables)}."


def _grouped(parts: Iterable[Picture | Table]) -> list[list[Picture | Table]]:
    """Return the parts in rows of the page: pictures side by side, small ones apart, wide tables alone."""
    groups: list[list[Picture | Table]] = []
    last = None
    for part in parts:
        kind = (
            "table" if isinstance(part, Table) and part.wide else "small" if getattr(part, "all_say", "") else "parts"
        )
        if kind == "table" or kind != last:
            groups.append([])
        groups[-1].append(part)
        last = kind
    return groups


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("page.html.j2"))
