"""The values that the runbooks set: each is one of the chart's, for every stage or service that a page may be about."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml
from chart.conftest import SOURCE
from chart.harness import code
from chart.harness.helm import REPOSITORY
from chart.harness.render import Renderer, at, merged

SUBJECTS = {"STAGE": code.STAGES, "SERVICE": code.SERVICES}


def settings() -> list[Any]:
    """Return each --set of each page, once for each stage or service that stands for its placeholder."""
    found = []
    for page in sorted((REPOSITORY / "docs" / "runbooks").glob("*.md")):
        for command in re.findall(r"^helm upgrade .+$", page.read_text(), re.MULTILINE):
            words = shlex.split(command)
            for setting in (words[i + 1] for i, word in enumerate(words) if word == "--set"):
                placeholder = setting.partition(".")[0]
                names = SUBJECTS.get(placeholder, (placeholder,))
                found += [(page.stem, name, setting.removeprefix(f"{placeholder}.")) for name in names]
    return [pytest.param(*case, id=" ".join(case)) for case in found]


@pytest.mark.parametrize(("page", "name", "setting"), settings())
def test_a_value_that_a_runbook_sets_changes_what_is_rendered(
    render: Renderer, page: str, name: str, setting: str
) -> None:
    path, _, text = setting.partition("=")
    value = f"sha256:{'0' * 64}" if text == "DIGEST" else yaml.safe_load(text)
    values = merged(SOURCE, at(f"{name}.enabled", True))
    # What is the default already is what somebody has changed before.
    before = {"suspend": True, "settings.BRMS_ENGINE": "brms"}.get(path)
    changed = values if before is None else merged(values, at(f"{name}.{path}", before))
    mended = merged(values, at(f"{name}.{path}", value))
    assert render(changed).text != render(mended).text
