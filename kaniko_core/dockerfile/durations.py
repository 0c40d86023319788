"""Durations of HEALTHCHECK, in Go's form."""

from __future__ import annotations

import re

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
_LONGEST = 2**63
_MOST_DIGITS = 19


def nanoseconds(text: str) -> int:
    """Return the nanoseconds that ``1m30s``, ``.5s`` or ``0`` stand for.

    Raises:
        UsageError: *text* is no duration.
    """
    negative = text.startswith("-")
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total = 0
    position = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None:
            raise _bad(text)
        total += _part(text, match[1], match[2], _NANOSECONDS[match[3]])
        position = match.end()
    # As many nanoseconds as fit into 64 bits, which is one more below zero.
    if not body or total > _LONGEST - (not negative):
        raise _bad(text)
    return -total if negative else total


def _part(text: str, whole: str, fraction: str, unit: int) -> int:
    whole = whole.lstrip("0")
    if len(whole) > _MOST_DIGITS:
        raise _bad(text)
    # Of a fraction, what a 64-bit number can hold; in floating point, as in Go.
    digits = fraction[:_MOST_DIGITS]
    if digits and int(digits) > _LONGEST:
        digits = digits[:-1]
    part = int(whole or "0") * unit
    if digits:
        part += int(float(int(digits)) * (float(unit) / 10.0 ** len(digits)))
    if part > _LONGEST:
        raise _bad(text)
    return part


def _bad(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a duration", hint="a duration looks like 30s or 1m30s")
