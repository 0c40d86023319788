"""Packages as values: what some package manager says is installed."""

from __future__ import annotations

from kaniko_core.attestations.purl import package_url
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest

# Whose packages belong to a distribution, and which one where no os-release says it.
_DISTRIBUTED = {"deb": "debian", "apk": "alpine", "rpm": ""}
# Where the vendor's name in package URLs is another than in os-release.
_VENDORS = {"rhel": "redhat"}


@dataclass(frozen=True, slots=True)
class Distribution:
    """What ``/etc/os-release`` says; empty where there is none.

    Attributes:
        id: such as ``debian``.
        version: such as ``12``.
        name: for people.
    """

    id: str = ""
    version: str = ""
    name: str = ""

    @property
    def qualifier(self) -> str:
        """What a package URL says of it: ``debian-12``."""
        return "-".join(filter(None, (self.id, self.version)))


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package.

    Attributes:
        kind: the type of its package URL: ``deb``, ``apk``, ``rpm``, ``pypi``, ``npm``.
        namespace: of its URL; empty for that of the distribution, or where there is none.
        qualifiers: of its URL, beside the distribution.
        license: as its author wrote it: an expression, a name, a text.
        maker: who made it, as ``Person: …`` or ``Organization: …``.
        source: which database or file told of it, for people.
    """

    kind: str
    name: str
    version: str
    namespace: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()
    license: str = ""
    maker: str = ""
    homepage: str = ""
    source: str = ""

    @property
    def has_name(self) -> bool:
        """Whether the name is one that a package can have: one word, and no path."""
        if not self.name or not self.name.isprintable():
            return False
        return not any(character.isspace() or character == "/" for character in self.name)

    def url(self, distribution: Distribution) -> str:
        """Return its package URL in an image of *distribution*."""
        if self.kind not in _DISTRIBUTED:
            return package_url(self.kind, self.namespace, self.name, self.version, {})
        vendor = _VENDORS.get(distribution.id, distribution.id) or _DISTRIBUTED[self.kind]
        qualifiers = dict(self.qualifiers) | {"distro": distribution.qualifier}
        return package_url(self.kind, vendor, self.name, self.version, qualifiers)


@dataclass(frozen=True, slots=True)
class Installed:
    """A package, the path that told of it, and the layer that brought it."""

    package: Package
    path: str
    layer: Digest


def person(text: str) -> str:
    """Return ``Name <address>`` as SPDX writes people: ``Person: Name (address)``."""
    name, less, address = " ".join(text.split()).partition("<")
    name, address = name.strip().strip('"'), address.partition(">")[0].strip()
    if not name:
        return ""
    return f"Person: {name} ({address})" if less and "@" in address else f"Person: {name}"
