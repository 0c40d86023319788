"""Conformance tables, checked as a whole: one test per table, which shows the first few misses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaniko_core.errors import KanikoError

TABLES = Path(__file__).parents[2] / "../shared/conformance"
REFUSED = "refused"
_SHOWN = 5


def read(name: str) -> list[dict[str, Any]]:
    """Return the cases of a table; skip the test where the tables are not there."""
    path = TABLES / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    cases: list[dict[str, Any]] = json.loads(path.read_text())["cases"]
    assert cases
    return cases


def check(
    name: str, ours: Callable[[dict[str, Any]], object], theirs: Callable[[dict[str, Any]], object]
) -> None:
    """Compare what we say to each case's input with what BuildKit says; an error is an error."""
    misses = []
    for case in read(name):
        expected = REFUSED if case["out"].get("error") else theirs(case["out"])
        try:
            found = ours(case["in"])
        except KanikoError:
            found = REFUSED
        if found != expected:
            misses.append(f"{case['in']}\n  expected {expected}\n  found    {found}")
    assert not misses, f"{len(misses)} misses:\n" + "\n".join(misses[:_SHOWN])
