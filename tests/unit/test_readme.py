"""The README keeps its word: its links lead somewhere, its table is the settings, it names every stage."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from seed_analytics import errors
from seed_analytics.cli import cli
from seed_analytics.settings import STAGES
from support import ROOT

DOCUMENTS = [path for path in ROOT.rglob("*.md") if not {".venv", ".cache", "node_modules"} & set(path.parts)]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_table_is_in_sync() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "readme_settings.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: object) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_is_named(command: str) -> None:
    ways = (f"`{command}`", f"seed-analytics {command}", f"**{command}**", f"make {command}")
    assert any(way in README for way in ways)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_three_lines(stage: str) -> None:
    [paragraph] = re.findall(rf"^\*\*{stage}\*\*.*?(?=\n\n)", README, flags=re.MULTILINE | re.DOTALL)
    lines = paragraph.splitlines()[1:]
    assert len(lines) == 3
    assert lines[0].startswith("reads ")
    assert lines[2].startswith("writes ")


@pytest.mark.parametrize("code", errors.ExitCode)
def test_every_exit_code_is_explained(code: errors.ExitCode) -> None:
    assert re.search(rf"^\| ([\d, ]+, )?{int(code)}(,| \|)", README, flags=re.MULTILINE)
