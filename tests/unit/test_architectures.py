"""Images are built for whatever the builder is: nothing that they are built from names an architecture."""

from __future__ import annotations

import re

import pytest
from support import ROOT

SOURCES = [
    "jobs/Dockerfile",
    "r-plumber-common/Dockerfile",
    "r-plumber-common/serve",
    "tools/install-packages",
    "tools/list-packages",
    "tools/trim-image",
    *(str(path.relative_to(ROOT)) for path in (ROOT / "r-plumber-common/libexec").iterdir()),
]


@pytest.mark.parametrize("source", SOURCES)
def test_no_architecture_is_named(source: str) -> None:
    assert not re.search(r"amd64|x86[-_]64|arm64|aarch64", (ROOT / source).read_text())
