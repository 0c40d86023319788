"""The tables of what BuildKit says, which lie beside the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_TABLES = Path(__file__).parents[1] / "../shared/conformance"


def cases(name: str) -> list[Any]:
    """Return parameters for each case of a table; one that is skipped where it is absent."""
    path = _TABLES / name
    if not path.exists():
        reason = f"{path} is not here"
        return [pytest.param({}, {}, marks=pytest.mark.skip(reason=reason), id="absent")]
    found = json.loads(path.read_text())["cases"]
    return [
        pytest.param(case["in"], case["out"], id=f"{number}") for number, case in enumerate(found)
    ]
