"""Which requests go through a proxy, as the environment says.

``HTTPS_PROXY``, ``HTTP_PROXY``, else ``ALL_PROXY`` name it, by the scheme of what is asked for;
the same in lower case win. ``NO_PROXY`` lists what is reached directly, separated by commas:

    example.com         the host, and all below it       .example.com, *.example.com   only those
    10.0.0.0/8, fd00::/8  addresses of a network         10.1.2.3, ::1, [::1]          one address
    example.com:5000, [::1]:5000  only that port         *                             everything

What is on this machine, or on its very link, where metadata services are, is never asked for
through a proxy. Names are not resolved to find out whether they are in a network.
Source: package golang.org/x/net/http/httpproxy; ALL_PROXY is curl's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.registry.hosts import host_name, is_loopback

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: how to talk to it, which may have a password in it, and its name for people."""

    url: str = field(repr=False)
    name: str


@dataclass(frozen=True, slots=True)
class _Exemption:
    """What one word of NO_PROXY lets pass: a domain, or a network; on one port, or on any."""

    domain: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    def holds_for(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        address = _address(host)
        if self.network is not None:
            return address is not None and address in self.network
        if self.domain.startswith("."):
            return host.endswith(self.domain)
        return host == self.domain or host.endswith(f".{self.domain}")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of an environment."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    exemptions: tuple[_Exemption, ...] = ()
    everything_direct: bool = False

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Self:
        """Read the variables, whose names are in lower case and without ``_proxy``."""
        words = re.split(r"[,\s]+", variables.get("no", "").strip().lower())
        exemptions = tuple(_exemption(word) for word in words if word and word != "*")
        return cls(variables, exemptions, "*" in words)

    @classmethod
    def of_environment(cls) -> Self:
        """Read the environment, as Python's own HTTP client does."""
        from urllib.request import getproxies_environment

        return cls.of(getproxies_environment())

    def proxy(self, url: str) -> Proxy | None:
        """Return the proxy to ask for *url*, or None where its host is asked itself.

        Raises:
            UsageError: the variable that names it does not.
        """
        parts = urlsplit(url)
        scheme = parts.scheme if self.variables.get(parts.scheme) else "all"
        named = self.variables.get(scheme, "").strip()
        if not named or self.everything_direct:
            return None
        netloc = parts.netloc.rpartition("@")[2]
        host = host_name(netloc).lower().rstrip(".")
        if is_loopback(host) or _is_link_local(host):
            return None
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if any(exemption.holds_for(host, port) for exemption in self.exemptions):
            return None
        return _proxy(named, f"{scheme.upper()}_PROXY")


def _exemption(word: str) -> _Exemption:
    try:
        return _Exemption(network=ip_network(word.strip("[]"), strict=False))
    except ValueError:
        pass
    host, colon, port = word.rpartition(":")
    if not colon or not port.isdecimal():
        host, port = word, ""
    number = int(port) if port else None
    address = _address(host.strip("[]"))
    if address is not None:
        return _Exemption(network=ip_network(address), port=number)
    return _Exemption(domain=host.removeprefix("*").rstrip("."), port=number)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_link_local(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_link_local


def _proxy(text: str, variable: str) -> Proxy:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    else:
        if parts.scheme not in _PORTS:
            raise UsageError(
                f"{variable} names a proxy of the kind {parts.scheme!r}",
                hint="proxies are asked by http or https: http://HOST:PORT",
            )
    if not host:
        # Not the text itself, which may have a password in it.
        raise UsageError(f"{variable} does not name a proxy", hint="write it as http://HOST:PORT")
    shown = f"[{host}]" if ":" in host else host
    return Proxy(url, f"{shown}:{port}" if port else shown)
