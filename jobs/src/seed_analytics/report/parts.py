"""What the page is made of: sections that hold pictures and tables. The template draws each of them in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from markupsafe import Markup

from seed_analytics.db import Columns


class Read(Protocol):
    """Runs ``sql/report/NAME.sql`` and returns its columns."""

    def __call__(self, name: str, /, **params: Any) -> Columns:
        """Run the query with its parameters."""


@dataclass(frozen=True)
class Picture:
    """A picture with the sentence that stands over it.

    Attributes:
        title: a few words.
        says: what it shows and how to read it, for somebody who knows no statistics.
        svg: the drawing, safe to inline, with its own description for those who cannot see it.
        all_say: for one of several small ones: the sentence over all of them.

    """

    title: str
    says: str
    svg: Markup
    all_say: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `tone` from -1 to 1 colours it from low to high, `sign` says the same without colour."""

    text: str
    tone: float = 0.0
    sign: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        title: its caption.
        says: how to read it.
        columns: (name, unit) of each column.
        rows: one list of cells a row, strings or Cells.
        numeric: which columns are set right-aligned.
        wide: too wide to stand beside something.

    """

    title: str
    says: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | Cell]]
    numeric: frozenset[int] = frozenset()
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """What the report says of one stage.

    Attributes:
        stage: its command.
        anchor: where the page's contents point to.
        title: what a teacher would call it.
        question: the question that it answers.
        headline: the answer in a sentence or two; None where there are no numbers.
        lead: parts for everybody, in their order.
        statistics: parts for the data scientist.
        verdict: what the gate said of the run that is shown.
        run_id: the run that is shown.
        fitted: when it was fitted, in words.

    """

    stage: str
    anchor: str
    title: str
    question: str
    headline: str | None = None
    lead: Sequence[Picture | Table] = ()
    statistics: Sequence[Picture | Table] = ()
    verdict: str = ""
    run_id: str = ""
    fitted: str = ""
    absent: str = field(default="")


def only(columns: Columns) -> dict[str, Any] | None:
    """Return the only row of a result by column name, or None where there is none."""
    return {name: values[0] for name, values in columns.items()} if next(iter(columns.values()), None) else None


def rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return columns as rows by name."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def diagnostics(title: str, found: Sequence[tuple[str, str, str]]) -> Table:
    """Return a table of statistics: name, value, and what the value means in words."""
    return Table(title, "", (("Statistic", ""), ("Value", ""), ("In words", "")), found, frozenset({1}), wide=True)
