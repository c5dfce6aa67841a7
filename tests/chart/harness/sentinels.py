"""Finds out which keys a template uses: every key gets a value of its own, and the render is searched for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chart.harness.values import Path, Schema, is_valid, keys

FORMS = (
    "s{n}",
    "S{n}",
    "{n}Mi",
    "{n}h0m0s",
    "{n}s",
    "Etc/S{n}",
    "https://s{n}.example",
    "project:europe-west1:s{n}",
    "s{n}-reader@project-{n}.iam.gserviceaccount.com",
    "postgresql://u:p@s{n}.example/d",
    "project-{n}",
)
"""Texts that one or another pattern of the schema takes."""


def candidates(schema: Schema, n: int) -> Iterator[tuple[Any, str]]:
    """Yield values with the number n in them, and the text to look for."""
    digest = f"sha256:{n:064x}"
    texts = [form.format(n=n) for form in FORMS]
    yield from ((text, text) for text in [*texts, digest])
    yield n, str(n)
    yield n % 97 + 2, str(n % 97 + 2)
    yield f"{n % 60} {n % 24} * * *", f"{n % 60} {n % 24} * * *"
    yield {f"s{n}": "x"}, f"s{n}"
    yield {f"s{n}": f"s{n}"}, f"s{n}"
    yield [f"s{n}"], f"s{n}"
    yield [{"name": f"S{n}", "value": "x"}], f"S{n}"
    # A volume and its mount belong together, so they share a name.
    yield [{"name": "extra", "emptyDir": {"sizeLimit": f"{n}Mi"}}], f"{n}Mi"
    yield [{"name": "extra", "mountPath": f"/s{n}"}], f"/s{n}"
    yield [{"key": f"s{n}", "operator": "Exists"}], f"s{n}"
    yield [{"ipBlock": {"cidr": f"10.{n // 256 % 256}.{n % 256}.0/24"}}], f"10.{n // 256 % 256}.{n % 256}.0/24"
    yield {"limits": {"cpu": f"{n}m"}}, f"{n}m"
    yield {"runAsUser": n}, str(n)
    rule = {"matchExpressions": [{"key": f"s{n}", "operator": "Exists"}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [rule]}}
    yield {"nodeAffinity": required}, f"s{n}"


def sentinel(path: Path, n: int) -> tuple[Any, str] | None:
    """Return a value for a key that can be told from all others, and the text by which; None where there is none."""
    schema = keys()[path]
    if schema.get("type") == "boolean" or "enum" in schema:
        return None
    found = (pair for pair in candidates(schema, n) if is_valid(pair[0], schema) and len(pair[1]) > 3)
    return next(found, None)


def alternative(path: Path, default: Any) -> Any:
    """Return another value of a key that has no sentinel: the other position of a switch, the next number.

    Raises:
        StopIteration: the schema takes one value only.

    """
    schema = keys()[path]
    given = (
        not default,
        *schema.get("enum", ()),
        *range(2, 30),
        1,
        0.25,
        "I_t,A_t",
        "accuracy,sessions",
        "gamma",
        "9%",
    )
    return next(value for value in given if json.dumps(value) != json.dumps(default) and is_valid(value, schema))
