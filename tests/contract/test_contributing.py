"""CONTRIBUTING.md shows the code as it is."""

import re
from textwrap import dedent

from apps.about import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_view_that_it_walks_through_is_the_one_in_the_file() -> None:
    """Readers copy it."""
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert dedent(f"   {block.strip()}") in (ROOT / "apps" / "api_v1" / "login.py").read_text(encoding="utf-8")


def test_every_file_that_it_names_exists() -> None:
    names = set(re.findall(r"[\w./-]+/[\w.-]+\.(?:py|md|in|txt)\b", TEXT))
    missing = [name for name in sorted(names) if not (ROOT / name).exists()]
    assert missing == []
    assert len(names) > 20
