"""EXPOSE: ``[[ip:]host:]port[-port][/protocol]`` to ports of the container."""

from __future__ import annotations

import re

from kaniko_core.errors import UsageError

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_HIGHEST = 65535
_NUMBER = re.compile(r"0*\d{1,5}", re.ASCII)


def expose_ports(spec: str) -> tuple[str, ...]:
    """Return ``port/protocol`` for each port that *spec* means.

    An address and a port of the host have no meaning in an image, and are dropped.

    Raises:
        UsageError: *spec* is no port, or no range of them.
    """
    ports, _, protocol = spec.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise _bad(spec, f"the protocol {protocol!r} is none of tcp, udp, sctp")
    first, dash, last = ports.rpartition(":")[2].partition("-")
    if not first:
        raise _bad(spec, "it has no port")
    low = _number(spec, first)
    high = _number(spec, last) if dash else low
    if high < low:
        raise _bad(spec, "the range runs backwards")
    return tuple(f"{port}/{protocol}" for port in range(low, high + 1))


def _number(spec: str, text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > _HIGHEST:
        raise _bad(spec, f"{text!r} is not a number from 0 to {_HIGHEST}")
    return int(text)


def _bad(spec: str, why: str) -> UsageError:
    return UsageError(
        f"{spec!r} is not a port: {why}", hint="a port looks like 80, 53/udp or 8000-8010"
    )
