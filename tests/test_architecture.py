"""docs/ARCHITECTURE.md names every module, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    page = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text()
    block = page.split("## The tree")[1].split("```")[1]
    named = re.findall(r"^\s+(\w+\.py)\b", block, re.MULTILINE)
    there = [
        path.name
        for path in (REPOSITORY / "kaniko_core").rglob("*.py")
        if path.name != "__init__.py" or path.parent.name == "kaniko_core"
    ]
    assert sorted(named) == sorted(there)
