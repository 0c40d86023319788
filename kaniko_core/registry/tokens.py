"""The ``Authorization`` header: Basic, or a token from the registry's token service.

A registry says what it wants in the challenge of a 401. That is remembered for each host, so
that later requests bring the right header along; tokens are kept for each host and scope, got
by one thread while the others wait, and renewed before they expire.
Sources: distribution specification, token authentication and its OAuth2 form; RFC 6750.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from kaniko_core.errors import RegistryError, Unauthorized
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Repository
from kaniko_core.registry.challenges import Challenge
from kaniko_core.registry.credentials import Credentials, Keychain
from kaniko_core.registry.failures import BUSY, Answer, Attempt, login_hint, refusal
from kaniko_core.registry.realms import check_realm

_CLIENT_ID = "kaniko-py"
# Seconds. The first is the specification's for a token that does not say; tokens are renewed
# earlier by a fifth of their life, at most by the second.
_DEFAULT_LIFE, _LONGEST_MARGIN = 60.0, 30.0
# Characters. A shorter one is no secret, and hiding it would make holes in every sentence.
_SHORTEST_SECRET = 4

_TOKEN = re.compile(r"[!-~]+")

# Sends one request to a token service: method, URL, headers, body.
Exchange = Callable[[str, str, Mapping[str, str], bytes | None], Answer]


@dataclass(frozen=True, slots=True)
class Access:
    """What is to be done where, for which credentials and scopes are needed."""

    repository: Repository
    scopes: tuple[str, ...]
    origin: str

    @property
    def host(self) -> str:
        """The host (with port) of the registry."""
        return self.repository.host


@dataclass(frozen=True, slots=True, repr=False)
class _Header:
    value: str
    expires: float

    def __repr__(self) -> str:
        return "_Header(<hidden>)"


def pull_scope(repository: Repository) -> str:
    """Return the scope for reading from *repository*."""
    return f"repository:{repository.path}:pull"


def push_scope(repository: Repository) -> str:
    """Return the scope for reading from and writing to *repository*."""
    return f"repository:{repository.path}:pull,push"


class Authorizer:
    """Finds the header for each request; safe to use from several threads."""

    def __init__(
        self,
        keychain: Keychain,
        exchange: Exchange,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keychain = keychain
        self._exchange = exchange
        self._now = now
        self._challenges: dict[str, Challenge] = {}
        self._headers: dict[Access, _Header] = {}
        self._locks: dict[Access, threading.Lock] = {}
        self._secrets: set[str] = set()
        self._guard = threading.Lock()

    def known(self, access: Access) -> str | None:
        """Return the header for *access* if the registry has said before what it wants."""
        challenge = self._challenges.get(access.host)
        return None if challenge is None else self._header(access, challenge, rejected=None)

    def answer(
        self, access: Access, challenges: tuple[Challenge, ...], rejected: str | None
    ) -> str | None:
        """Return a new header after a 401, or None where nothing can be offered.

        Args:
            access: what was tried.
            challenges: from the 401.
            rejected: the header that did not convince; it is not returned again.

        Raises:
            Unauthorized: the token service refuses the credentials, or must not be given them.
            RegistryError: the token service cannot be asked.
        """
        # A token is worth more than a password: it expires.
        for scheme in ("bearer", "basic"):
            for challenge in challenges:
                if challenge.scheme == scheme:
                    # Another repository needs another scope.
                    lasting = {k: v for k, v in challenge.parameters.items() if k != "scope"}
                    self._challenges[access.host] = Challenge(scheme, lasting)
                    return self._header(access, challenge, rejected)
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that was sent to registries and token services and must not be shown."""
        with self._guard:
            return tuple(self._secrets)

    def attempt(self, access: Access, doing: str, *, push: bool) -> Attempt:
        """Describe what was tried, for an error: with the places where credentials were sought."""
        found = self._keychain.look_up(access.repository)
        logged_in = found.credentials is not None
        return Attempt(doing, access.repository, push, found.sources, logged_in, self.secrets)

    def _header(self, access: Access, challenge: Challenge, rejected: str | None) -> str | None:
        with self._guard:
            lock = self._locks.setdefault(access, threading.Lock())
        with lock:
            known = self._headers.get(access)
            fresh = known is not None and known.expires > self._now()
            if known is not None and fresh and known.value != rejected:
                return known.value
            new = self._new_header(access, challenge)
            if new is None or new.value == rejected:
                self._headers.pop(access, None)
                return None
            self._headers[access] = new
            return new.value

    def _new_header(self, access: Access, challenge: Challenge) -> _Header | None:
        credentials = self._keychain.look_up(access.repository).credentials
        self._keep_secret(*_secrets_of(credentials))
        if credentials is not None and credentials.registry_token:
            return _Header(f"Bearer {credentials.registry_token}", credentials.expires)
        if challenge.scheme == "basic":
            basic = credentials.basic if credentials else None
            return _Header(basic, credentials.expires) if credentials and basic else None
        return self._token(access, challenge, credentials)

    def _token(
        self, access: Access, challenge: Challenge, credentials: Credentials | None
    ) -> _Header | None:
        registry = access.repository.registry
        realm = challenge.parameters.get("realm", "")
        check_realm(realm, access.origin, registry=registry, credentials=credentials is not None)
        query = [("scope", scope) for scope in _scopes(access, challenge)]
        if service := challenge.parameters.get("service"):
            query.insert(0, ("service", service))
        started = self._now()
        answer = self._exchange(*_token_request(realm, query, credentials))
        if answer.status in (401, 403) and credentials is None:
            return None  # then the registry's own 401 tells more
        if answer.status != 200:
            raise self._refused(answer, access)
        token, life = _token_of(answer, registry)
        self._keep_secret(token)
        margin = min(life / 5, _LONGEST_MARGIN)
        return _Header(f"Bearer {token}", started + life - margin)

    def _keep_secret(self, *secrets: str) -> None:
        with self._guard:
            self._secrets.update(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)

    def _refused(self, answer: Answer, access: Access) -> RegistryError:
        registry = access.repository.registry
        push = any(scope.endswith("push") for scope in access.scopes)
        if access.scopes:
            doing = f"get a token for {access.repository}"
            attempt = replace(self.attempt(access, doing, push=push), asked="its token service")
        else:  # it is the credentials themselves that are tried
            attempt = self.attempt(access, f"log in to {registry}", push=False)
        if answer.status == 400 and attempt.logged_in:
            # What OAuth2 answers, too, where a refresh token has expired (RFC 6749 section 5.2).
            hint = login_hint(attempt, lacks_rights=False)
            said = refusal(answer, attempt)
            return Unauthorized(str(said), status=400, code=said.code, hint=hint)
        error = refusal(answer, attempt)
        if answer.status in (401, 403) or answer.status in BUSY:
            return error
        return RegistryError(str(error), status=answer.status, code=error.code)


