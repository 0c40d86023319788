"""``WWW-Authenticate``: how a registry wants to be convinced.

Source: RFC 9110 section 11.6.1, and what registries send instead: values without quotes (even
with commas in them), several challenges in one header or in several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field

from kaniko_core.lean import dataclass

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PART = re.compile(
    rf"\s*(?P<name>{_TOKEN})(?:\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^\s,]*)))?"
)
_SCHEMES = frozenset({"basic", "bearer", "digest", "negotiate", "ntlm"})


@dataclass(frozen=True, slots=True)
class Challenge:
    """A scheme in lower case and its parameters, their names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read the challenges of all ``WWW-Authenticate`` headers, in order; skip what is none."""
    found: list[Challenge] = []
    for header in headers:
        found.extend(_parse(header))
    return tuple(found)


def _parse(header: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    position, last = 0, ""
    while position < len(header):
        match = _PART.match(header, position)
        if match is None:
            position += 1  # a comma, a space or rubbish
            continue
        position = match.end()
        name = match["name"].lower()
        value = match["quoted"] if match["quoted"] is not None else match["bare"]
        if value is None and name in _SCHEMES:
            found.append((name, {}))
        elif value is None and found and last:
            # The rest of a value without quotes that has a comma: scope=repository:x:pull,push
            found[-1][1][last] += f",{match['name']}"
            continue
        elif value is not None and found:
            found[-1][1][name] = re.sub(r"\\(.)", r"\1", value) if match["quoted"] else value
        last = name if value is not None else ""
    return [Challenge(scheme, parameters) for scheme, parameters in found]
