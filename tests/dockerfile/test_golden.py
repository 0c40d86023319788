"""A Dockerfile with most of the language in it, read as a whole.

To renew a golden file after a change that is meant: delete it, run this test twice, and read
the difference.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kaniko_core.dockerfile.parser import parse_dockerfile

GOLDEN = Path(__file__).parents[1] / "golden"
DOCKERFILES = sorted(path.name for path in GOLDEN.glob("*.Dockerfile"))


def plain(value: Any) -> Any:
    """Return dataclasses as dictionaries with the name of their class, without defaults.

    Fields that do not count when values are compared are left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.compare and getattr(value, field.name) != field.default
        }
        return {"": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfile_is_read_as_in_the_golden_file(name: str) -> None:
    found = plain(parse_dockerfile((GOLDEN / name).read_bytes(), name))
    golden = GOLDEN / f"{name}.json"
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if not golden.exists():
        golden.write_text(text)
        pytest.fail(f"{golden} was not there; it is now: read it")
    assert text == golden.read_text()
