"""Links in the documents: each target exists."""

import re
from pathlib import Path

import pytest

from apps.about import ROOT

PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
# Written by `python -m benchmarks`; absent before its first run.
WRITTEN_LATER = {ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = {(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))}
    assert {target for target in targets - WRITTEN_LATER if not target.exists()} == set()
