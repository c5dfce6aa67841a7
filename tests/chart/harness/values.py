"""Values drawn from values.schema.json: ones that it accepts, and ones that it must refuse."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema
from chart.harness.render import CHART
from hypothesis import strategies as st

Schema = Mapping[str, Any]
Path = tuple[str, ...]

NOT_FOR_KUBERNETES = 2**53
"""Whole numbers beyond this are no longer exact in JSON."""


@cache
def umbrella() -> Schema:
    """Return the umbrella chart's schema."""
    return json.loads((CHART / "values.schema.json").read_text())


def resolved(schema: Schema) -> Schema:
    """Return a schema with its reference followed, if it is one."""
    while "$ref" in schema:
        found: Any = umbrella()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


@cache
def keys() -> dict[Path, Schema]:
    """Return every key that a user may set to a value: its path -> its schema. Blocks are not among them."""
    return dict(_keys(umbrella(), ()))


@cache
def blocks() -> dict[Path, Schema]:
    """Return every mapping with named keys: its path -> its schema."""
    return dict(_blocks(umbrella(), ()))


def _is_block(schema: Schema) -> bool:
    return "properties" in schema and schema.get("additionalProperties") is False


def _children(schema: Schema, path: Path) -> Iterator[tuple[Path, Schema, Schema]]:
    for name, child in schema["properties"].items():
        # Helm copies `global` into every subchart; it is set once, at the top.
        if not child.get("deprecated") and not (path and name == "global"):
            yield (*path, name), child, resolved(child)


def _keys(schema: Schema, path: Path) -> Iterator[tuple[Path, Schema]]:
    for here, child, followed in _children(schema, path):
        if _is_block(followed) and "$ref" not in child:
            yield from _keys(followed, here)
        else:
            yield here, followed


def _blocks(schema: Schema, path: Path) -> Iterator[tuple[Path, Schema]]:
    yield path, schema
    for here, _, followed in _children(schema, path):
        if _is_block(followed):
            yield from _blocks(followed, here)


FORMATS = {
    "cron": r"@(hourly|daily|weekly)|(\*|[1-5]?[0-9]|\*/[1-9]) (\*|1?[0-9]|2[0-3]|[0-4]-9) (\*|[1-9],1[0-9]) (\*|[1-9]|jun) (\*|[0-6]|mon-fri)",
    "time-zone": r"Etc/[A-Z][A-Za-z0-9]{1,8}|UTC|Japan|America/Argentina/Buenos_Aires",
    "image-digest": r"|sha256:[a-f0-9]{64}",
}
"""Format -> what the chart takes, and not all of it: the schema leaves these to the chart, which says what to set."""

_FORMATS = jsonschema.FormatChecker(formats=())
for _name, _pattern in FORMATS.items():
    _FORMATS.checks(_name)(
        lambda value, taken=re.compile(_pattern, re.ASCII): not isinstance(value, str) or bool(taken.fullmatch(value))
    )


def is_valid(value: Any, schema: Schema) -> bool:
    """Say whether a schema accepts a value."""
    whole = {**schema, "definitions": umbrella()["definitions"]}
    return jsonschema.Draft7Validator(whole, format_checker=_FORMATS).is_valid(value)


# --- What the schema accepts ------------------------------------------------------------------------------------------

TEXT = st.text(alphabet=[*string.ascii_letters, *string.digits, *" -_./:'\"{}$#,*&!|>%@\\é世"], max_size=24)


NOT_TEXT_TO_YAML = ("007", "1e5", "true", "null", "off", "1.10", "0x1f")
"""Texts that YAML reads as something else where they are not quoted."""


ANNOTATIONS = {"$schema", "title", "description", "default", "definitions", "deprecated"}
"""Keywords that refuse nothing."""
DRAWN = {
    "format",
    *("$ref", "type", "enum", "minimum", "exclusiveMinimum", "maximum", "pattern", "minLength", "maxLength"),
    *("items", "minItems", "required", "properties", "patternProperties", "additionalProperties"),
}
"""Keywords that `accepted` draws by."""
SIFTED = {"minProperties", "maxProperties", "uniqueItems", "dependencies", "not", "anyOf"}
"""Keywords that it draws without, to leave out what they refuse."""


