"""Credentials, from where Docker and its relatives keep them.

Sources are asked in this order; the first that has an entry for the repository wins:

1. ``DOCKER_AUTH_CONFIG``: the content of a config file (Docker, GitLab runners)
2. ``DOCKER_CONFIG`` (a directory, or the file itself), else ``~/.docker/config.json``
3. ``REGISTRY_AUTH_FILE``
4. ``$XDG_RUNTIME_DIR/containers/auth.json``

In a file: the ``credHelpers`` entry of the registry, then ``auths``, then ``credsStore``. Keys
may have a scheme (``https://index.docker.io/v1/``) and a path (``quay.io/team``); the longest
that fits wins. This and ``cli.py`` are the only readers of the environment, and this is the only
module that starts processes outside the sandbox: ``docker-credential-NAME get``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from kaniko_core.errors import UsageError
from kaniko_core.oci.reference import DOCKER_HUB, DOCKER_HUB_HOST, Repository

_HUB_NAMES = frozenset({DOCKER_HUB, f"index.{DOCKER_HUB}", DOCKER_HUB_HOST})
# What helpers are asked for Docker Hub; it is what `docker login` stores.
_HUB_SERVER = f"https://index.{DOCKER_HUB}/v1/"
# Seconds; helpers of cloud providers talk to their metadata service.
_HELPER_TIMEOUT = 30.0
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a user can prove: a password, an identity token or a ready registry token.

    Attributes:
        identity_token: exchanged for registry tokens by OAuth2 (``<token>`` in helpers).
        registry_token: sent to the registry as it is.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

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
class Lookup:
    """What was found, and where was looked, in order, in words for people."""

    credentials: Credentials | None
    sources: tuple[str, ...] = ()


class Keychain(Protocol):
    """Knows credentials."""

    def look_up(self, repository: Repository) -> Lookup:
        """Return the credentials for *repository*; may be called from any thread."""


class Anonymous:
    """A keychain without any key."""

    def look_up(self, repository: Repository) -> Lookup:
        """Return nothing."""
        return Lookup(None)


class DockerKeychain:
    """The keychain of this module's docstring; files are read anew each time."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)

    def look_up(self, repository: Repository) -> Lookup:
        """Return the first credentials found.

        Raises:
            UsageError: a config file is damaged, or a credential helper fails.
        """
        sources: list[str] = []
        for name, load in self._configs():
            data = load()
            if isinstance(data, str):
                sources.append(f"{name} ({data})")
                continue
            found = _Config(name, data, self._ask_helper).look_up(repository)
            if found is not None:
                return Lookup(found[0], (*sources, f"{name} ({found[1]})"))
            sources.append(f"{name} (no entry for {repository.registry})")
        return Lookup(None, tuple(sources))

    def _configs(self) -> Iterator[tuple[str, Callable[[], Mapping[str, Any] | str]]]:
        env = self._environment
        if inline := env.get("DOCKER_AUTH_CONFIG"):
            name = "$DOCKER_AUTH_CONFIG"
            yield name, partial(_parsed, inline.encode(), name)
        for path in config_files(env):
            yield str(path), partial(_read, path)

    def _ask_helper(self, helper: str, server: str, named_in: str) -> Credentials | None:
        """Run ``docker-credential-HELPER get``; None where it knows none."""
        import subprocess  # 3 ms that most runs do not need

        if not re.fullmatch(r"[\w.-]+", helper):
            raise UsageError(f"{named_in} names {helper!r}, which is no credential helper")
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"],
                input=server.encode(),
                capture_output=True,
                timeout=_HELPER_TIMEOUT,
                env=self._environment,
                check=False,
            )
        except FileNotFoundError:
            raise _broken(program, named_in, "it is not installed") from None
        except subprocess.TimeoutExpired:
            raise _broken(program, named_in, f"no answer in {_HELPER_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise _broken(program, named_in, error.strerror or "it cannot be started") from error
        if done.returncode != 0:
            # Helpers say what went wrong on stdout; a secret is only there after success.
            said = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")
            if _NOT_FOUND in said.lower():
                return None
            raise _broken(program, named_in, f"it said: {said[:200]}")
        return _helper_answer(done.stdout, program, named_in)


def config_files(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Return where credentials are looked for, in this order; they may be missing."""
    env = os.environ if environment is None else environment
    paths: list[Path] = []
    if docker := env.get("DOCKER_CONFIG"):
        path = Path(docker)
        paths.append(path if path.is_file() else path / "config.json")
    elif home := env.get("HOME"):
        paths.append(Path(home) / ".docker" / "config.json")
    if file := env.get("REGISTRY_AUTH_FILE"):
        paths.append(Path(file))
    if runtime := env.get("XDG_RUNTIME_DIR"):
        paths.append(Path(runtime) / "containers" / "auth.json")
    return paths


@dataclass(frozen=True, slots=True)
class _Config:
    name: str
    data: Mapping[str, Any]
    ask_helper: Callable[[str, str, str], Credentials | None]

    def look_up(self, repository: Repository) -> tuple[Credentials, str] | None:
        """Return credentials and the entry that had them, or None."""
        full = _normal(str(repository))
        server = full.partition("/")[0]
        asked = _HUB_SERVER if server == DOCKER_HUB else server
        if (helper := _best(self.data.get("credHelpers"), full)) is not None:
            found = self.ask_helper(str(helper[1]), asked, self.name)
            if found is not None:
                return found, f"credential helper {helper[1]}"
        entry = _best(self.data.get("auths"), full, useful=_has_secret)
        if entry is not None:
            return _credentials(entry[1], f"{self.name}, entry {entry[0]}"), f"entry {entry[0]}"
        if store := self.data.get("credsStore"):
            found = self.ask_helper(str(store), asked, self.name)
            if found is not None:
                return found, f"credential helper {store}"
        return None


def _normal(key: str) -> str:
    """Return ``host`` or ``host/path`` for a key of a config file."""
    host, _, path = re.sub(r"^https?://", "", key).strip("/").partition("/")
    if path in ("v1", "v2"):
        path = ""
    host = DOCKER_HUB if host.lower() in _HUB_NAMES else host.lower()
    return f"{host}/{path}" if path else host


def _best(
    entries: object, full: str, useful: Callable[[object], bool] = bool
) -> tuple[str, Any] | None:
    """Return the useful entry whose key is the longest prefix of *full*, whole components."""
    if not isinstance(entries, Mapping):
        return None
    fitting = [
        (len(_normal(key)), key)
        for key, value in entries.items()
        if f"{full}/".startswith(f"{_normal(key)}/") and useful(value)
    ]
    if not fitting:
        return None
    key = max(fitting)[1]
    return key, entries[key]


_SECRETS = ("auth", "password", "identitytoken", "registrytoken")


def _has_secret(entry: object) -> bool:
    # `docker login` leaves an empty entry behind where a credsStore has the secret.
    return isinstance(entry, Mapping) and any(entry.get(name) for name in _SECRETS)


def _credentials(entry: Mapping[str, Any], where: str) -> Credentials:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        try:
            text = base64.b64decode(str(auth), validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        username, colon, password = text.partition(":")
        if not colon:
            raise UsageError(
                f"the field auth in {where} is damaged",
                hint="it is user:password in base64; `docker login` writes it",
            )
        password = password.rstrip("\0")
    return Credentials(
        username,
        password,
        str(entry.get("identitytoken") or ""),
        str(entry.get("registrytoken") or ""),
    )


def _read(path: Path) -> Mapping[str, Any] | str:
    """Return the content of a config file, or why there is none."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return "not there"
    except OSError as error:
        return error.strerror or "not readable"
    return _parsed(data, str(path))


def _parsed(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise UsageError(
            f"cannot read credentials from {name}: it is not a JSON object",
            hint="it should look like what `docker login` writes",
        )
    return parsed


def _helper_answer(stdout: bytes, program: str, named_in: str) -> Credentials | None:
    try:
        answer = json.loads(stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _broken(program, named_in, "its answer has no Username and Secret") from None
    if username == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if username or secret else None


def _broken(program: str, named_in: str, why: str) -> UsageError:
    return UsageError(
        f"the credential helper {program} does not work: {why}",
        hint=f"it is named in {named_in}; install or repair it, or remove it there",
    )
