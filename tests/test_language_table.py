"""docs/DOCKERFILE.md names tests in every row, and none that is not there."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "DOCKERFILE.md"
# Its cases are in TOML, named TOPIC/NAME.
CORPUS = "integration/test_dockerfiles.py"
_CELL = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\| --- ")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Row:
    """A row of one of the tables; its last cell has the tests."""

    line: int
    cells: tuple[str, ...]

    @property
    def tests(self) -> list[str]:
        return _CODE.findall(self.cells[-1])

    def __str__(self) -> str:
        return f"{self.line}: {self.cells[0]}"


def rows(page: str) -> Iterator[Row]:
    """Yield the rows of all tables, without their heads."""
    lines = page.splitlines()
    for number, line in enumerate(lines, 1):
        head = number < len(lines) and _RULE.match(lines[number])
        if line.startswith("|") and not _RULE.match(line) and not head:
            cells = _CELL.split(line.strip())[1:-1]
            yield Row(number, tuple(cell.strip() for cell in cells))


def known(path: str) -> set[str]:
    """Return the names of the tests of a file: functions, methods, and cases of the corpus."""
    tree = ast.parse((REPOSITORY / path).read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
            found |= {f"{node.name}::{name}" for name in methods}
    found = {name for name in found if name.rpartition("::")[2].startswith("test_")}
    return found | cases() if path == CORPUS else found


def cases() -> set[str]:
    """Return the names of the corpus's cases."""
    return {
        f"{file.stem}/{name}"
        for file in (REPOSITORY / "integration" / "dockerfiles").glob("*.toml")
        for name, table in tomllib.loads(file.read_text()).items()
        if "dockerfile" in table
    }


ROWS = list(rows(PAGE.read_text()))


def test_tables_are_found() -> None:
    sections = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert sections == [
        "Lines and directives",
        "Variables",
        "Stages and arguments",
        "RUN",
        "COPY and ADD",
        "The rest",
        "What stays out",
        "Bugs of others that we do not share",
    ]
    assert len(ROWS) > 8 * len(sections)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_has_tests_that_are_there(row: Row) -> None:
    assert len(row.cells) == 4, "a row has four cells; write | inside one as \\|"
    assert all(row.cells)
    assert 1 <= len(row.tests) <= 3
    for test in row.tests:
        path, _, name = test.partition("::")
        assert (REPOSITORY / path).is_file(), f"{path} is not there"
        assert name in known(path), f"{path} has no {name}"


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert "test_tables_are_found" in known("tests/test_language_table.py")
    assert "Row::tests" not in known("tests/test_language_table.py")
    assert "env/modifiers" in known(CORPUS)
    assert not {"env/default", "env/none", "reasons/ports"} & known(CORPUS)
    (row,) = rows("| What | Tests |\n| --- | --- |\n| `a \\| b` | `x::y`, `z` |\n")
    assert (row.cells[0], row.tests) == ("`a \\| b`", ["x::y", "z"])
