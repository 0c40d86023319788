"""Durations of HEALTHCHECK, in Go's form."""

from __future__ import annotations

import re
from fractions import Fraction

from kaniko_core.errors import UsageError

_NANOSECONDS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1000**2,
    "s": 1000**3,
    "m": 60 * 1000**3,
    "h": 3600 * 1000**3,
}
_PART = re.compile(r"(?=\.?\d)(\d*+)\.?+(\d*+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST = 2**63 - 1
_MOST_DIGITS = 19


def nanoseconds(text: str) -> int:
    """Return the nanoseconds that ``1m30s``, ``.5s`` or ``0`` stand for.

    Raises:
        UsageError: *text* is no duration.
    """
    sign = -1 if text.startswith("-") else 1
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total = Fraction(0)
    position = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None:
            raise _bad(text)
        total += _number(text, match[1], match[2]) * _NANOSECONDS[match[3]]
        position = match.end()
    if not body or total > _LONGEST:
        raise _bad(text)
    return sign * int(total)


def _number(text: str, whole: str, fraction: str) -> Fraction:
    whole = whole.lstrip("0")
    if len(whole) > _MOST_DIGITS:
        raise _bad(text)
    fraction = fraction[:_MOST_DIGITS]
    return Fraction(int(f"{whole}{fraction}" or "0"), 10 ** len(fraction))


def _bad(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a duration", hint="a duration looks like 30s or 1m30s")