def subschemas(schema: Any) -> Iterator[Schema]:
    """Yield a schema and every schema in it; a reference is not followed."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for word, inner in schema.items():
        if word in {"properties", "patternProperties", "definitions", "dependencies"}:
            below = list(inner.values())
        elif word in {"anyOf", "oneOf", "allOf"}:
            below = inner
        else:
            below = [inner] if word in {"items", "additionalProperties", "not"} else []
        for one in below:
            yield from subschemas(one)


def accepted(schema: Schema) -> st.SearchStrategy[Any]:
    """Return a strategy for what a schema accepts.

    Covers the keywords that the chart's schemas use; hypothesis-jsonschema does not run with this hypothesis.
    """
    schema = resolved(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", "object")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return st.one_of([BY_TYPE[kind](schema) for kind in kinds]).filter(lambda value: is_valid(value, schema))


def _integer(schema: Schema) -> st.SearchStrategy[int]:
    return st.integers(schema.get("minimum", -NOT_FOR_KUBERNETES), schema.get("maximum", NOT_FOR_KUBERNETES))


def _number(schema: Schema) -> st.SearchStrategy[float]:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum", -1e6)), schema.get("maximum", 1e6)
    return st.floats(low, high, allow_nan=False, allow_subnormal=False, width=32) | st.integers(int(low) + 1, int(high))


def _string(schema: Schema) -> st.SearchStrategy[str]:
    if "format" in schema:
        return st.from_regex(re.compile(FORMATS[schema["format"]], re.ASCII), fullmatch=True)
    if "pattern" not in schema:
        return TEXT.filter(lambda text: schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 1000))
    pattern = re.compile(schema["pattern"].removeprefix("^").removesuffix("$"), re.ASCII)
    drawn = st.from_regex(pattern, fullmatch=True, alphabet=st.characters(codec="ascii", exclude_categories=["C"]))
    tricky = [text for text in NOT_TEXT_TO_YAML if is_valid(text, {**schema, "type": "string"})]
    return drawn | st.sampled_from(tricky) if tricky else drawn


def _array(schema: Schema) -> st.SearchStrategy[list[Any]]:
    return st.lists(accepted(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)


NAMES = ("team", "release", "app", "grafana_dashboard", "Tier_1", "example.com/team", "kubernetes.io/os")
"""Keys of labels, annotations and node selectors: few, so that maps which the chart merges hold the same ones."""


def _object(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "patternProperties" in schema:
        return _named_freely(schema["patternProperties"])
    fields = schema.get("properties", {})
    needed = {name: accepted(fields[name]) for name in schema.get("required", ())}
    return st.fixed_dictionaries(
        needed, optional={name: accepted(child) for name, child in fields.items() if name not in needed}
    )


def _named_freely(patterns: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    (allowed,) = [(pattern, child) for pattern, child in patterns.items() if child is not False]
    names = [name for name in NAMES if re.search(allowed[0], name)]
    return st.dictionaries(st.sampled_from(names), accepted(allowed[1]), max_size=4)


BY_TYPE = {
    "boolean": lambda _: st.booleans(),
    "integer": _integer,
    "number": _number,
    "string": _string,
    "array": _array,
    "object": _object,
    "null": lambda _: st.none(),
}


RELEASE = {"global", "prometheusRule", "dashboard"}
"""Blocks of the whole release that hold labels."""


@st.composite
def changes(draw: st.DrawFn, most: int = 6) -> list[tuple[Path, Any]]:
    """Draw a few keys with values that the schema accepts: any, or in some draws those of the release that hold labels
    and annotations, which the chart merges with each other.
    """
    some, least = sorted(keys()), 1
    if draw(st.sampled_from((True, False, False, False))):
        some = [path for path in some if "patternProperties" in keys()[path] and path[0] in RELEASE]
        least = most
    paths = draw(st.lists(st.sampled_from(some), min_size=least, max_size=most, unique=True))
    return [(path, draw(accepted(keys()[path]))) for path in paths]


# --- What the schema must refuse --------------------------------------------------------------------------------------

WRONG = (True, -1, 0, 10**9, 1.5, "", "§ none §", "x" * 300, "a/b", [], ["§"], [[]], {}, {"§": {}}, {"unknownKey": 1})


@st.composite
def mistakes(draw: st.DrawFn) -> tuple[Path, Any]:
    """Draw a key and a value that the schema does not accept there, or a key that it does not know."""
    if draw(st.booleans()):
        block = draw(st.sampled_from(sorted(blocks())))
        key = f"unknownKey{draw(st.integers(1000, 9999))}"  # of its own, by which a message is known to be about it
        return (*block, key), draw(st.sampled_from((1, "x", {}, [], False)))
    path = draw(st.sampled_from(sorted(path for path, schema in keys().items() if schema)))
    wrong = [value for value in WRONG if not is_valid(value, keys()[path])]
    return path, draw(st.sampled_from(wrong))
