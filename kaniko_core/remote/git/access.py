"""How a git repository is reached: whose certificates count there, and who we are.

Credentials are for the address that is fetched, and nothing else that it leads to; those of
GIT_USERNAME, GIT_PASSWORD and GIT_TOKEN for one host, and what submodules fetch from there.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path

from kaniko_core.addresses.git import GitReference
from kaniko_core.addresses.url import Url, parse_url
from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.registry.hosts import Trust
from kaniko_core.registry.network import is_not_tls
from kaniko_core.remote.git.run import Access
from kaniko_core.remote.web.files import basic, header_text
from kaniko_core.remote.web.netrc import Netrc

# Ids of secrets that hold an ``Authorization`` header, or a token; ``.HOST`` may follow.
HEADER_SECRET, TOKEN_SECRET = "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"
# Variables with credentials for the repository that is the build context.
USER, PASSWORD, TOKEN = "GIT_USERNAME", "GIT_PASSWORD", "GIT_TOKEN"

_HEADER = "extraHeader"
_TOKEN_USER = "x-access-token"
_GITHUB = ("https://github.com/", "https://www.github.com/")
_SUBMODULE_PROTOCOLS = ("https", "http", "ssh", "git")
_PROBE = 10.0  # seconds
_GIT_PORT, _TLS_PORT = 9418, 443


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who we are for servers of repositories, and which servers are believed.

    Attributes:
        secrets: values by id; see ``HEADER_SECRET`` and ``TOKEN_SECRET``.
        trust: returns whose certificates are believed for a host (with port).
        ssh_socket: returns the socket of an SSH agent that was given, if there is one.
        environment: what else the user has for repositories of his own: variables with
            credentials, keys below HOME, and an agent.
        own_host: the host (with port) that the variables' credentials are for.
        netrc: what the user's ``.netrc`` says.
    """

    secrets: Mapping[str, bytes] = field(repr=False)
    trust: Callable[[str], Trust]
    ssh_socket: Callable[[], Path | None]
    environment: Mapping[str, str] = field(repr=False)
    own_host: str | None
    netrc: Netrc

    def ways(
        self, reference: GitReference, home: Path, *, own: bool, verified: bool
    ) -> tuple[Access, ...]:
        """Return how to reach *reference*: one way, and others for a server that refuses it.

        Args:
            reference: what is to be fetched.
            home: a directory for files that git needs.
            own: whether the user named it himself, so that his keys are meant for it.
            verified: whether its server's certificate has to be right.
        """
        url = reference.url
        if url is None or url.scheme == "ssh":
            return (self._with_keys(Access(("ssh",)), own=own),)
        if url.scheme == "git":
            return (Access(("git",)),)
        protocols = ("https",) if url.scheme == "https" else ("http", "https")
        access = Access(protocols, self._certificates(url, home, verified=verified))
        scope, headers = self._authorizations(reference, url, own=own)
        if not headers:
            return (access,)
        # git would go on with the header where a redirect leads: see Clone.talk.
        alone = {**access.configuration, f"http.{scope}.followRedirects": "false"}
        key = f"http.{scope}.{_HEADER}"
        return tuple(
            replace(access, configuration={**alone, key: f"Authorization: {header}"})
            for header in headers
        )

    def for_submodules(self, access: Access, *, own: bool) -> Access:
        """Return *access* for submodules as well, which may be elsewhere."""
        return self._with_keys(replace(access, protocols=_SUBMODULE_PROTOCOLS), own=own)

    def authorization(self, access: Access, address: str) -> str | None:
        """Return the header by which *access* lets us in at the http or https *address*."""
        for key, header in access.configuration.items():
            scope = key.removeprefix("http.").removesuffix(f".{_HEADER}").rstrip("/")
            if key.endswith(f".{_HEADER}") and f"{address}/".startswith(f"{scope}/"):
                return header.partition(": ")[2]
        url = parse_url(address)
        if url.scheme != "https":
            return None  # a commit may name this server, and others could read along
        own = self._secret(f".{url.host}")
        entry = self.netrc.find(url.host) if own is None else None
        return own if entry is None else basic(*entry)

    def _with_keys(self, access: Access, *, own: bool) -> Access:
        given = self.ssh_socket()
        if given is not None or not own:
            return replace(access, ssh_socket=given)
        agent, home = self.environment.get("SSH_AUTH_SOCK"), self.environment.get("HOME")
        folder = Path(home or "/nonexistent", ".ssh").absolute()
        keys: list[Path] = []
        with suppress(OSError):
            keys = [path for path in folder.glob("id_*") if path.suffix != ".pub"]
        return replace(
            access,
            ssh_socket=Path(agent) if agent else None,
            keys=tuple(sorted(keys)),
            known_hosts=(folder / "known_hosts",),
        )

    def _certificates(self, url: Url, home: Path, *, verified: bool) -> dict[str, str]:
        trust = self.trust(url.host)
        key = f"http.https://{url.host}/"
        configuration: dict[str, str] = {}
        if trust.own is not None:
            # git runs in another directory.
            names = zip(("sslCert", "sslKey"), trust.own, strict=True)
            configuration |= {f"{key}.{name}": str(Path(file).absolute()) for name, file in names}
        if not (trust.verified and verified):
            return {**configuration, f"{key}.sslVerify": "false"}
        if not trust.certificates:
            return configuration
        bundle = home / f"{url.host.replace('/', '_')}.pem"
        with disk_errors("read a registry's certificates into", bundle):
            bundle.write_bytes(b"\n".join(Path(file).read_bytes() for file in trust.certificates))
        return {**configuration, f"{key}.sslCAInfo": str(bundle)}

    def _authorizations(
        self, reference: GitReference, url: Url, *, own: bool
    ) -> tuple[str, tuple[str, ...]]:
        """Return for which addresses there are headers, and which: the likeliest first."""
        scope = _scope(reference.address)
        for suffix in (f".{url.host}", ""):
            if (header := self._secret(suffix)) is not None:
                return scope, (header,)
        if url.user is not None:
            return scope, (basic(*url.user),)
        everything = f"{url.scheme}://{url.host}/"
        mine = own and url.host.lower() == (self.own_host or "").lower()
        if mine and (headers := self._of_variables()):
            return everything, headers
        entry = self.netrc.find(url.host)
        return everything, () if entry is None else (basic(*entry),)

    def _secret(self, suffix: str) -> str | None:
        """Return the header that the secrets whose ids end in *suffix* make."""
        if (header := self.secrets.get(HEADER_SECRET + suffix)) is not None:
            return header_text(header)
        if (token := self.secrets.get(TOKEN_SECRET + suffix)) is not None:
            encoded = base64.b64encode(f"{_TOKEN_USER}:{header_text(token)}".encode())
            return f"basic {encoded.decode()}"
        return None

    def _of_variables(self) -> tuple[str, ...]:
        user, password, token = (
            self.environment.get(name, "").strip() for name in (USER, PASSWORD, TOKEN)
        )
        if user or not token:
            return (basic(user, token or password),) if user or password else ()
        # The second is how Go kaniko sends it.
        return basic(_TOKEN_USER, token), basic(token, "")


def settled(reference: GitReference) -> GitReference:
    """Return *reference* with the protocol that its server speaks: https, or git's own.

    A server that does not answer is taken for one of https: git will say what is wrong.
    """
    url = reference.url
    if not reference.either_protocol or url is None:
        return reference
    port = int(url.host.rpartition(":")[2] or _TLS_PORT)
    scheme = "https" if _speaks_tls(url.host_name, port) else "git"
    return replace(reference, remote=str(replace(url, scheme=scheme)), either_protocol=False)


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), _PROBE) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ConnectionRefusedError:
        return port != _GIT_PORT
    except OSError as error:
        return not is_not_tls(error)


def _scope(address: str) -> str:
    """Return which addresses may be told the credentials for *address*.

    Only itself, but for GitHub, whose private submodules are GitHub's as well.
    """
    return next((prefix for prefix in _GITHUB if address.startswith(prefix)), address)
