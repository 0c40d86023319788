"""What registries answer, as sentences for people.

Nothing here shows a URL: its query may be a signature, its user part a password.
"""

from __future__ import annotations

import json
import re
from dataclasses import field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from kaniko_core.errors import NotFound, RegistryError, Unauthorized
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import DOCKER_HUB, Reference, Repository

if TYPE_CHECKING:
    from collections.abc import Mapping

# Statuses that mean "not now".
BUSY = frozenset({408, 429, 500, 502, 503, 504})
# Codes of the distribution specification after which sending a blob anew helps.
_RESEND = frozenset(
    "BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN "
    "RANGE_INVALID SIZE_INVALID".split()
)
_LONGEST_MESSAGE = 200  # characters


class Busy(RegistryError):  # noqa: N818 - the registry is
    """The registry says "not now".

    Attributes:
        retry_after: the time that it asks us to wait, in seconds, or None.
    """

    def __init__(self, message: str, *, status: int, code: str | None, hint: str | None) -> None:
        super().__init__(message, status=status, code=code, temporary=True, hint=hint)
        self.retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, headers (names in any case), body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def code(self) -> str | None:
        """The first error code of the distribution specification in the body."""
        return _first_error(self.body)[0]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried, for the sentence: *doing* completes "cannot …"."""

    doing: str
    repository: Repository
    push: bool = False
    # Where credentials were looked for, in order; empty where nobody asked for any.
    sources: tuple[str, ...] = ()
    logged_in: bool = False
    # What must not be shown, though the registry says it: some repeat the headers that they got.
    secrets: tuple[str, ...] = field(default=(), repr=False)
    # Who answered, where that is not the registry itself.
    asked: str = ""


def refusal(answer: Answer, attempt: Attempt) -> RegistryError:
    """Turn an answer that is not the hoped-for one into an error with a hint."""
    registry = attempt.repository.registry
    code, said = _first_error(answer.body, attempt.secrets)
    status = answer.status
    words = ": ".join(filter(None, (code, said)))
    message = f"cannot {attempt.doing}: {attempt.asked or registry} answered {status}"
    if words:
        message += f" ({words})"
    if status in (401, 403):
        login = login_hint(attempt, lacks_rights=_lacks_rights(answer))
        return Unauthorized(message, status=status, code=code, hint=login)
    temporary = attempt.push and code in _RESEND
    if status == 404:
        hint = _missing_hint(attempt)
        return NotFound(message, status=status, code=code, temporary=temporary, hint=hint)
    if status in BUSY:
        hint = _rate_hint(attempt) if status == 429 else _TROUBLE_HINT
        busy = Busy(message, status=status, code=code, hint=hint)
        busy.retry_after = retry_after(answer.headers)
        return busy
    return RegistryError(
        message,
        status=status,
        code=code,
        temporary=temporary,
        hint=_HINTS.get(status) if attempt.push else None,
    )


def no_image(reference: Reference) -> NotFound:
    """Return the error for a name that the registry knows no image under."""
    return NotFound(
        f"there is no image {reference.familiar} in {reference.repository.registry}",
        status=404,
        hint="check the name and the tag; a private image needs credentials in Docker's config",
    )


_TROUBLE_HINT = "the registry has a problem; try again later"
_HINTS = {
    405: "the registry takes no pushes: it is read-only, or a mirror of another one",
    413: "a proxy before the registry limits the size of uploads (client_max_body_size in nginx)",
}


def _lacks_rights(answer: Answer) -> bool:
    """Whether the registry knows who asks, and that this is not allowed.

    Source: RFC 6750 section 3.1, the parameter ``error`` of the challenge.
    """
    challenge = answer.headers.get("www-authenticate", "")
    return answer.status == 403 or 'error="insufficient_scope"' in challenge


def login_hint(attempt: Attempt, *, lacks_rights: bool) -> str:
    """Say which account is needed, and where credentials were looked for."""
    registry, path = attempt.repository.registry, attempt.repository.path
    action = "push to" if attempt.push else "pull from"
    if attempt.logged_in and lacks_rights:
        hint = f"the credentials that were found are not for an account that may {action} {path}"
    elif attempt.logged_in:
        hint = (
            f"the credentials that were found may be wrong, or may not {action} {path} "
            "(or they have expired)"
        )
    else:
        hint = f"log in with an account that may {action} {path}"
    if registry == DOCKER_HUB and not attempt.push:
        hint += "; Docker Hub answers the same where there is no such repository: check the name"
    if attempt.sources:
        hint += f"; credentials were looked for in {', then '.join(attempt.sources)}"
    return hint


def _rate_hint(attempt: Attempt) -> str:
    registry = attempt.repository.registry
    if attempt.push:
        return (
            "the registry limits how much is asked of it: push less at a time, or try again later"
        )
    to_hub = registry == DOCKER_HUB
    mirror = "--registry-mirror=MIRROR" if to_hub else f"--registry-map={registry}=MIRROR"
    return (
        f"this is a limit on pulls: log in for a higher one (kaniko-executor login {registry}), "
        f"pull from a mirror ({mirror}), or keep base images in a cache with kaniko-warmer"
    )


def _missing_hint(attempt: Attempt) -> str | None:
    if attempt.push:
        return f"create the repository {attempt.repository.path} first, or check its name"
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that ``Retry-After`` asks for (a number or a date), or None."""
    from datetime import UTC, datetime

    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _first_error(body: bytes, secrets: tuple[str, ...] = ()) -> tuple[str | None, str]:
    """Return code and message of the first error in *body*; the message fits one line.

    *secrets* are left out of both. Token services may answer in OAuth2's form instead.
    """
    try:
        answer = json.loads(body)
        if "error" in answer:
            code, message = answer["error"], answer.get("error_description")
        else:
            code, message = (answer["errors"][0].get(name) for name in ("code", "message"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None, ""
    # Before they are cut short: half a secret would not be found.
    told, text = _without(str(code or ""), secrets), _without(str(message or ""), secrets)
    told, text = _on_one_line(told), _on_one_line(text)
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]}…"
    return told[:60] or None, text


def _on_one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _without(text: str, secrets: tuple[str, ...]) -> str:
    # The longest first: a password may be a part of another secret.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


_HIDDEN = "<hidden>"
