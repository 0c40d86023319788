"""Mirrors of registries, and certificates to show to them, as users write them.

``docker.io=mirror.example.com/hub;docker.io=other.example.com;gcr.io=mirror.example.com/gcr``
"""

from __future__ import annotations

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import DOCKER_HUB, DOCKER_HUB_HOST, Reference, Repository
from kaniko_core.values import key_value

_MAP_HINT = "write it as ORIGINAL=MIRROR or ORIGINAL=MIRROR/PREFIX; several with semicolons between"
_MIRROR_HINT = "a mirror looks like mirror.example.com:5000 or mirror.example.com/prefix"
_CLIENT_HINT = "write it as HOST=CERTIFICATE,KEY: two files in PEM form"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A registry that has the images of *registry*, below *prefix*."""

    registry: str
    host: str
    prefix: str = ""

    def repository(self, path: str) -> Repository:
        """Return where the mirror has the repository *path* of its original."""
        return Repository(self.host, f"{self.prefix}/{path}" if self.prefix else path)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate (PEM file, with its chain) for one host, and its key (PEM file)."""

    host: str
    certificate: str
    key: str


def mirror_map(text: str) -> tuple[Mirror, ...]:
    """Read ``ORIGINAL=MIRROR[/PREFIX][;…]``; an item without ``=`` has the original before it.

    Raises:
        UsageError: it maps nothing, or names no registry.
    """
    found: list[Mirror] = []
    original = ""
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, place = item.partition("=")
        if not equals and not original:
            raise UsageError(f"{item!r} maps no registry to another", hint=_MAP_HINT)
        original, place = (_registry(name), place) if equals else (original, name)
        found.append(_mirror(original, place, hint=_MAP_HINT))
    if not found:
        raise UsageError(f"{text!r} maps no registry to another", hint=_MAP_HINT)
    return tuple(found)


def hub_mirror(text: str) -> Mirror:
    """Read ``MIRROR[/PREFIX]``, a mirror of Docker Hub; raise UsageError where it is none."""
    return _mirror(DOCKER_HUB, text.strip(), hint=_MIRROR_HINT)


def client_certificate(text: str) -> ClientCertificate:
    """Read ``HOST=CERTIFICATE,KEY``; raise UsageError otherwise."""
    host, files = key_value(text)
    certificate, comma, key = files.partition(",")
    if not comma or not certificate or not key or "," in key:
        raise UsageError(f"{text!r} does not name a certificate and a key", hint=_CLIENT_HINT)
    return ClientCertificate(host, certificate, key)


def _registry(text: str) -> str:
    name = _without_scheme(text.strip()).rstrip("/")
    if "/" in name or not _is_repository(name, "x"):
        raise UsageError(
            f"{text!r} is not the name of a registry",
            hint="whole registries are mapped, such as docker.io or registry.example.com:5000",
        )
    return _canonical(name)


def _mirror(original: str, text: str, *, hint: str) -> Mirror:
    host, _, prefix = _without_scheme(text.strip()).strip("/").partition("/")
    if not _is_repository(host, f"{prefix}/x" if prefix else "x"):
        raise UsageError(f"{text!r} is not a registry that could be a mirror", hint=hint)
    return Mirror(original, _canonical(host), prefix)


def _without_scheme(text: str) -> str:
    # Docker's daemon wants URLs here, and people copy them.
    for scheme in ("https://", "http://"):
        if text.startswith(scheme):
            return text[len(scheme) :]
    return text


def _is_repository(host: str, path: str) -> bool:
    # With a port nothing is taken for a name on Docker Hub: a mirror may be called just mirror.
    with_port = host if ":" in host.rpartition("]")[2] else f"{host}:443"
    try:
        parsed = Reference.parse(f"{with_port}/{path}")
    except UsageError:
        return False
    return parsed.tag is None and parsed.digest is None


def _canonical(host: str) -> str:
    name = host.lower()
    return DOCKER_HUB if name in (f"index.{DOCKER_HUB}", DOCKER_HUB_HOST) else name
