"""JSON as it is stored and sent: full precision, null instead of NaN."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from seed_analytics.numbers import by_key, dumps


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_to_the_last_bit(value: float) -> None:
    assert json.loads(dumps({"x": value}))["x"] == value


@given(
    st.recursive(
        st.none() | st.floats() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_whatever_is_written_is_strict_json(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(dumps(value), parse_constant=refuse)


def test_numpy_values_become_plain_numbers() -> None:
    assert json.loads(dumps({"a": np.array([1.5, math.nan]), "b": np.int64(3)})) == {"a": [1.5, None], "b": 3}


def test_columns_become_an_object_by_key() -> None:
    assert by_key({"term": ["x", "y"], "z": [1, 2]}, "term") == {"x": {"z": 1}, "y": {"z": 2}}
