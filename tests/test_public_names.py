"""What users of the library may rely on."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import kaniko_core

PACKAGE = Path(kaniko_core.__file__).parent


def modules_with_all() -> list[str]:
    """Name the modules that list their public names."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "\n__all__ = [" in path.read_text():
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            found.append(".".join(parts).removesuffix(".__init__"))
    return found


def test_promised_names_are_there() -> None:
    assert dir(kaniko_core) == sorted(kaniko_core.__all__)
    for name in kaniko_core.__all__:
        thing = getattr(kaniko_core, name)
        assert getattr(thing, "__name__", name) in (name, "Event")


def test_every_promised_name_has_a_home_and_a_type() -> None:
    """mypy sees the imports for type checkers, Python the table; they must not differ."""
    tree = ast.parse(Path(kaniko_core.__file__).read_text())
    (block,) = (statement for statement in tree.body if isinstance(statement, ast.If))
    typed = {
        alias.name: (item.module or "").removeprefix("kaniko_core.")
        for item in block.body
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    assert typed == kaniko_core._HOMES
    assert set(kaniko_core.__all__) == {*typed, "__version__"}


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = kaniko_core.nonsense


@pytest.mark.parametrize("name", modules_with_all())
def test_listed_names_are_there_once(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public)


def test_importing_the_package_imports_nothing_else() -> None:
    script = (
        "import sys, kaniko_core; print(sorted(n for n in sys.modules if n.startswith('kaniko_')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['kaniko_core', 'kaniko_core.version']\n"
