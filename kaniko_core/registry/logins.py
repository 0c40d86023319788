"""``login`` and ``logout``: credentials in Docker's config file, or in the helper that it names.

What is there already stays: other registries, other settings, their order. The file is replaced
as a whole, so that a reader sees the old one or the new one, and only its owner can read it.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaniko_core.errors import UsageError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import DOCKER_HUB, Repository
from kaniko_core.registry.configs import best, normal, parsed_config
from kaniko_core.registry.credentials import HUB_SERVER, Credentials, Lookup
from kaniko_core.registry.helpers import HelperProgram


@dataclass(frozen=True, slots=True)
class Server:
    """What a user logs in to: a registry, or a part of one.

    Attributes:
        name: ``host``, or ``host/path`` for credentials that are for that path only.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> Server:
        """Read ``quay.io``, ``quay.io/team``, ``https://index.docker.io/v1/``.

        Raises:
            UsageError: it is no registry's name.
        """
        name = normal(text.strip())
        try:
            repository = Repository.parse(f"{name}/login")
        except UsageError:
            repository = None
        host = name.partition("/")[0]
        if repository is None or repository.registry != host:
            raise UsageError(
                f"{text!r} is not the name of a registry",
                hint="it looks like registry.example.com, localhost:5000 or docker.io",
            )
        return cls(name)

    @property
    def repository(self) -> Repository:
        """A repository that the credentials are for; it need not exist."""
        return Repository.parse(f"{self.name}/login")

    @property
    def key(self) -> str:
        """What the config file, and helpers, call it."""
        return HUB_SERVER if self.name == DOCKER_HUB else self.name


class GivenKeychain:
    """A keychain with the credentials that the user gave; knows whether anybody asked.

    Attributes:
        asked: whether the registry wanted any credentials.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.asked = False

    def look_up(self, repository: Repository) -> Lookup:
        """Return what was given."""
        self.asked = True
        return Lookup(self._credentials)


def store(
    server: Server,
    credentials: Credentials,
    path: Path,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Keep *credentials* for *server*; return where, in words.

    Args:
        server: what they are for.
        credentials: a user's name and password.
        path: the config file; it need not exist.
        environment: what helper programs are started with; that of the process by default.

    Raises:
        UsageError: the file is damaged, or the helper that it names does not work.
        DiskError: it cannot be written.
    """
    with _changing(path) as config:
        auths = config.setdefault("auths", {})
        for key in _keys(auths, server):
            del auths[key]
        helper = _helper(config, server)
        if helper is None:
            pair = f"{credentials.username}:{credentials.password}".encode()
            auths[server.key] = {"auth": base64.b64encode(pair).decode()}
            return str(path)
        HelperProgram(helper, str(path), environment).store(server.key, credentials)
        # What `docker login` leaves to tell that there is something in the helper.
        auths[server.key] = {}
        return f"the credential helper {helper}, which {path} names"


def erase(server: Server, path: Path, environment: Mapping[str, str] | None = None) -> bool:
    """Forget what is kept for *server*; return whether there was anything.

    Raises:
        UsageError: the file is damaged, or the helper that it names does not work.
        DiskError: it cannot be written.
    """
    if not path.exists():
        return False
    with _changing(path) as config:
        auths = config.get("auths", {})
        keys = _keys(auths, server)
        for key in keys:
            del auths[key]
        helper = _helper(config, server)
        if helper is None:
            return bool(keys)
        HelperProgram(helper, str(path), environment).erase(server.key)
        return True


def _keys(auths: object, server: Server) -> list[str]:
    if not isinstance(auths, dict):
        raise UsageError("the field auths of Docker's config file is no object")
    return [key for key in auths if normal(key) == server.name]


def _helper(config: Mapping[str, Any], server: Server) -> str | None:
    """Return the name of the helper that has the registry's credentials."""
    own = best(config.get("credHelpers"), server.name)
    name = own[1] if own is not None else config.get("credsStore")
    return str(name) if name else None


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Any]]:
    """Lend the file's content, and write it back as the block leaves it.

    A block that raises changes nothing. Where nothing has changed, nothing is written.
    """
    with disk_errors("keep credentials in", path):
        # A link, such as Kubernetes makes, stays one.
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone_in(path.parent):
            content = path.read_bytes() if path.exists() else b""
            config = parsed_config(content, str(path))
            before = json.dumps(config)
            yield config
            if json.dumps(config) != before:
                _replace(path, json.dumps(config, indent="\t").encode() + b"\n")


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other login changes a file in *directory*."""
    import fcntl

    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(path: Path, content: bytes) -> None:
    # mkstemp's files have mode 0600 from their first moment.
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
