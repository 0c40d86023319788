"""Names of users and groups, as the image's own /etc/passwd and /etc/group know them.

The host's accounts mean nothing inside an image; both files are read from its root, and both
may be missing, empty or malformed: an image needs neither.
Source: passwd(5) and group(5); the rules are those that BuildKit and runc apply.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from typing import Self

from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.rootfs.tree import Rootfs

# The kernel's ids are 32 bits wide, and the highest one means "leave it as it is" (chown(2)).
_HIGHEST_ID = 2**32 - 2
# More than any image has; a hostile file must not fill our memory.
_LARGEST_FILE = 10 << 20
_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class User:
    """A line of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class Group:
    """A line of /etc/group."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who runs a command; *home* is never empty.

    The *groups* are the supplementary ones, *gid* among them: a process that had it as its
    primary group only could shed it by executing a set-group-ID file (CVE-2023-25173), and with
    it what the group is denied.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class Accounts:
    """The users and groups of one image, in the order of their files: the first match counts."""

    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()

    @classmethod
    def of(cls, root: Rootfs) -> Self:
        """Read the accounts of the image whose tree *root* is; a file that is missing is empty."""
        users = (_user(fields) for fields in _lines(root, "etc/passwd"))
        groups = (_group(fields) for fields in _lines(root, "etc/group"))
        return cls(tuple(user for user in users if user), tuple(group for group in groups if group))

    def identity(self, spec: str) -> Identity:
        """Return who ``USER spec`` is: a name or number, or ``user:group``; empty means root.

        A number without a line in /etc/passwd is nobody's, and gets group 0.

        Raises:
            KanikoError: there is no such name.
        """
        name, _, group = spec.partition(":")
        number = _id(name or "0")
        user = self._user(name or "0", number)
        if user is None and number is None:
            raise _unknown("user", name, "passwd")
        uid = user.uid if user else number or 0
        gid = user.gid if user else 0
        home = (user.home if user else "") or ("/root" if uid == 0 else "/")
        if group:
            # Whoever names the group has said everything: no others.
            gid = self._gid(group)
            return Identity(uid, gid, (gid,), home)
        extra = (item.gid for item in self.groups if user and user.name in item.members)
        return Identity(uid, gid, tuple(dict.fromkeys((gid, *extra))), home)

    def owner(self, spec: str) -> tuple[int, int]:
        """Return user and group ID for ``--chown=spec``.

        A name brings its primary group along; a number alone is the group's number too.

        Raises:
            KanikoError: there is no such name.
        """
        name, _, group = spec.partition(":")
        number = 0 if name in ("", "root") else _id(name)
        if number is not None:
            return number, self._gid(group) if group else number
        user = next((item for item in self.users if item.name == name), None)
        if user is None:
            raise _unknown("user", name, "passwd")
        return user.uid, self._gid(group) if group else user.gid

    def _user(self, name: str, number: int | None) -> User | None:
        for user in self.users:
            if user.name == name or user.uid == number:
                return user
        return None

    def _gid(self, name: str) -> int:
        number = _id(name)
        for group in self.groups:
            if group.name == name or group.gid == number:
                return group.gid
        if number is not None:
            return number
        if name == "root":
            return 0
        raise _unknown("group", name, "group")


def _unknown(kind: str, name: str, file: str) -> KanikoError:
    return KanikoError(
        f"no {kind} {name} in the image's /etc/{file}",
        hint=f"add the {kind} with an earlier RUN, or use its number",
    )


def _id(text: str) -> int | None:
    if _NUMBER.fullmatch(text) is None or int(text) > _HIGHEST_ID:
        return None
    return int(text)


def _lines(root: Rootfs, path: str) -> Iterator[list[str]]:
    status = root.stat(path)
    if status is None or not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
        return
    with root.open(path) as stream:
        text = stream.read(_LARGEST_FILE)
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        yield line.strip().split(":")


def _user(fields: list[str]) -> User | None:
    match fields:
        case [name, _, uid, gid, *rest] if name:
            numbers = _id(uid), _id(gid)
            if numbers[0] is not None and numbers[1] is not None:
                home = rest[1] if len(rest) > 1 else ""
                return User(name, numbers[0], numbers[1], home)
    return None


def _group(fields: list[str]) -> Group | None:
    match fields:
        case [name, _, gid, *rest] if name:
            number = _id(gid)
            if number is not None:
                members = rest[0].split(",") if rest else []
                return Group(name, number, tuple(member for member in members if member))
    return None
