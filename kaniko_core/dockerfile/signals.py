"""STOPSIGNAL: names and numbers of Linux signals."""

from __future__ import annotations

import re

from kaniko_core.errors import UsageError

# Linux's signals but those of mips, with the names that Docker knows; in the order of signal(7).
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()
_NUMBERS = {name: number for number, name in enumerate(_NAMES, 1)} | {
    "IOT": 6,
    "CLD": 17,
    "POLL": 29,
}
_FIRST_REALTIME = 34
_LAST_REALTIME = 64
# Docker takes any number that its machine can hold.
_NUMBER = re.compile(r"([+-]?)0*(\d{1,19})", re.ASCII)
_HIGHEST = 2**63 - 1
_REALTIME = re.compile(r"RTMIN(?:\+([1-9]|1[0-5]))?|RTMAX(?:-([1-9]|1[0-4]))?")


def signal_number(text: str) -> int:
    """Return the number of the signal *text*: ``SIGKILL``, ``kill``, ``9``, ``RTMIN+3``.

    Any number but 0 passes, as in Docker.

    Raises:
        UsageError: there is no such signal.
    """
    match = _NUMBER.fullmatch(text)
    if match is not None:
        number = int(match[2]) * (-1 if match[1] == "-" else 1)
        if number == 0 or not -_HIGHEST - 1 <= number <= _HIGHEST:
            raise _unknown(text)
        return number
    name = text.upper().removeprefix("SIG")
    found = _realtime(name) or _NUMBERS.get(name)
    if found is None:
        raise _unknown(text)
    return found


def _realtime(name: str) -> int | None:
    match = _REALTIME.fullmatch(name)
    if match is None:
        return None
    if name.startswith("RTMIN"):
        return _FIRST_REALTIME + int(match[1] or 0)
    return _LAST_REALTIME - int(match[2] or 0)


def _unknown(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is not a signal", hint="a signal looks like SIGTERM, or is a number such as 15"
    )
