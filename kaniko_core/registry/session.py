"""A conversation with registries: tries again, authorizes, follows redirects.

Where ``Authorization`` goes: to the registry's own scheme, host and port, and nowhere else; not
along a redirect to another host, not to an upload location elsewhere. From https we never follow
to plain http; a location on the registry's own host that says http, which registries behind a
TLS proxy do, is meant as https.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from kaniko_core.errors import RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Repository
from kaniko_core.progress import Noted, Progress, silent
from kaniko_core.registry.challenges import parse_challenges
from kaniko_core.registry.credentials import Keychain
from kaniko_core.registry.crowd import TOO_MANY_REQUESTS, Crowd
from kaniko_core.registry.failures import BUSY, Answer, Attempt, Busy, refusal
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.tokens import Access, Authorizer
from kaniko_core.registry.transport import Reply, Transport

# Bytes of a body that is held in memory: manifests, lists of tags, errors. Registries take
# manifests up to 4 MiB (distribution specification).
LARGEST_BODY = 4 << 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10
_SILENCE = 1.0  # seconds that nobody wonders about
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a registry; it may be sent several times.

    Attributes:
        repository: whose registry is asked, and whose credentials may be used.
        scopes: what a token for it must allow.
        target: ``/v2/…``, or the URL of an upload location.
        body: the bytes, or a function that begins to give them anew.
        doing: completes "cannot …" in an error.
    """

    method: str
    repository: Repository
    scopes: tuple[str, ...]
    target: str
    doing: str
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    body: bytes | Callable[[], Iterator[bytes]] | None = None

    @property
    def pushes(self) -> bool:
        """Whether it changes the repository, or is part of that."""
        return any(scope.endswith("push") for scope in self.scopes)


