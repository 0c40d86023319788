"""The architecture, as tests: imports go down, and what is dangerous or slow has one home."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CORE = REPOSITORY / "kaniko_core"
PROGRAMS = ("kaniko_executor", "kaniko_warmer")

# Parts of one floor are strangers to each other.
FLOORS = (
    {"lean"},
    {"errors", "home", "progress", "linux", "version"},
    {"values", "positions"},
    {"oci", "addresses"},
    {"cacheplaces", "attestations"},
    {"options"},
    {"registry", "cache", "context", "dockerfile", "rootfs", "sandbox"},
    {"remote", "steps"},
    {"builder"},
    {"warm"},
    {"console", "tracing"},
    {"cli"},
    {"__init__"},
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

# Module or call, and the only places that may use it; "" is the programs.
HOMES = {
    "ctypes": {"linux.py"},
    "dataclasses.dataclass": {"lean.py"},
    "subprocess": {"sandbox/", "registry/helpers.py", "remote/"},
    "httpx": {"registry/"},
    "oras": {"registry/"},
    "dockerfile_parse": {"dockerfile/"},
    "filelock": {"cache/", "rootfs/store.py", "builder/workspace.py"},
    "rich": {"console/live.py"},
    "packageurl": {"attestations/"},
    "license_expression": {"attestations/"},
    "sqlite3": {"attestations/rpmdb.py"},
    "opentelemetry": {"tracing/"},
    "typer": {"cli/", ""},
    "os.environ": {"cli/", "registry/auth.py", "registry/helpers.py", "remote/environment.py", ""},
    "os.environb": set(),
    "os.getenv": set(),
    "os.fork": {"sandbox/"},
    "os.forkpty": set(),
    "os.system": set(),
    "os.popen": set(),
    "os.posix_spawn": {"sandbox/"},
    "os.chdir": {"sandbox/"},
    "os.umask": {"sandbox/"},
}

# Too slow to be paid by a program that only shows its help, or finds everything warm.
HEAVY = {
    *("httpx", "oras", "requests", "rich", "isal", "dockerfile_parse", "backports"),
    *("botocore", "google", "obstore"),
    "opentelemetry",
    *("packageurl", "license_expression", "sqlite3"),
}
HEAVY_AT_THE_TOP = {
    *("registry/light.py", "registry/conversation.py", "registry/endpoints.py"),
    "console/live.py",
}

LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 60  # lines


def modules() -> list[Path]:
    return sorted(
        path
        for folder in ("kaniko_core", *PROGRAMS)
        for path in (REPOSITORY / folder).rglob("*.py")
    )


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the full name of each thing imported in *node*, in functions too."""
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0, "relative imports hide which floor is meant"
            yield from (f"{item.module}.{alias.name}" for alias in item.names)


def used(path: Path) -> set[str]:
    """Return what is imported, and every ``os.name`` that is mentioned."""
    names = set(imported(parsed(path)))
    for item in ast.walk(parsed(path)):
        if (
            isinstance(item, ast.Attribute)
            and isinstance(item.value, ast.Name)
            and item.value.id == "os"
        ):
            names.add(f"os.{item.attr}")
    return names


def imports_at_the_top(path: Path) -> set[str]:
    """Return top-level packages that are imported together with the module."""
    found = set()
    for statement in parsed(path).body:
        # ``if TYPE_CHECKING`` is a top-level statement of another kind, and costs nothing.
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found |= {name.partition(".")[0] for name in imported(statement)}
    return found


def home_of(path: Path) -> str:
    """Return the module's name below kaniko_core; nothing for modules of the programs."""
    return path.relative_to(CORE).as_posix() if path.is_relative_to(CORE) else ""


def part_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def lives_in(home: str, homes: set[str]) -> bool:
    return any(home == place or (place.endswith("/") and home.startswith(place)) for place in homes)


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_every_part_has_a_floor() -> None:
    parts = {part_of(path) for path in modules() if home_of(path)}
    assert parts <= FLOOR.keys()


@pytest.mark.parametrize("path", [p for p in modules() if home_of(p)], ids=named)
def test_imports_only_go_down(path: Path) -> None:
    home = part_of(path)
    for name in imported(parsed(path)):
        package, _, rest = name.partition(".")
        assert package not in PROGRAMS, f"{named(path)} imports the program {package}"
        target = rest.partition(".")[0]
        if package != "kaniko_core" or target == home:
            continue
        assert target in FLOOR, f"{named(path)} imports {name}, which has no floor"
        assert FLOOR[target] < FLOOR[home], f"{named(path)} reaches up or across to {target}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_strangers(program: str) -> None:
    other = next(name for name in PROGRAMS if name != program)
    for path in (REPOSITORY / program).rglob("*.py"):
        assert other not in {name.partition(".")[0] for name in imported(parsed(path))}


@pytest.mark.parametrize("thing", HOMES)
def test_has_one_home(thing: str) -> None:
    strangers = [
        named(path)
        for path in modules()
        if any(name == thing or name.startswith(f"{thing}.") for name in used(path))
        and not lives_in(home_of(path), HOMES[thing])
    ]
    assert not strangers, f"{thing} belongs to {sorted(HOMES[thing])}"


@pytest.mark.parametrize("path", modules(), ids=named)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    if home_of(path) not in HEAVY_AT_THE_TOP:
        assert not imports_at_the_top(path) & HEAVY


@pytest.mark.parametrize("path", modules(), ids=named)
def test_modules_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE
    for item in ast.walk(parsed(path)):
        if isinstance(item, ast.FunctionDef):
            assert item.end_lineno is not None
            lines = item.end_lineno - item.lineno + 1 - (ast.get_docstring(item) or "").count("\n")
            assert lines <= LONGEST_FUNCTION, f"{item.name} has {lines} lines"


@pytest.mark.parametrize("path", modules(), ids=named)
def test_nothing_is_left_for_later(path: Path) -> None:
    assert not re.search(r"# *(TODO|FIXME|XXX)|raise NotImplementedError", path.read_text())


# --- the checks themselves -----------------------------------------------------------------


def test_a_climb_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "climbing.py"
    module.write_text("def late():\n    from kaniko_core.builder.plan import Plan\n    import os\n")
    assert set(imported(parsed(module))) == {"kaniko_core.builder.plan.Plan", "os"}


def test_the_environment_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "peeking.py"
    module.write_text("import os\nfrom os import getenv\nprint(os.environ['HOME'])\n")
    assert {"os.environ", "os.getenv"} <= used(module)
