"""What a Git LFS server answers: where objects are to be had, or why they are not.

No sentence here shows a query, a password or a header.

Source: git-lfs, docs/api/batch.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from kaniko_core.addresses.url import Url, parse_url
from kaniko_core.errors import KanikoError, RegistryError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.registry.failures import BUSY, Busy, retry_after
from kaniko_core.registry.session import origin_of
from kaniko_core.remote.web.files import basic

_LONGEST_MESSAGE = 200  # characters of what a server says
_NOT_ITS_API = "the server's answer is none of the LFS batch API"
_NEVER = "0001-"  # the year of servers that mean that nothing expires
_OURS = {
    *("accept-encoding", "connection", "content-length", "expect", "host", "if-range", "range"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
}
_MEANINGS = {
    401: "wants credentials",
    403: "does not allow it",
    404: "does not have it",
    410: "has it no more, because its owner removed it",
    422: "does not take it for a valid object",
    509: "has delivered all that the repository's limit of bandwidth allows",
}


@dataclass(frozen=True, slots=True, order=True)
class LargeObject:
    """Content that a pointer stands for: the hex of its SHA-256, and its size in bytes."""

    oid: str
    size: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Git LFS server's address for one repository.

    Attributes:
        url: what ``/objects/batch`` is appended to; without user.
        headers: what it is told of the user.
        hint: what to try where it wants other credentials.
    """

    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """Where an object is to be had.

    Attributes:
        href: its address, which may hold a signature.
        headers: for the origin of *href* only.
        expires: until when, on the monotonic clock in seconds; None if it is for good.
    """

    href: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    expires: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the server has to be asked anew."""
        return self.expires is not None and time.monotonic() >= self.expires


Answers = Mapping[str, Download | RegistryError]


def action_headers(told: object) -> dict[str, str]:
    """Return the headers that a server asks for with an address of its own.

    Raises:
        RegistryError: they are none.
    """
    if not isinstance(told, dict | None):
        raise RegistryError("headers for it that are none")
    headers = {str(name): str(value) for name, value in (told or {}).items()}
    if not all(text.isascii() and text.isprintable() for pair in headers.items() for text in pair):
        raise RegistryError("headers for it with characters that no header has")
    # Which host, how long, and which part of it is ours to say.
    return {name: value for name, value in headers.items() if name.lower() not in _OURS}


def batch_body(wanted: Sequence[LargeObject]) -> bytes:
    """Return the question for *wanted*."""
    asked = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": each.oid, "size": each.size} for each in wanted],
        "hash_algo": "sha256",
    }
    return json.dumps(asked).encode()


def batch_answers(body: bytes, wanted: Sequence[LargeObject], endpoint: Endpoint) -> Answers:
    """Return what *body* says of each oid that is *wanted*.

    Raises:
        RegistryError: it is no answer to the question.
    """
    try:
        told = json.loads(body)
        objects, transfer = told["objects"], told.get("transfer") or "basic"
        by_oid = {str(each["oid"]): each for each in objects}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RegistryError(_NOT_ITS_API) from error
    if transfer != "basic":
        raise RegistryError("the LFS server has another way of transfer than the basic one")
    return {each.oid: _answer(by_oid.get(each.oid), endpoint) for each in wanted}


def batch_refusal(
    status: int, headers: Mapping[str, str], body: bytes, endpoint: Endpoint
) -> RegistryError:
    """Return the error for a question that is not answered at all."""
    said = _harmless(_said(body), endpoint)
    words = f": {said}" if said else ""
    hint = endpoint.hint
    if status in BUSY:
        return _busy(status, headers, words)
    if status in (401, 403):
        does = "does not accept the credentials" if endpoint.headers else "wants credentials"
        message = f"the LFS server {does} ({status}){words}"
    elif status in (404, 501):
        message = f"there is no LFS server at {endpoint.url.name} ({status}){words}"
        hint = hint or "lfs.url in the repository's .lfsconfig says where it is"
    else:
        message, hint = f"the LFS server answers with status {status}{words}", None
    return RegistryError(message, status=status, hint=hint)


def object_refusal(status: int, headers: Mapping[str, str]) -> RegistryError:
    """Return the error for an object that is not where the LFS server says it is."""
    if status in BUSY:
        return _busy(status, headers)
    meaning = _MEANINGS.get(status, "answers with an error")
    return RegistryError(f"the store behind the LFS server {meaning} ({status})", status=status)


def _busy(status: int, headers: Mapping[str, str], words: str = "") -> Busy:
    """Return the error for a server that says "not now"."""
    message = f"the server is busy or broken ({status}){words}"
    error = Busy(message, status=status, code=None, hint=None)
    error.retry_after = retry_after(headers)
    return error


def _answer(told: Any, endpoint: Endpoint) -> Download | RegistryError:
    if not isinstance(told, dict):
        return RegistryError("the LFS server says nothing of it")
    error, actions = told.get("error"), told.get("actions")
    if isinstance(error, dict):
        return _object_error(error, endpoint)
    action = actions.get("download") if isinstance(actions, dict) else None
    if not isinstance(action, dict):
        return RegistryError("the LFS server does not say where it is")
    try:
        return _located(action, endpoint, known=told.get("authenticated") is True)
    except (UsageError, ValueError, OverflowError):
        return RegistryError("the LFS server says nothing usable about where it is")
    except KanikoError as problem:
        return RegistryError(f"the LFS server names {problem}", hint=problem.hint)


def _object_error(error: Mapping[str, Any], endpoint: Endpoint) -> RegistryError:
    code, message = error.get("code"), error.get("message")
    meaning = _MEANINGS.get(code) if isinstance(code, int) else None
    words = _harmless(_line(message) if isinstance(message, str) else "", endpoint)
    said = f"the LFS server {meaning or 'cannot give it'}"
    said += f" ({code})" if isinstance(code, int) else ""
    hint = "whoever committed it has to push it: git lfs push --all" if code == 404 else None
    return RegistryError(f"{said}: {words}" if words else said, hint=hint)


def _located(action: Mapping[str, Any], endpoint: Endpoint, *, known: bool) -> Download:
    url = parse_url(str(action.get("href", "")))
    if url.scheme not in ("http", "https") or not url.host:
        raise RegistryError("a place for it that is no address of the web")
    if url.scheme == "http" and endpoint.url.scheme == "https":
        hint = "an LFS server behind a TLS proxy has to know its own address"
        raise RegistryError("a place for it without TLS", hint=hint)
    headers = action_headers(action.get("header"))
    href = str(url.anonymous.without_fragment)
    if not (known or any(name.lower() == "authorization" for name in headers)):
        same = origin_of(href) == origin_of(str(endpoint.url))
        own = endpoint.headers if same else {}
        headers |= {"Authorization": basic(*url.user)} if url.user else own
    return Download(href, headers, _expiry(action))


def _expiry(action: Mapping[str, Any]) -> float | None:
    seconds, at = action.get("expires_in"), action.get("expires_at")
    if isinstance(seconds, int | float) and seconds:
        return time.monotonic() + seconds
    if isinstance(at, str) and at and not at.startswith(_NEVER):
        when = datetime.fromisoformat(at.replace("Z", "+00:00"))
        return time.monotonic() + when.timestamp() - time.time()
    return None


def _harmless(said: str, endpoint: Endpoint) -> str:
    """Return *said*, unless it repeats what nobody may see."""
    secrets = (value.split()[-1] for value in endpoint.headers.values() if value.split())
    return "" if any(secret in said for secret in secrets) else said


def _said(body: bytes) -> str:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return _line(message) if isinstance(message, str) else ""


def _line(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:_LONGEST_MESSAGE]
