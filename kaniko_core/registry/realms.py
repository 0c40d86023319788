"""Which token service may be given a registry's credentials.

A registry answers ``401`` with ``WWW-Authenticate: Bearer realm="https://…"``: the realm is
where credentials are exchanged for a token. Whoever can write that header (a broken proxy, a
shared front end, a host on the way where plain HTTP is allowed) could otherwise have the
credentials sent anywhere. So they go to a realm only if all of these hold:

1. It is reached by https, unless the registry itself is talked to over plain HTTP, which the
   user allowed or which is loopback.
2. It is the registry's own host (on any port), or belongs to the same site: registry.gitlab.com
   and gitlab.com, registry.example.com:5050 and gitlab.example.com. A site is what one owner
   has registered: the last two labels of a name, one label more below suffixes that are shared
   by strangers, such as co.uk, azurecr.io or svc.cluster.local. Addresses and names of a single
   label have no site; loopback names count as one host. Or it is one of a few pairs that are
   known to belong together though their sites differ.

Without credentials there is nothing to steal, so an anonymous token may come from any https
realm; but a registry elsewhere cannot make us talk to loopback or link-local addresses, where
cloud metadata services live.

The list of shared suffixes is short on purpose. A suffix that it lacks makes two strangers look
alike only where one of them already answers for the registry that the user logged in to.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from kaniko_core.errors import Unauthorized
from kaniko_core.registry.hosts import is_loopback

# Suffixes below which strangers have names of their own. Source: publicsuffix.org, those that
# registries are found under.
_SHARED = frozenset(
    "azurecr.io azurecr.cn azurewebsites.net cloudapp.azure.com amazonaws.com amazonaws.com.cn "
    "cloudfront.net pkg.dev run.app web.app appspot.com googleapis.com github.io githubusercontent"
    ".com gitlab.io herokuapp.com fly.dev vercel.app netlify.app pages.dev workers.dev r2.dev "
    "ngrok.io ngrok.app ngrok-free.app nip.io sslip.io duckdns.org dyndns.org onrender.com "
    "digitaloceanspaces.com linodeobjects.com svc.cluster.local".split()
)
# Country domains whose second label is a category: co.uk, com.au, or.jp.
_CATEGORIES = re.compile(r"(?:ac|co|com|edu|go|gob|gov|gouv|ltd|me|mil|ne|net|nom|or|org|plc|sch)")
# From a registry's site to realms elsewhere that are known to be its own.
_PAIRS = {
    "scw.cloud": "api.scaleway.com",
    "dhi.io": "auth.docker.io",
}


def check_realm(realm: str, origin: str, *, registry: str, credentials: bool) -> None:
    """Refuse a realm that must not be asked, or must not be given credentials.

    Args:
        realm: the URL out of the challenge.
        origin: scheme, host and port that the registry is reached by.
        registry: how to name the registry.
        credentials: whether some would be sent along.

    Raises:
        Unauthorized: by the rules of this module.
    """
    ours = urlsplit(origin)
    try:
        theirs = urlsplit(realm)
    except ValueError:
        theirs = urlsplit("")
    realm_host, host = theirs.hostname or "", ours.hostname or ""
    if theirs.scheme not in ("http", "https") or not realm_host:
        raise _refused(registry, "what it names as its token service is not a web address")
    if theirs.scheme == "http" and ours.scheme == "https":
        raise _refused(registry, f"its token service {realm_host} does not use TLS")
    if _same_site(realm_host, host):
        return
    if credentials:
        raise _refused(registry, f"it wants them sent to {realm_host}, which is another site")
    address = _address(realm_host)
    if is_loopback(realm_host) or (address is not None and address.is_link_local):
        raise _refused(registry, f"it names {realm_host} as its token service")


def _same_site(realm: str, registry: str) -> bool:
    if realm == registry or (is_loopback(realm) and is_loopback(registry)):
        return True
    site = _site(registry)
    return site is not None and (_site(realm) == site or _PAIRS.get(site) == realm)


def _site(name: str) -> str | None:
    """Return the part of a host's name that one owner has registered, or None."""
    if _address(name) is not None:
        return None
    labels = name.rstrip(".").split(".")
    for count in range(len(labels) - 1, 0, -1):
        if _is_shared(labels[-count:]):
            return ".".join(labels[-count - 1 :])
    return None


def _is_shared(labels: list[str]) -> bool:
    if len(labels) == 1:
        return True
    country = len(labels) == 2 and len(labels[1]) == 2
    return ".".join(labels) in _SHARED or (country and bool(_CATEGORIES.fullmatch(labels[0])))


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _refused(registry: str, why: str) -> Unauthorized:
    return Unauthorized(
        f"the credentials for {registry} were not sent: {why}",
        status=401,
        hint="if this is as it should be, give the registry a token service on its own domain",
    )
