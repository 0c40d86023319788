"""``--chmod``: octal and symbolic modes.

Source: POSIX.1-2017, chmod, "Extended description", for the symbolic form.
"""

from __future__ import annotations

import re

from kaniko_core.errors import UsageError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_ALL = 0o7777


def apply_mode(spec: str, mode: int, is_directory: bool) -> int:
    """Return *mode* (permission bits) as *spec* leaves it.

    Raises:
        UsageError: *spec* is neither octal nor symbolic.
    """
    if spec[:1].isdigit():
        if not re.fullmatch(r"[0-7]+", spec, re.ASCII) or int(spec, 8) > _ALL:
            raise _bad(spec)
        return int(spec, 8)
    for clause in spec.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise _bad(spec)
        who = set(match[1] or "a")
        classes = "ugo" if "a" in who else "".join(c for c in "ugo" if c in who)
        for action in _ACTION.finditer(match[2]):
            mode = _changed(mode, classes, action[1], action[2], is_directory)
    return mode


def _changed(mode: int, classes: str, operator: str, permissions: str, is_directory: bool) -> int:
    bits = 0
    reach = 0
    for name in classes:
        shift = _SHIFT[name]
        reach |= 7 << shift
        bits |= _permissions(mode, permissions, is_directory) << shift
    special = 0
    if "s" in permissions:
        special |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    if "t" in permissions and classes == "ugo":
        special |= 0o1000
    if operator == "+":
        return mode | bits | special
    if operator == "-":
        return mode & ~(bits | special)
    cleared = (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    return (mode & ~reach & ~cleared) | bits | special


def _permissions(mode: int, permissions: str, is_directory: bool) -> int:
    if permissions in _SHIFT:
        return (mode >> _SHIFT[permissions]) & 7
    bits = 0
    for letter in permissions:
        bits |= _BITS.get(letter, 0)
        if letter == "X" and (is_directory or mode & 0o111):
            bits |= 1
    return bits


def _bad(spec: str) -> UsageError:
    return UsageError(
        f"{spec!r} is not a mode", hint="a mode looks like 755, 0644, u=rwX,go=rX or +x"
    )
