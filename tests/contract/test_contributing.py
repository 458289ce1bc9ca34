"""CONTRIBUTING.md shows the code as it is."""

import re
from textwrap import dedent

from apps.about import ROOT


def test_the_view_that_it_walks_through_is_the_one_in_the_file() -> None:
    """Who copies it copies what the service runs."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert dedent(f"   {block.strip()}") in (ROOT / "apps" / "api_v1" / "login.py").read_text()
