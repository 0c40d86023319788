"""One file on the web, and how it is asked for: redirects, credentials, refusals as sentences.

What the server is told of the user goes to the origin of the address that the user gave, and
along no redirect to another; from https nothing leads to http. Each request begins at that
address, because where it leads may hold for minutes only; but for the parts of a file that are
fetched at once, which go where the first request was led to.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import field
from urllib.parse import urljoin

from kaniko_core.addresses.url import Url, parse_url
from kaniko_core.errors import RegistryError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.registry.failures import BUSY, Busy, retry_after
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.session import MAX_REDIRECTS, REDIRECTS, origin_of
from kaniko_core.registry.transport import Reply, Transport

# Ids of secrets that hold an ``Authorization`` header, or a bearer token, for a host.
HEADER_SECRET, TOKEN_SECRET = "HTTP_AUTH_HEADER_", "HTTP_AUTH_TOKEN_"

_LARGEST_ANSWER = 1 << 20  # bytes of a redirect's or an error's body
_NO_TLS = "give the address that it points to, if you trust it"
_GLANCE = 0.1  # seconds after which a pause looks whether everything was given up
_SPAN = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]+|\*)")
PARTIAL, BEYOND = 206, 416


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file: from *start* on, up to *end* or, without one, up to the file's end.

    Attributes:
        validator: the strong tag of the version that it is to be a part of.
    """

    start: int
    end: int | None
    validator: str

    @property
    def headers(self) -> dict[str, str]:
        """What asks for it; a server that has another version by now answers with all of that."""
        last = "" if self.end is None else str(self.end - 1)
        return {"Range": f"bytes={self.start}-{last}", "If-Range": self.validator}

    def is_in(self, reply: Reply) -> bool:
        """Whether the answer has this part, of this version."""
        match = _SPAN.fullmatch(reply.headers.get("content-range", "").strip())
        tag = reply.headers.get("etag", self.validator)
        return (
            match is not None
            and int(match[1]) == self.start
            and (self.end is None or int(match[2]) == self.end - 1)
            and tag == self.validator
        )


@dataclass(frozen=True, slots=True)
class WebSource:
    """A file on the web; safe to use from several threads.

    Attributes:
        url: as the user gave it.
        authorization: what the server is told of the user.
        stopped: set by whoever gives everything up.
        ended: set by whoever gives up what is asked for with this value.
    """

    url: Url
    transport: Transport
    authorization: str | None = field(repr=False)
    pacing: Pacing
    stopped: threading.Event
    ended: threading.Event = field(default_factory=threading.Event)

    def reply(self, span: Span | None = None, led_to: str | None = None) -> Reply:
        """Ask for the file, or a part, follow where that leads, and return what has the bytes.

        Args:
            span: the part; without one, or where the server cannot do that, it is all of it.
            led_to: the address that an answer came from, to begin at.

        Raises:
            RegistryError: there is no such answer; temporary where another try can help.
        """
        given = str(self.url.anonymous.without_fragment)
        origin, address = origin_of(given), led_to or given
        headers = {"Accept": "*/*"} | (span.headers if span else {})
        for _ in range(MAX_REDIRECTS):
            own = self.authorization is not None and origin_of(address) == origin
            sent = {**headers, "Authorization": self.authorization or ""} if own else headers
            self.go_on()
            reply = self.transport.send("GET", address, sent)
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or target is None:
                return self._accepted(reply, span, authorized=own)
            reply.read(_LARGEST_ANSWER, "a redirect")  # so that the connection can be used again
            address = next_address(address, target, _NO_TLS)
        raise RegistryError("the server redirects without end")

    def go_on(self) -> None:
        """Raise a RegistryError where the transfer was given up."""
        if self.stopped.is_set() or self.ended.is_set():
            raise RegistryError("the transfer was cancelled")

    def tries(self) -> Tries:
        """Begin to count tries."""
        return Tries(self.pacing, self._rest)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.ended.is_set() and (left := until - time.monotonic()) > 0:
            if self.stopped.wait(min(left, _GLANCE)):
                return

    def _accepted(self, reply: Reply, span: Span | None, *, authorized: bool) -> Reply:
        if reply.status == PARTIAL and not (span and span.is_in(reply)):
            reply.close()
            raise RegistryError("the server sends another part of the file than it was asked for")
        if 200 <= reply.status < 300:
            return reply
        reply.close()
        raise _refusal(reply, self.url, authorized)


class Tries:
    """Counts the tries of one transfer that brought nothing."""

    def __init__(self, pacing: Pacing, rest: Callable[[float], None]) -> None:
        self._pacing = pacing
        self._rest = rest
        self._failures = 0

    def failed(self, error: RegistryError) -> None:
        """Wait until the next try is due; raise *error* where there is to be none."""
        if not error.temporary or self._pacing.gives_up(self._failures):
            raise error
        self._rest(self._pacing.pause(error, self._failures))
        self._failures += 1

    def progressed(self) -> None:
        """Note that something came."""
        self._failures = 0


def next_address(base: str, target: str, hint: str | None = None) -> str:
    """Return where a redirect of *base* leads; *hint* is what to do where that has no TLS.

    Raises:
        RegistryError: to no address, or from https to http.
    """
    try:
        address = urljoin(base, target)
        scheme = parse_url(address).scheme
    except (UsageError, ValueError):
        raise RegistryError("the server points to an address that cannot be used") from None
    if scheme not in ("http", "https") or (scheme == "http" and base.startswith("https:")):
        raise RegistryError("the server points to an address without TLS", hint=hint)
    return address


def _refusal(reply: Reply, url: Url, authorized: bool) -> RegistryError:
    status = reply.status
    if status in BUSY:
        busy = Busy(f"the server is busy or broken ({status})", status=status, code=None, hint=None)
        busy.retry_after = retry_after(reply.headers)
        return busy
    if status in (401, 403):
        said = "does not accept the credentials" if authorized else "wants credentials"
        hint = (
            f"give them as the secret {TOKEN_SECRET}{url.host_name}: --secret id=…,src=FILE; "
            "or for the host in a .netrc file"
        )
        return RegistryError(f"the server {said} ({status})", status=status, hint=hint)
    if status in (404, 410):
        return RegistryError(
            f"there is nothing at this address ({status})",
            status=status,
            hint="check the address, with curl for example",
        )
    return RegistryError(f"the server answers with status {status}", status=status)