def _secrets_of(credentials: Credentials | None) -> tuple[str, ...]:
    if credentials is None:
        return ()
    basic = (credentials.basic or "").removeprefix("Basic ")
    tokens = (credentials.identity_token, credentials.registry_token)
    return (credentials.password, basic, *tokens)


def _scopes(access: Access, challenge: Challenge) -> list[str]:
    """Return our scopes, and those of the challenge that name something else.

    A registry behind a proxy may know the repository by another name than we do.
    """
    scopes = list(access.scopes)
    ours = {scope.rpartition(":")[0] for scope in scopes}
    for scope in challenge.parameters.get("scope", "").split():
        if scope.rpartition(":")[0] not in ours:
            scopes.append(scope)
    return scopes


def _token_request(
    realm: str, query: list[tuple[str, str]], credentials: Credentials | None
) -> tuple[str, str, Mapping[str, str], bytes | None]:
    if credentials is not None and credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "client_id": _CLIENT_ID,
            **{name: value for name, value in query if name == "service"},
            "scope": " ".join(value for name, value in query if name == "scope"),
            "refresh_token": credentials.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return "POST", realm, headers, urlencode(form).encode()
    parts = urlsplit(realm)
    merged = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *query])
    url = urlunsplit((parts.scheme, parts.netloc, parts.path, merged, ""))
    basic = credentials.basic if credentials else None
    return "GET", url, {"Authorization": basic} if basic else {}, None


def _token_of(answer: Answer, registry: str) -> tuple[str, float]:
    try:
        data: dict[str, Any] = json.loads(answer.body)
        token = data.get("token") or data.get("access_token")
        life = float(data.get("expires_in") or _DEFAULT_LIFE)
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        token, life = None, 0.0
    # The token goes into a header: no white space, no line ends.
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise Unauthorized(f"the token service of {registry} answered without a token", status=200)
    return token, max(life, 1.0)


__all__ = ["Access", "Authorizer", "pull_scope", "push_scope"]
