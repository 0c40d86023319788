"""STOPSIGNAL: names and numbers of Linux signals."""

from __future__ import annotations

import re
import signal

from kaniko_core.errors import UsageError

# Names that Python's module lacks on some machines.
_MORE = {"SIGCLD": 17, "SIGPOLL": 29, "SIGSTKFLT": 16, "SIGIOT": 6, "SIGUNUSED": 31}
_FIRST_REALTIME = 34
_LAST_REALTIME = 64
# Docker takes any number that its machine can hold.
_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_REALTIME = re.compile(r"SIGRT(?:MIN(?:\+(\d{1,2}))?|MAX(?:-(\d{1,2}))?)")


def signal_number(text: str) -> int:
    """Return the number of the signal *text*: ``SIGKILL``, ``kill``, ``9``, ``RTMIN+3``.

    Any number but 0 passes, as in Docker.

    Raises:
        UsageError: there is no such signal.
    """
    if _NUMBER.fullmatch(text):
        number = int(text)
        if number != 0:
            return number
        raise _unknown(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    found = _realtime(name)
    if found is None:
        found = _MORE.get(name)
    if found is None:
        found = next((int(s) for s in signal.Signals if s.name == name), None)
    if found is None:
        raise _unknown(text)
    return found


def _realtime(name: str) -> int | None:
    match = _REALTIME.fullmatch(name)
    if match is None:
        return None
    if name.startswith("SIGRTMIN"):
        number = _FIRST_REALTIME + int(match[1] or 0)
    else:
        number = _LAST_REALTIME - int(match[2] or 0)
    return number if _FIRST_REALTIME <= number <= _LAST_REALTIME else None


def _unknown(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is not a signal", hint="a signal looks like SIGTERM, or is a number such as 15"
    )
