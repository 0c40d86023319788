"""Where the Git LFS server of a checkout is, and what it may be told of the user.

Source: git-lfs, docs/api/server-discovery.md.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path

from kaniko_core.addresses.url import Url, parse_url
from kaniko_core.errors import RegistryError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.registry.session import origin_of
from kaniko_core.remote.git.run import GitFailed
from kaniko_core.remote.lfs.answers import Endpoint, action_headers
from kaniko_core.remote.web.files import basic

_CONFIGURATION = ".lfsconfig"
_SCP = re.compile(r"(?P<host>(?:[^@/:]+@)?[^@/:]+):/?(?P<path>.*)")
_NO_SERVER = "give the repository's https address, if it has one"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A repository that was checked out, its ``.git`` still there.

    Attributes:
        directory: its root.
        run_git: ``run_git(directory, *arguments)`` runs git there and returns what it writes;
            it raises GitFailed.
        authorization: returns the ``Authorization`` that git sends to an http or https address,
            of a repository or of an LFS server elsewhere; None for none.
        run_ssh: ``run_ssh(*arguments)`` runs ssh as git does and returns what it writes; it
            raises GitFailed.
        unverified: the origin whose certificate is not verified, if there is one.
    """

    directory: Path
    run_git: Callable[..., str]
    authorization: Callable[[str], str | None] = field(repr=False)
    run_ssh: Callable[..., str]
    unverified: str | None = None

    def git(self, *arguments: str) -> str:
        """Run git here, and return what it writes."""
        return self.run_git(self.directory, *arguments)

    def at(self, directory: Path) -> Checkout:
        """Return the same for a submodule."""
        return replace(self, directory=directory)

    @property
    def address(self) -> str:
        """Where it is from."""
        return self.git("config", "--get", "remote.origin.url").strip()


def name_of(checkout: Checkout) -> str:
    """Name the repository for people."""
    address = checkout.address
    return parse_url(address).name if "://" in address else address


def endpoint_of(checkout: Checkout) -> Endpoint:
    """Return the LFS server of *checkout*.

    Raises:
        UsageError: there can be none, or the repository names one that cannot be used.
        RegistryError: the SSH server tells nothing usable.
        GitFailed: git or ssh ended with an error.
    """
    address = checkout.address
    configured = _configured(checkout)
    if configured:
        return _configured_endpoint(checkout, address, configured)
    if "://" not in address:
        match = _SCP.fullmatch(address)
        if match is None:
            raise UsageError("no LFS server belongs to its address", hint=_NO_SERVER)
        return _over_ssh(checkout, match["host"], "", match["path"])
    url = parse_url(address)
    if url.scheme in ("http", "https"):
        return _endpoint(_below(url), _authorization(checkout, url))
    if url.scheme == "ssh":
        user = f"{url.user[0]}@" if url.user else ""
        port = url.host.removeprefix(url.host_name).removeprefix(":")
        return _over_ssh(checkout, user + url.host_name, port, url.path.removeprefix("/"))
    raise UsageError(f"there is no LFS for {url.scheme}://", hint=_NO_SERVER)


def _below(url: Url) -> Url:
    """Return the LFS server that belongs to the repository at the http or https *url*."""
    path = url.raw_path.rstrip("/").removesuffix(".git")
    return parse_url(f"{origin_of(str(url.anonymous))}{path}.git/info/lfs")


def _endpoint(url: Url, authorization: str | None) -> Endpoint:
    headers = {} if authorization is None else {"Authorization": authorization}
    hint = f"give a token with --secret id=GIT_AUTH_TOKEN.{url.host},src=FILE"
    return Endpoint(url.anonymous.without_fragment, headers, hint)


def _authorization(checkout: Checkout, url: Url) -> str | None:
    told = checkout.authorization(str(url.anonymous))
    return basic(*url.user) if told is None and url.user is not None else told


def _configured(checkout: Checkout) -> str:
    """Return the server that the commit names, if any."""
    if not checkout.git("ls-files", "--", _CONFIGURATION):
        return ""
    # Of the commit, because a sparse checkout may not have it.
    said = checkout.git("config", "--blob", f"HEAD:{_CONFIGURATION}", "-z", "--list")
    settings = dict(entry.partition("\n")[::2] for entry in said.split("\0"))
    return settings.get("lfs.url") or settings.get("remote.origin.lfsurl") or ""


def _configured_endpoint(checkout: Checkout, address: str, configured: str) -> Endpoint:
    try:
        url = parse_url(configured)
    except UsageError:
        raise UsageError(f"lfs.url in its {_CONFIGURATION} is no address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(
            f"lfs.url in its {_CONFIGURATION} is no address of http or https: {url.name}",
            hint="fetch the repository with git lfs before the build",
        )
    repository = parse_url(address) if "://" in address else None
    if repository is not None and origin_of(str(repository)) == origin_of(str(url)):
        # The server that gave the repository.
        return _endpoint(url, _authorization(checkout, replace(repository, user=url.user)))
    return _endpoint(url, _authorization(checkout, url))


def _over_ssh(checkout: Checkout, host: str, port: str, path: str) -> Endpoint:
    """Ask the SSH server where the LFS server is, and what it has to be told."""
    command = f"git-lfs-authenticate {shlex.quote(path)} download"
    options = ("-p", port) if port else ()
    try:
        said = checkout.run_ssh(*options, "--", host, command)
    except GitFailed as error:
        message = f"the SSH server does not tell where the LFS server is: {error}"
        raise RegistryError(message, hint=_NO_SERVER) from error
    try:
        told = json.loads(said)
        href = told.get("href") or ""
    except (ValueError, AttributeError, RecursionError) as error:
        message = "the SSH server does not tell where the LFS server is"
        raise RegistryError(message, hint=_NO_SERVER) from error
    name = host.rpartition("@")[2]
    url = parse_url(str(href)) if href else _below(parse_url(f"https://{name}/{path}"))
    if url.scheme not in ("http", "https") or not url.host:
        raise RegistryError("the SSH server names an LFS server without an address of the web")
    return Endpoint(url.anonymous.without_fragment, action_headers(told.get("header")))
