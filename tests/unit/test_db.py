"""What a DATABASE_URL that leads nowhere means for a run, without a server."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seed_analytics import db
from seed_analytics.errors import ConfigFault, Unavailable

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:word@127.0.0.1:99999/db", "port"),
        ("postgresql://me:word@127.0.0.1:nan/db", "cannot be read"),
        ("postgresql://me:word@127.0.0.1:1/db?sslmode=maybe", "sslmode"),
        ("postgresql://me:word@127.0.0.1:1/db?pool_size=5", "pool_size"),
        ("postgresql+psycopg://me:word@127.0.0.1:1/db", "cannot be read"),
        ("postgresql://me:wo/rd@127.0.0.1:1/db", "write % as %25, @ as %40 and / as %2F"),
        ("postgresql://me:wo@rd@127.0.0.1:1/db", "write % as %25, @ as %40 and / as %2F"),
        ("postgresql://me:wo%rd@127.0.0.1:1/db", "write % as %25, @ as %40 and / as %2F"),
    ],
)
def test_url_that_is_wrong_is_a_config_fault_that_names_the_variable(url: str, words: str) -> None:
    with pytest.raises(ConfigFault, match="DATABASE_URL") as fault:
        db.connect(url, attempts=1)
    assert words in str(fault.value)
    assert "word" not in str(fault.value).removeprefix(db._UNREADABLE)


@given(password=PRINTABLE.map(lambda word: f"qZq{word}qZq"))
@example(password="qZq%80qZq")  # noqa: S106 - not UTF-8
@example(password="qZq@?qZq")  # noqa: S106 - its rest is read as a parameter
@settings(deadline=None)
def test_no_piece_of_a_password_is_shown_however_it_is_written(password: str) -> None:
    with pytest.raises((ConfigFault, Unavailable)) as fault:
        db.connect(f"postgresql://me:{password}@127.0.0.1:1/db", attempts=1)
    assert "qZq" not in str(fault.value)
