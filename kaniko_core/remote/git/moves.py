"""Redirects of servers that are told who we are.

git itself sends the headers for an address to wherever that leads, other hosts included. So it
follows none where it has headers: here is found out where one leads, git is told to look there
instead, and the headers go along on the same server only.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from urllib.parse import urljoin

from kaniko_core.addresses.url import parse_url
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.registry.session import origin_of
from kaniko_core.remote.git.run import Access, GitFailed, GitProgram

_REDIRECTED = re.compile(
    r"unable to access '(https?://[^'\s]+?)/?': The requested URL returned error: 30[12378]\b"
)
_LOCATION = re.compile(r"<= Recv header: location: *(\S+)", re.IGNORECASE)
_ASKED = "/info/refs"  # what git asks a repository's address first
_MOST = 20  # redirects, of a repository and its submodules together
_HEADER = "extraHeader"


@dataclass(slots=True)
class Moves:
    """Where repositories are instead; to be used by one thread.

    Attributes:
        targets: addresses by those that were asked for.
        followed: how many redirects these were.
    """

    targets: dict[str, str] = field(default_factory=dict)
    followed: int = 0

    def known_to(self, access: Access) -> Access:
        """Return *access* with what is known; headers are for the server that they were for."""
        more = {f"url.{target}.insteadOf": address for address, target in self.targets.items()}
        for address, target in self.targets.items():
            header = _header(access, address)
            same = origin_of(target) == origin_of(address)
            # Where the header is for both already, git would send it twice.
            if header is not None and same and _header(access, target) is None:
                more[f"http.{target}.{_HEADER}"] = header
                more[f"http.{target}.followRedirects"] = "false"
        return replace(access, configuration={**access.configuration, **more}) if more else access

    def follow(self, git: GitProgram, access: Access, error: GitFailed) -> bool:
        """Find out where a redirect leads, if *error* is one; return whether to try again."""
        found = _REDIRECTED.search(error.said)
        if found is None or self.followed == _MOST:
            return False
        target = _target(git, access, found[1])
        if target is None:
            return False
        self.followed += 1
        before = [address for address, known in self.targets.items() if known == found[1]]
        self.targets |= dict.fromkeys(before or [found[1]], target)
        return True


def _target(git: GitProgram, access: Access, address: str) -> str | None:
    """Return where *address* leads; None where nobody should go there."""
    try:
        git.run(replace(access, traced=True), "ls-remote", "--", address)
    except GitFailed as error:
        said = _LOCATION.findall(error.said)
    else:
        return None
    try:
        led = urljoin(f"{address}{_ASKED}", said[-1] if said else "")
        target, asked, _ = led.partition(_ASKED)
        url = parse_url(target)
    except (UsageError, ValueError):
        return None
    good = asked and target != address and url.host and url.user is None
    safe = url.scheme == "https" or (url.scheme == "http" and address.startswith("http:"))
    return target if good and safe else None


def _header(access: Access, address: str) -> str | None:
    for key, value in access.configuration.items():
        scope = key.removeprefix("http.").removesuffix(f".{_HEADER}").rstrip("/")
        if key.endswith(f".{_HEADER}") and f"{address}/".startswith(f"{scope}/"):
            return value
    return None
