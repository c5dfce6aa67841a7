"""Numbers, times and statistics as words: what every part of the page writes in the same way."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeGuard

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
MAX_ID = 40  # characters of an id that are shown

FEATURES: dict[str, tuple[str, str, str, str]] = {
    "engagement": ("Engagement", "0 to 1", "more engaged", "less engaged"),
    "improvement": ("Improvement", f"{MINUS}1 to 1", "improves more", "improves less"),
    "efficiency": ("Efficiency", "0 to 1", "speeds up more", "speeds up less"),
    "recovery": ("Recovery", "0 to 1", "puts more mistakes right", "puts fewer mistakes right"),
    "accuracy": ("Accuracy", "share right", "more accurate", "less accurate"),
    "sessions": ("Sessions", "in 28 days", "comes more often", "comes less often"),
    "mean_gap": ("Mean gap", "days", "longer breaks", "shorter breaks"),
    "attempts": ("Answers", "number", "answers more", "answers less"),
}
"""Feature of a learner -> its name, its unit, and how a learner is who has more of it or less."""

TERMS: dict[str, tuple[str, str, float]] = {
    "log_previous_gap": ("break before this visit", "twice as long", 2.0),
    "visits_per_week": ("visits a week, over 28 days", "one more", 1.0),
    "log_activity": ("answers at this visit", "twice as many", 2.0),
    "accuracy_28d": ("share right in 28 days", "10 points more", 0.1),
}
"""Covariate of the survival model -> its name, the step that its effect is told for, and that step (a factor for
logarithms, a difference otherwise)."""


def shown(text: Any, most: int = MAX_ID) -> str:
    """Return an id as it can be shown: cut at `most`, characters that are invisible or turn a line round as U+FFFD."""
    seen = "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in str(text))
    return seen if len(seen) <= most else seen[: most - 1] + "…"


def finite(value: Any) -> TypeGuard[float]:
    """Say whether a value is a number that exists (null stands for one that does not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with so many decimals, thousands apart, a true minus sign; an en dash for none."""
    if not finite(value):
        return NONE
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not any(c in "123456789" for c in text):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def significant(value: Any, digits: int = 3) -> str:
    """Return a number with at most so many significant digits, no more decimals than 6 and no idle zeros."""
    if not finite(value):
        return NONE
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = number(value, min(max(places, 0), 6))
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: Any) -> str:
    """Return a whole number, thousands apart."""
    return number(value, 0)


def percent(value: Any, digits: int = 0) -> str:
    """Return a share of 1 in percent; never 0% or 100% for what is not quite none or all."""
    if not finite(value):
        return NONE
    least, shown = 10.0**-digits, number(100 * value, digits)
    if value > 0 and shown == number(0, digits):
        return f"<{least:g}%"
    if value < 1 and shown == number(100, digits):
        return f">{100 - least:g}%"
    return f"{shown}%"


def p_value(value: Any) -> str:
    """Return a p value with three decimals, at least 0.001."""
    return "<0.001" if finite(value) and value < 0.001 else number(value, 3)  # noqa: PLR2004


def things(value: Any, one: str, many: str | None = None) -> str:
    """Return a count and its noun: ``1 learner``, ``2 learners``."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def duration(seconds: Any) -> str:
    """Return a duration with the precision that a reader needs."""
    if not finite(seconds):
        return NONE
    if seconds < 60:  # noqa: PLR2004
        return "<0.01 s" if 0 < seconds < 0.005 else f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"  # noqa: PLR2004
    if seconds < 3600:  # noqa: PLR2004
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def ago(then: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, in the largest unit of which there are two or more, rounded."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if round(seconds / size) >= 2:  # noqa: PLR2004
            return f"{round(seconds / size)} {unit}s ago"
    return "just now"


def moment(when: datetime | None) -> str:
    """Return a moment as ``3 Nov 2025, 07:15 UTC``; database sessions and settings give UTC."""
    return f"{when.day} {when:%b %Y, %H:%M} UTC" if when else NONE


def day(when: date | str | None) -> str:
    """Return a date, or an ISO date in words, as ``3 Nov 2025``."""
    if isinstance(when, str):
        when = date.fromisoformat(when[:10])
    return f"{when.day} {when:%b %Y}" if when else NONE


def listed(parts: Sequence[str], last: str = "and") -> str:
    """Return ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""


def flat(versions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested versions as pairs of program and version, by name."""
    pairs: dict[str, str] = {}
    for name, value in versions.items():
        pairs |= dict(flat(value)) if isinstance(value, Mapping) else {str(name): str(value)}
    return sorted(pairs.items(), key=lambda pair: pair[0].lower())


def sentence(text: str) -> str:
    """Return the text with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def sentences(reason: str | None) -> str:
    """Return what a run said of itself, whose parts a semicolon separates, as sentences."""
    return " ".join(sentence(part) for part in (reason or "").split("; ") if part.strip())


def floats(column: Iterable[Any] | None) -> list[float]:
    """Return a JSON column as floats, NaN for null."""
    return [float(value) if finite(value) else math.nan for value in column or ()]
