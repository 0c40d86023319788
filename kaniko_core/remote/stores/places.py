"""Where an object is and as whom it is asked for: what the three kinds of stores have in common.

How a store is reached is as for registries: whose certificates are believed, and which proxy is
asked. The library obstore reads variables of its own, too: whatever one of them could change is
given to it in so many words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kaniko_core.errors import ContextError, UsageError, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.registry.clouds import Fetched
from kaniko_core.registry.hosts import Trust
from kaniko_core.registry.proxies import Proxies
from kaniko_core.registry.transport import USER_AGENT

# A silent connection is given up, and the part is asked for again.
_CONNECT, _SILENCE, _LONGEST = (timedelta(seconds=10), timedelta(seconds=60), timedelta(hours=1))
# Seconds. What expires is fetched anew earlier by a fifth of its life, at most by this.
_LONGEST_MARGIN = 300.0
_RETRIES = 4
_RETRYING = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Place:
    """An object in a store that can be asked for it.

    Attributes:
        store: obstore's, for the bucket.
        url: of the object; it may have a signature.
        authorized: makes headers for a HEAD of *url*; may raise anything.
        found: which credentials are used, for people; empty where there are none.
        looked_for: where credentials are looked for, for people.
        via: the proxy that is asked, for people; empty where there is none.
        elsewhere: asks where the bucket really is, and returns that; None where it is here.
    """

    store: Any
    url: str = field(repr=False)
    authorized: Callable[[], Mapping[str, str]]
    found: str
    looked_for: str
    via: str = ""
    elsewhere: Callable[[], Place | None] = lambda: None

    @property
    def host(self) -> str:
        """The host that is asked, with its port."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a store is reached by.

    Attributes:
        environment: variables; they hold secrets.
        trust: whose certificates are believed for a host (with port).
    """

    environment: Mapping[str, str] = field(repr=False)
    trust: Callable[[str], Trust]

    def first(self, *names: str) -> str:
        """Return the first variable that is set, without space around it; else nothing."""
        return next((value for name in names if (value := self._value(name))), "")

    def _value(self, name: str) -> str:
        return self.environment.get(name, "").strip()

    def client(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return obstore's options for requests to the host of *url*.

        Raises:
            UsageError: a file of certificates cannot be read, or the proxy is none.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        trust = self.trust(host)
        options: dict[str, Any] = {
            "allow_http": url.startswith("http://"),
            "allow_invalid_certificates": not trust.verified,
            "connect_timeout": _CONNECT,
            "read_timeout": _SILENCE,
            "timeout": _LONGEST,
            "user_agent": USER_AGENT,
            **_proxied(url),
        }
        if headers:
            options["default_headers"] = dict(headers)
        if roots := self._roots(trust):
            options["root_certificate"] = roots
        return options

    def proxy(self, url: str) -> str:
        """Name the proxy that is asked for *url*; nothing where the host itself is asked."""
        via = Proxies.of_environment().proxy(url)
        return via.name if via else ""

    def _roots(self, trust: Trust) -> bytes:
        files = list(trust.certificates)
        if bundle := self.first("SSL_CERT_FILE"):
            files.append(bundle)
        if directory := self.first("SSL_CERT_DIR"):
            files += [
                str(path)
                for path in sorted(Path(directory).glob("*"))
                if path.suffix in (".pem", ".crt") and path.is_file()
            ]
        return b"\n".join(_certificates(file) for file in files)


class Tokens:
    """Gives tokens to obstore: the one that is there, and in time before its end new ones.

    Args:
        fetch: gets a token, as a password; raises NoAnswer.
        first: what it gave.
    """

    def __init__(self, fetch: Callable[[], Fetched], first: Fetched) -> None:
        self._fetch = fetch
        self._known = first
        self._until = _expiry(first)

    def __call__(self) -> dict[str, Any]:
        """Return a token that is good for a while, as obstore wants it."""
        margin = timedelta(seconds=min(_LONGEST_MARGIN, self._known.life / 5))
        if datetime.now(UTC) >= self._until - margin:
            self._known = self._fetch()
            self._until = _expiry(self._known)
        return {"token": self._known.credentials.password, "expires_at": self._until}


def retries() -> dict[str, Any]:
    """Return obstore's options for answers that say that the store is busy, or broken."""
    return {"max_retries": _RETRIES, "retry_timeout": _RETRYING}


def object_url(base: str, key: str) -> str:
    """Return the URL of an object below the URL of its bucket."""
    return f"{base}/{quote(key, safe='/~')}"


def endpoint_url(text: str, what: str) -> str:
    """Read the address of a store that *what* names; without a scheme, TLS is meant.

    Raises:
        UsageError: it names no host.
    """
    url = text if "://" in text else f"https://{text}"
    parts = urlsplit(url)
    try:
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or "@" in parts.netloc:
        # Not the text itself, which may have a password in it.
        raise UsageError(f"{what} is not the address of a store", hint="write https://HOST:PORT")
    return url.rstrip("/")


def _expiry(fetched: Fetched) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=fetched.life)


def needed(library: str, store: str) -> ContextError:
    """Return the error for a library that is not installed."""
    return ContextError(
        f"{store}:// addresses need the library {library}, which is not installed",
        hint="pip install 'kaniko-py[stores]'",
    )


def _certificates(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the certificates in {file}: {reason_of(error)}") from error


def _proxied(url: str) -> dict[str, str]:
    proxies = Proxies.of_environment()
    via = proxies.proxy(url)
    if via is not None:
        return {"proxy_url": via.url}
    named = next(filter(None, map(proxies.variables.get, ("http", "https", "all"))), None)
    if named is None:
        return {}
    # The library would read the same variables, by rules of its own.
    return {"proxy_url": named, "proxy_excludes": urlsplit(url).hostname or ""}
