"""``--chmod``: octal and symbolic modes.

Source: FreeBSD's chmod(1), whose rules BuildKit follows; they are POSIX's with a few more: ``X``
asks for the mode before any change, and may follow ``=``; ``t`` goes with anyone but others alone.
"""

from __future__ import annotations

import re

from kaniko_core.errors import UsageError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_ALL = 0o7777
_STICKY = 0o1000
_SET_ID = 0o6000
_OTHERS = 0o007
_WHO = {"u": 0o4700, "g": 0o2070, "o": _OTHERS, "a": 0o6777}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}


def apply_mode(spec: str, mode: int, is_directory: bool) -> int:
    """Return *mode* (permission bits) as *spec* leaves it.

    Raises:
        UsageError: *spec* is neither octal nor symbolic.
    """
    if re.match("[0-9]", spec):
        if not re.fullmatch(r"[0-7]+", spec) or int(spec, 8) > _ALL:
            raise _bad(spec)
        return int(spec, 8)
    executable = is_directory or mode & 0o111 != 0
    for clause in spec.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise _bad(spec)
        who = 0
        for letter in match[1]:
            who |= _WHO[letter]
        for action in _ACTION.finditer(match[2]):
            mode = _acted(mode, who, action[1], action[2], executable)
    return mode


def _acted(mode: int, who: int, operator: str, permissions: str, executable: bool) -> int:
    bits = 0
    copied = False
    execute = 0
    for letter in permissions:
        if letter in _SHIFT:
            mode = _changed(mode, who, operator, bits) if bits else mode
            mode |= _reached(who, execute)
            bits = execute = 0
            copied = True
            mode = _copied(mode, who, operator, (mode >> _SHIFT[letter]) & 7)
        elif letter == "X":
            execute = 0o111 if executable and operator != "-" else 0
        elif letter in _BITS:
            bits |= _BITS[letter]
        elif who == 0 or who & ~_OTHERS:
            # Others alone have neither of these.
            bits |= _STICKY if letter == "t" else _SET_ID
            who |= _STICKY if letter == "t" else 0
    if bits or (operator == "=" and not copied):
        mode = _changed(mode, who, operator, bits)
    return mode | _reached(who, execute)


def _reached(who: int, bits: int) -> int:
    """Return those of *bits* that an action on *who* touches; nobody named is everybody."""
    return bits & who if who else bits


def _changed(mode: int, who: int, operator: str, bits: int) -> int:
    bits = _reached(who, bits)
    if operator == "-":
        return mode & ~bits
    if operator == "=":
        mode &= ~(who or _WHO["a"])
    return mode | bits


def _copied(mode: int, who: int, operator: str, permissions: int) -> int:
    for name, shift in _SHIFT.items():
        if who and not who & _WHO[name] & 0o777:
            continue
        if operator == "-":
            mode &= ~(permissions << shift)
            continue
        if operator == "=":
            mode &= ~(7 << shift)
        mode |= permissions << shift
    return mode


def _bad(spec: str) -> UsageError:
    return UsageError(
        f"{spec!r} is not a mode", hint="a mode looks like 755, 0644, u=rwX,go=rX or +x"
    )
