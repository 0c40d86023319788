"""EXPOSE: ``[[ip:]host:]port[-port][/protocol]`` to ports of the container."""

from __future__ import annotations

import re

from kaniko_core.errors import UsageError

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_HIGHEST = 65535
_NUMBER = re.compile(r"0*(\d{1,5})", re.ASCII)


def expose_ports(spec: str) -> tuple[str, ...]:
    """Return ``port/protocol`` for each port that *spec* means.

    An address and a port of the host have no meaning in an image; they have to be right all the
    same, and are dropped.

    Raises:
        UsageError: *spec* is no port, or no range of them.
    """
    address, host, ports = _parts(spec)
    ports, _, protocol = ports.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise _bad(spec, f"the protocol {protocol!r} is none of tcp, udp, sctp")
    if not ports:
        raise _bad(spec, "it has no port")
    low, high = _range(spec, ports)
    _check_address(spec, address)
    if host:
        first, last = _range(spec, host)
        # Several ports of the host may serve one port of the container.
        if low != high and last - first != high - low:
            raise _bad(spec, "the two ranges differ in length")
    return tuple(f"{port}/{protocol}" for port in range(low, high + 1))


def _parts(spec: str) -> tuple[str, str, str]:
    """Split *spec* into address, ports of the host, and the rest; the first two may be empty."""
    before, _, ports = spec.rpartition(":")
    address, _, host = before.rpartition(":")
    return address, host, ports


def _check_address(spec: str, address: str) -> None:
    bare = address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address
    if not bare:
        return
    import ipaddress

    try:
        if "%" in bare:
            raise ValueError
        ipaddress.ip_address(bare)
    except ValueError:
        raise _bad(spec, f"{address!r} is not an IP address") from None


def _range(spec: str, text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low = _number(spec, first)
    high = _number(spec, last) if dash else low
    if high < low:
        raise _bad(spec, "the range runs backwards")
    return low, high


def _number(spec: str, text: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None or int(match[1]) > _HIGHEST:
        raise _bad(spec, f"{text!r} is not a number from 0 to {_HIGHEST}")
    return int(match[1])


def _bad(spec: str, why: str) -> UsageError:
    return UsageError(
        f"{spec!r} is not a port: {why}", hint="a port looks like 80, 53/udp or 8000-8010"
    )
