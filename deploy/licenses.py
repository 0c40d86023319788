"""Whose work is in our images, and on which terms: the directory /kaniko/licenses.

licenses/
├── VERSIONS            a line for each: Debian's packages, and those of Python
├── kaniko-py           ours
├── <package>           the texts, as each package has them
└── GPL-2, …            the well-known ones, which Debian's packages only name
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

_DEBIAN = Path("/var/lib/dpkg")
_DOCUMENTS = Path("/usr/share/doc")
_COMMON = Path("/usr/share/common-licenses")
_TEXT = re.compile(r"\.dist-info/(?:.*/)?(?:LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)


def take_licenses(target: Path, files: Iterable[Path], dependencies: Path) -> None:
    """Write the licenses of those packages that *files* are from into the new directory *target*.

    Args:
        target: where the texts go.
        files: as they were found on this machine.
        dependencies: the directory that Python's packages are installed in.
    """
    target.mkdir(parents=True)
    found = {file.resolve() for file in files}
    lines, versions = [], _debian_versions()
    for package in sorted(_debian_packages(found)):
        take_terms(target, package)
        lines.append(f"{package} {versions[package]}\n")
    for distribution in sorted(distributions(path=[str(dependencies)]), key=lambda d: d.name):
        if any(Path(str(distribution.locate_file(file))) in found for file in _files(distribution)):
            (target / distribution.name).write_text(_text(distribution))
            lines.append(f"{distribution.name} {distribution.version}\n")
    (target / "VERSIONS").write_text("".join(lines))


def take_terms(target: Path, package: str) -> None:
    """Put the license of a package of Debian, and those that it names, into *target*."""
    target.mkdir(parents=True, exist_ok=True)
    text = (_DOCUMENTS / package / "copyright").read_text()
    (target / package).write_text(text)
    for name in re.findall(rf"{_COMMON}/([\w.-]*\w)", text):
        shutil.copyfile(_COMMON / name, target / name)


def _debian_packages(files: Iterable[Path]) -> set[str]:
    """Return the names of the packages that *files* are from."""
    # What is in /lib for one package is in /usr/lib for another, and is the same.
    wanted = {str(file).removeprefix("/usr") for file in files}
    found = set()
    for listing in (_DEBIAN / "info").glob("*.list"):
        if any(line.removeprefix("/usr") in wanted for line in listing.read_text().splitlines()):
            found.add(listing.stem.partition(":")[0])
    return found


def _debian_versions() -> Mapping[str, str]:
    status = (_DEBIAN / "status").read_text()
    pairs = re.findall(r"^Package: (.*)\n(?:.+\n)*?Version: (.*)$", status, re.MULTILINE)
    return dict(pairs)


def _files(distribution: Distribution) -> list[str]:
    return [str(file) for file in distribution.files or ()]


def _text(distribution: Distribution) -> str:
    """Return all license texts of a package of Python, or what it says about its license."""
    texts = [file for file in sorted(_files(distribution)) if _TEXT.search(file)]
    said = distribution.metadata
    parts = [f"License: {value}\n" for value in said.get_all("License-Expression") or ()]
    parts += [f"{value}\n" for value in said.get_all("Classifier") or () if "License" in value]
    parts += [Path(str(distribution.locate_file(file))).read_text() for file in texts]
    return "\n".join(parts)