class Session:
    """Sends requests and keeps what is learned on the way; safe to use from several threads.

    Args:
        transport: closed by whoever made it.
        keychain: where credentials come from.
        pacing: how often a request is tried again, and when.
        progress: told of long pauses.
    """

    def __init__(
        self,
        transport: Transport,
        keychain: Keychain,
        pacing: Pacing,
        progress: Progress = silent,
    ) -> None:
        self._transport = transport
        self._authorizer = Authorizer(keychain, self._token_exchange)
        self._progress = progress
        self.pacing = pacing
        self._stopped = threading.Event()
        self._crowds: dict[str, Crowd] = {}
        self._guard = threading.Lock()

    def origin(self, repository: Repository) -> str:
        """Return scheme, host and port of the registry; find the scheme out where need be."""
        return origin_of(self._transport.origin(repository.host))

    def ask(self, request: Request, *, limit: int = LARGEST_BODY) -> Answer:
        """Return the whole answer, whatever its status, except 429 and 5xx, which are errors.

        Raises:
            RegistryError: after all retries.
            ContentError: the body is larger than *limit* bytes.
        """
        return self.retrying(lambda: self.ask_once(request, limit=limit))

    def ask_once(self, request: Request, *, limit: int = LARGEST_BODY) -> Answer:
        """Do as :meth:`ask` does, without trying again."""
        reply = self._exchange(request)
        answer = self._whole(reply, request, limit)
        if answer.status in BUSY:
            raise self.refused(answer, request)
        return answer

    def open(self, request: Request) -> Reply:
        """Send *request* once and return the reply, its body unread; 429 and 5xx are errors."""
        reply = self._exchange(request)
        if reply.status in BUSY:
            raise self.refused(self._whole(reply, request, LARGEST_BODY), request)
        return reply

    def refused(self, answer: Answer, request: Request) -> RegistryError:
        """Return the error for an answer to *request* that is not the hoped-for one."""
        if answer.status not in (401, 403):
            secrets = self._authorizer.secrets
            attempt = Attempt(request.doing, request.repository, request.pushes, secrets=secrets)
            return refusal(answer, attempt)
        access = self._access(request)
        return refusal(answer, self._authorizer.attempt(access, request.doing, push=request.pushes))

    def refused_reply(self, reply: Reply, request: Request) -> RegistryError:
        """Return the error for a reply, whose body is read and closed here."""
        return self.refused(self._whole(reply, request, LARGEST_BODY), request)

    def retrying(self, action: Callable[[], T]) -> T:
        """Do *action* again while it fails with temporary errors, with growing pauses.

        Raise at once when the session is stopped: what begins then would be waited for.
        """
        failures = 0
        while True:
            self.go_on()
            try:
                return action()
            except RegistryError as error:
                self.require_another_try(error, failures)
                last = error
            self.rest_after(last, failures)
            failures += 1

    def require_another_try(self, error: RegistryError, failures: int) -> None:
        """Raise *error* where it is no use to try again after so many failures before it."""
        if error.temporary and not self.pacing.gives_up(failures, error):
            return
        if isinstance(error, Busy) and error.retry_after and failures < self.pacing.retries:
            wanted = round(error.retry_after)
            error.add_note(f"it asks us to come back in {wanted} s, which is too long to wait for")
        raise error

    def rest_after(self, error: RegistryError, failures: int) -> None:
        """Wait before another try; raise at once when the session is stopped."""
        pause = self.pacing.pause(error, failures)
        if isinstance(error, Busy) and pause >= _SILENCE:
            self._progress(Noted(f"{error}; trying again in {round(pause)} s"))
        self.rest(pause)

    def stop(self) -> None:
        """End waiting and transfers now: they raise a RegistryError."""
        self._stopped.set()
        with self._guard:
            crowds = list(self._crowds.values())
        for crowd in crowds:
            crowd.open()
        self._transport.abort()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped.is_set()

    def rest(self, seconds: float) -> None:
        """Wait; raise at once when the session is stopped."""
        self._stopped.wait(seconds)
        self.go_on()

    def go_on(self) -> None:
        """Raise if the session is stopped; called between pieces of a transfer."""
        if self._stopped.is_set():
            raise RegistryError("the transfer was cancelled")

    def location(self, answer: Answer, request: Request) -> str:
        """Return where the answer's ``Location`` leads.

        Raises:
            RegistryError: there is none, or it may not be used.
        """
        target = answer.headers.get("location", "")
        if not target:
            raise RegistryError(
                f"cannot {request.doing}: {request.repository.registry} did not say where to",
                status=answer.status,
            )
        return _next_url(answer.url, target, self.origin(request.repository), request)

    def _whole(self, reply: Reply, request: Request, limit: int) -> Answer:
        what = f"the answer to a {request.method}"
        return Answer(reply.status, reply.headers, reply.read(limit, what), reply.url)

    def _access(self, request: Request) -> Access:
        return Access(request.repository, request.scopes, self.origin(request.repository))

    def _exchange(self, request: Request) -> Reply:
        """Send *request* when the registry does not have too many already."""
        with self._guard:
            crowd = self._crowds.setdefault(request.repository.host, Crowd(self.pacing.longest))
        with crowd.joined():
            reply = self._authorized(request)
            if reply.status == TOO_MANY_REQUESTS:
                crowd.shrink()
            return reply

    def _authorized(self, request: Request) -> Reply:
        """Send *request*, once more with new authorization if the registry wants that."""
        access = self._access(request)
        url = urljoin(access.origin, request.target)
        authorization = self._authorizer.known(access)
        reply = self._follow(request, url, access.origin, authorization)
        if reply.status != 401 or origin_of(reply.url) != access.origin:
            return reply
        reply.read(LARGEST_BODY, "an error")  # so that the connection can be used again
        challenges = parse_challenges(reply.challenges)
        renewed = self._authorizer.answer(access, challenges, authorization)
        if renewed is None:
            return reply
        return self._follow(request, url, access.origin, renewed)

    def _follow(self, request: Request, url: str, origin: str, authorization: str | None) -> Reply:
        for _ in range(MAX_REDIRECTS):
            headers = dict(request.headers)
            if authorization is not None and origin_of(url) == origin:
                headers["Authorization"] = authorization
            body = request.body() if callable(request.body) else request.body
            reply = self._transport.send(request.method, url, headers, body)
            target = reply.headers.get("location")
            redirected = reply.status in REDIRECTS and request.method in ("GET", "HEAD")
            if not redirected or target is None:
                return reply
            reply.read(LARGEST_BODY, "a redirect")  # so that the connection can be used again
            url = _next_url(reply.url, target, origin, request)
        registry = request.repository.registry
        raise RegistryError(f"cannot {request.doing}: {registry} redirects without end")

    def _token_exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        reply = self._transport.send(method, url, headers, body)
        return Answer(reply.status, reply.headers, reply.read(LARGEST_BODY, "a token"), reply.url)


def origin_of(url: str) -> str:
    """Return scheme, host and port of *url*, the port only where it is not the scheme's own."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{host.removesuffix(_DEFAULT_PORTS.get(parts.scheme, '#'))}"


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _next_url(base: str, target: str, origin: str, request: Request) -> str:
    try:
        url = urljoin(base, target)
    except ValueError:
        registry = request.repository.registry
        raise RegistryError(
            f"cannot {request.doing}: {registry} points to an address that cannot be used"
        ) from None
    if urlsplit(url).scheme == "https" or origin.startswith("http://"):
        return url
    if urlsplit(url).scheme == "http" and origin_of(f"https:{url[5:]}") == origin:
        return f"https:{url[5:]}"
    raise RegistryError(
        f"cannot {request.doing}: {request.repository.registry} points to an address without TLS",
        hint="the registry, or what it keeps its blobs in, has to be set up for https",
    )
