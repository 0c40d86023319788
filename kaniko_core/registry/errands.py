"""Requests to a cloud's own services, that tell who we are there.

Metadata servers are near: plain HTTP at an address that means this machine's own host, and never
through a proxy. Token services are far: by TLS, verified against the system's store, through the
proxies of the environment. Neither is followed anywhere: no redirects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kaniko_core.errors import KanikoError
from kaniko_core.registry.credentials import one_line
from kaniko_core.registry.hosts import Trust, is_loopback, tls_context

# Seconds. Where there is no metadata server, every build waits for the first of them once.
_NEAR, _FAR = (2.0, 10.0), (10.0, 30.0)
# A metadata server of a pod that has just started may need a moment.
_TRIES = 2
_LARGEST_BODY = 1 << 20  # bytes


class NoAnswer(KanikoError):  # noqa: N818 - what it is
    """A cloud has no credentials for us: the sentence says why, without any secret."""


def ask_near(
    url: str, headers: Mapping[str, str], *, what: str, flavor: str | None = None
) -> dict[str, Any]:
    """GET a JSON object from a metadata server.

    Args:
        url: of the metadata server; no proxy is used.
        headers: what it wants to see, so that nobody is tricked into asking it.
        what: how to name it in an error.
        flavor: the ``Metadata-Flavor`` that its answers have, whatever the place.

    Raises:
        NoAnswer: there is none, or it has nothing for us.
    """
    return _asked("GET", url, headers, None, what=what, near=True, flavor=flavor)


def ask_far(url: str, form: Mapping[str, str], *, what: str) -> dict[str, Any]:
    """POST *form* to a token service and return the JSON object that it answers with.

    Raises:
        NoAnswer: it cannot be reached, refuses, or is not reached by TLS.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise NoAnswer(f"{what} is not reached by https")
    return _asked("POST", url, {}, form, what=what, near=False)


def _asked(
    method: str,
    url: str,
    headers: Mapping[str, str],
    form: Mapping[str, str] | None,
    *,
    what: str,
    near: bool,
    flavor: str | None = None,
) -> dict[str, Any]:
    from kaniko_core.registry.light import httpx

    connect, read = _NEAR if near else _FAR
    client = httpx.Client(
        verify=tls_context(Trust()),
        trust_env=not near,
        timeout=httpx.Timeout(read, connect=connect),
        transport=httpx.HTTPTransport(retries=_TRIES - 1) if near else None,
    )
    try:
        with (
            client,
            client.stream(method, url, headers=dict(headers), data=form) as response,
        ):
            body = _body(response)
    except httpx.HTTPError as error:
        raise NoAnswer(f"{what} cannot be reached: {_reason(error)}") from error
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise NoAnswer(f"the address of {what} cannot be used") from error
    if flavor is not None and response.headers.get("metadata-flavor") != flavor:
        raise NoAnswer(f"what answers in the place of {what} is something else")
    return _object(body, response.status_code, what)


def _body(response: Any) -> bytes:
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _LARGEST_BODY:
            break  # no JSON object of theirs, and said to be none
    return body


def _object(body: bytes, status: int, what: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    if status == 200:
        raise NoAnswer(f"{what} answered with something that is no JSON object")
    said = _complaint(answer)
    raise NoAnswer(f"{what} answered {status}" + (f": {said}" if said else ""))


def _complaint(answer: object) -> str:
    """Return what an OAuth2 error says."""
    if not isinstance(answer, dict):
        return ""
    error, description = answer.get("error"), answer.get("error_description")
    words = [word for word in (error, description) if isinstance(word, str)]
    return one_line(": ".join(words).partition("\n")[0])


def _reason(error: Exception) -> str:
    from kaniko_core.registry.light import httpx

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return "the connection broke off"


def text_of(answer: Mapping[str, Any], field: str, what: str) -> str:
    """Return a field of an answer that has to be there, and fit into a header.

    Raises:
        NoAnswer: it is not.
    """
    value = answer.get(field)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise NoAnswer(f"{what} answered without {field}")
    return value


def seconds_of(answer: Mapping[str, Any], field: str, otherwise: float) -> float:
    """Return how long something lives, in seconds; *otherwise* where that is not said."""
    try:
        return max(1.0, float(answer.get(field) or otherwise))
    except (TypeError, ValueError, OverflowError):
        return otherwise
