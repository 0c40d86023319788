"""What a user can prove to a registry, and what each place that was searched for it said."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Protocol

from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import DOCKER_HUB, DOCKER_HUB_HOST, Repository

HUB_NAMES = frozenset({DOCKER_HUB, f"index.{DOCKER_HUB}", DOCKER_HUB_HOST})
# What `docker login` stores for Docker Hub, and what helpers are asked for.
HUB_SERVER = f"https://index.{DOCKER_HUB}/v1/"
FOREVER = float("inf")
_LONGEST_SAYING = 200  # characters


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a user can prove: a password, an identity token or a ready registry token.

    Attributes:
        identity_token: exchanged for registry tokens by OAuth2 (``<token>`` in helpers).
        registry_token: sent to the registry as it is.
        expires: when they are of no use any more, in seconds of ``time.monotonic``.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    expires: float = field(default=FOREVER, compare=False)

    @property
    def basic(self) -> str | None:
        """The value of an ``Authorization: Basic`` header, or None without a password."""
        if not self.username and not self.password:
            return None
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def __repr__(self) -> str:
        return "Credentials(<hidden>)"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one place said when it was asked for credentials, in words without any secret."""

    place: str
    said: str
    credentials: Credentials | None = None

    def __str__(self) -> str:
        return f"{self.place} ({self.said})"


# Asks one kind of place after another; whoever iterates stops when there are credentials.
Source = Callable[[Repository], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was found, and where was looked, in order, in words for people."""

    credentials: Credentials | None
    sources: tuple[str, ...] = ()


class Keychain(Protocol):
    """Knows credentials."""

    def look_up(self, repository: Repository) -> Lookup:
        """Return the credentials for *repository*; may be called from any thread."""


class LateKeychain:
    """A keychain that *make* returns when somebody asks for credentials: most never need any."""

    def __init__(self, make: Callable[[], Keychain]) -> None:
        self._make = make
        self._made: Keychain | None = None
        self._lock = threading.Lock()

    def look_up(self, repository: Repository) -> Lookup:
        """Return what the keychain knows."""
        with self._lock:
            keychain = self._made = self._made or self._make()
        return keychain.look_up(repository)


class Anonymous:
    """A keychain without any key."""

    def look_up(self, repository: Repository) -> Lookup:
        """Return nothing."""
        return Lookup(None)


def first_found(sources: Iterable[Source], repository: Repository) -> Lookup:
    """Ask *sources* in order until one has credentials."""
    said: list[str] = []
    for source in sources:
        for finding in source(repository):
            said.append(str(finding))
            if finding.credentials is not None:
                return Lookup(finding.credentials, tuple(said))
    return Lookup(None, tuple(said))


def one_line(text: str) -> str:
    """Return what another program said, short and on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_SAYING else f"{line[:_LONGEST_SAYING]}…"
