"""Which modules a program needs: those that its import statements reach, wherever they stand.

Imports inside of functions count, those that only type checkers see do not. What is imported by
a computed name cannot be seen: it has to be named.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

_SHARED_PART = re.compile(rb"\b[0-9a-f]{20}__mypyc\b")


@dataclass(frozen=True, slots=True)
class Module:
    """A module in a file: Python source, or a shared library."""

    name: str
    file: Path
    package: bool


def closure(
    roots: Iterable[str], search: Collection[Path], never: Collection[str]
) -> dict[str, Module]:
    """Return the modules that *roots* need, and themselves, by name.

    Args:
        roots: names of modules; ``encodings.*`` means all modules of a package.
        search: directories, as in ``sys.path``.
        never: modules that are not followed, nor anything below them.
    """
    path = [str(directory) for directory in search]
    found: dict[str, Module] = {}
    seen: set[str] = set()
    waiting = [name for root in roots for name in _expanded(root, path)]
    while waiting:
        name = waiting.pop()
        if name in seen or any(name == no or name.startswith(f"{no}.") for no in never):
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        if (module := find(name, path)) is None:
            continue
        found[name] = module
        waiting.extend(imports(module))
    return found


def find(name: str, path: list[str]) -> Module | None:
    """Return the module *name*; None where it is built in, a namespace, or not there at all."""
    where: list[str] | None = path
    spec = None
    for part in name.split("."):
        if where is None:
            return None  # below a module that is no package
        # By its last part: a namespace below another one would want that to be imported.
        spec = PathFinder.find_spec(part, where)
        if spec is None:
            return None
        locations = spec.submodule_search_locations
        where = None if locations is None else list(locations)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    return Module(name, Path(spec.origin), where is not None)


def _expanded(root: str, path: list[str]) -> list[str]:
    """Return *root*, or for ``package.*`` every module below the package."""
    if not root.endswith(".*"):
        return [root]
    package = find(root.removesuffix(".*"), path)
    if package is None:
        raise SystemExit(f"collect: there is no package {root.removesuffix('.*')}")
    top = package.file.parent
    files = (file.relative_to(top).with_suffix("") for file in sorted(top.rglob("*.py")))
    names = (".".join((package.name, *file.parts)) for file in files)
    return [package.name, *(name.removesuffix(".__init__") for name in names)]


def imports(module: Module) -> Iterator[str]:
    """Yield the names that *module* may import; some may turn out to be no modules."""
    if module.file.suffix != ".py":
        # The parts of a package that mypyc has compiled share a library beside the package.
        yield from (name.decode() for name in _SHARED_PART.findall(module.file.read_bytes()))
        return
    package = module.name if module.package else module.name.rpartition(".")[0]
    for node in _statements(ast.parse(module.file.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node below *node*, but for what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _for_checkers_only(child.test):
            for other in child.orelse:
                yield other
                yield from _statements(other)
        else:
            yield child
            yield from _statements(child)


def _for_checkers_only(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
