"""The texts: their links lead somewhere, and every target that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(text: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", text.read_text())
    missing = [link for link in links if "://" not in link and not (text.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(text: Path) -> None:
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z.][\w./-]*)", text.read_text(), re.MULTILINE))
    assert named <= targets
