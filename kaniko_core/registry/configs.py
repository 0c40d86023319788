"""Config files with credentials: Docker's and Podman's, which have one form.

In a file: the ``credHelpers`` entry of the registry, then ``auths``, then ``credsStore``. Keys
may have a scheme (``https://index.docker.io/v1/``) and a path (``quay.io/team``); the longest
that fits wins, so that one registry can have several credentials.
Sources: docker-login(1); containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import DOCKER_HUB, Repository
from kaniko_core.registry.credentials import HUB_NAMES, HUB_SERVER, Credentials, Finding

# Asks a helper (its name without docker-credential-) for a repository; the last is where it is
# named. A finding without credentials tells why the helper has none.
AskHelper = Callable[[str, Repository, str], Finding]


def config_paths(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where credentials are looked for, in this order; they may be missing."""
    paths: list[Path] = []
    if (docker := docker_config(env)) is not None:
        paths.append(docker)
    if file := env.get("REGISTRY_AUTH_FILE"):
        paths.append(Path(file))
    # Where Podman keeps them if XDG_RUNTIME_DIR is not set, which it seldom is for root.
    runtime = env.get("XDG_RUNTIME_DIR")
    directories = [Path(runtime) if runtime else None]
    if config := env.get("XDG_CONFIG_HOME"):
        directories.append(Path(config))
    elif home := env.get("HOME"):
        directories.append(Path(home) / ".config")
    paths.extend(path / "containers" / "auth.json" for path in directories if path is not None)
    if not runtime:
        fallback = Path("/run/containers") / str(os.getuid()) / "auth.json"
        if fallback.exists():
            paths.append(fallback)
    return tuple(dict.fromkeys(paths))


def docker_config(env: Mapping[str, str]) -> Path | None:
    """Return Docker's config file: below ``DOCKER_CONFIG`` (or that file itself), or in HOME."""
    if docker := env.get("DOCKER_CONFIG"):
        path = Path(docker)
        return path if path.is_file() else path / "config.json"
    home = env.get("HOME")
    return Path(home) / ".docker" / "config.json" if home else None


class ConfigFiles:
    """The source of config files; they are read anew each time, because they may be renewed."""

    def __init__(self, environment: Mapping[str, str], ask_helper: AskHelper) -> None:
        self._environment = environment
        self._ask_helper = ask_helper

    def __call__(self, repository: Repository) -> Iterator[Finding]:
        """Yield what each file says.

        Raises:
            UsageError: a config file is damaged, or a credential helper fails.
        """
        inline = "$DOCKER_AUTH_CONFIG"
        if content := self._environment.get(inline[1:]):
            data = parsed_config(content.encode(), inline)
            yield from _Config(inline, data, self._ask_helper).look_up(repository)
        for path in config_paths(self._environment):
            read = _read(path)
            if isinstance(read, str):
                yield Finding(str(path), read)
            else:
                yield from _Config(str(path), read, self._ask_helper).look_up(repository)


@dataclass(frozen=True, slots=True)
class _Config:
    name: str
    data: Mapping[str, Any]
    ask_helper: AskHelper

    def look_up(self, repository: Repository) -> Iterator[Finding]:
        full = normal(str(repository))
        silent = True
        if (helper := best(self.data.get("credHelpers"), full)) is not None:
            yield self._helped(str(helper[1]), repository)
            silent = False
        entry = best(self.data.get("auths"), full, useful=_has_secret)
        if entry is not None:
            found = _credentials(entry[1], f"{self.name}, entry {entry[0]}")
            yield Finding(self.name, f"entry {entry[0]}", found)
            silent = False
        if store := self.data.get("credsStore"):
            yield self._helped(str(store), repository)
            silent = False
        if silent:
            yield Finding(self.name, f"no entry for {repository.registry}")

    def _helped(self, helper: str, repository: Repository) -> Finding:
        answer = self.ask_helper(helper, repository, self.name)
        return Finding(self.name, f"credential helper {helper}{answer.said}", answer.credentials)


def server_name(repository: Repository) -> str:
    """Return what helpers call the repository's registry."""
    return HUB_SERVER if repository.registry == DOCKER_HUB else repository.registry.lower()


def normal(key: str) -> str:
    """Return ``host`` or ``host/path`` for a key of a config file."""
    host, _, path = re.sub(r"^https?://", "", key).strip("/").partition("/")
    if path in ("v1", "v2"):
        path = ""
    host = DOCKER_HUB if host.lower() in HUB_NAMES else host.lower()
    return f"{host}/{path}" if path else host


def best(
    entries: object, full: str, useful: Callable[[object], bool] = bool
) -> tuple[str, Any] | None:
    """Return the useful entry whose key is the longest prefix of *full*, whole components."""
    if not isinstance(entries, Mapping):
        return None
    fitting = [
        (len(normal(key)), key)
        for key, value in entries.items()
        if f"{full}/".startswith(f"{normal(key)}/") and useful(value)
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
        except (binascii.Error, UnicodeDecodeError, ValueError):
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
    return parsed_config(data, str(path))


def parsed_config(data: bytes, name: str) -> dict[str, Any]:
    """Return the content of a config file.

    Raises:
        UsageError: it is no JSON object; *name* says which.
    """
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
