"""The header blocks that an entry gets in a layer: a short way for most, and the whole way.

    files and directories that   a name, a size and a time, put between fields that were made
    fit into ustar's fields      for the first entry with the same mode and owner
    everything else              field for field, after PAX blocks for what does not fit

Both ways give the same bytes. The short one costs less than half, and layers of many small files
spend most of their time here.
"""

from __future__ import annotations

from zlib import adler32

from kaniko_core.errors import ContentError
from kaniko_core.oci import pax, tarheader
from kaniko_core.oci.entry import OPAQUE_MARK, SECOND, WHITEOUT_PREFIX, Entry, Kind
from kaniko_core.oci.tarheader import (
    LARGEST_ID,
    LARGEST_NUMBER,
    LONGEST_FIELD,
    MTIME,
    readable,
)

# Owners and modes that are remembered; few trees have more.
_MOST_KNOWN = 256
# Where in a header the fields are that entries have in common: mode, uid and gid; and all after
# the checksum, for which eight spaces count.
_OWNED = slice(100, 124)
_REST = slice(MTIME + 20, None)
_SPACES = 8 * 0x20
_OF_A_DIRECTORY = 1 << 16  # beside the bits of a mode

# Whiteouts are empty files with special names.
_TYPE_FLAGS = {kind: kind.value for kind in Kind} | {
    Kind.WHITEOUT: Kind.FILE.value,
    Kind.OPAQUE: Kind.FILE.value,
}


class Headers:
    """Makes the headers of one layer's entries."""

    def __init__(self) -> None:
        # By mode and owner: the two parts of a header that follow from them, and what the second
        # adds to the checksum.
        self._known: dict[tuple[int, int, int], tuple[bytes, bytes, int]] = {}

    def of(self, entry: Entry) -> bytes:
        """Return the header blocks of *entry*: one where everything fits, else PAX before it.

        Raises:
            ContentError: its name means something else in a layer.
        """
        kind, name, mode, size = entry.kind, entry.name, entry.mode, entry.size
        if kind is Kind.DIRECTORY:
            name += b"/"
            mode |= _OF_A_DIRECTORY
            size = 0
        elif kind is not Kind.FILE:
            return blocks(entry)
        seconds, fraction = divmod(entry.mtime_ns, SECOND)
        if (
            fraction
            or not 0 <= seconds <= LARGEST_NUMBER
            or size > LARGEST_NUMBER
            or len(name) > LONGEST_FIELD
            or not name.isascii()
            or entry.xattrs
            or WHITEOUT_PREFIX in name
        ):
            return blocks(entry)
        known = self._known.get((mode, entry.uid, entry.gid)) or self._shared(entry, mode)
        if known is None or name == b"/":
            return blocks(entry)
        owned, rest, total = known
        start = b"%b%b%011o\0%011o\0" % (name.ljust(100, b"\0"), owned, size, seconds)
        # As in tarheader.checksum(): no part is longer than 256 bytes.
        return b"%b%06o\0 %b" % (start, (adler32(start, 0) & 0xFFFF) + total, rest)

    def _shared(self, entry: Entry, mode: int) -> tuple[bytes, bytes, int] | None:
        """Return what entries like *entry* have in common; None where it does not fit."""
        uid, gid = entry.uid, entry.gid
        if uid > LARGEST_ID or gid > LARGEST_ID:
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        numbers = (mode & 0o7777, uid, gid, 0, 0)
        header = tarheader.block(b"", numbers, _TYPE_FLAGS[entry.kind])
        rest = header[_REST]
        shared = header[_OWNED], rest, sum(rest) + _SPACES
        self._known[mode, uid, gid] = shared
        return shared


def blocks(entry: Entry) -> bytes:
    """Return the header blocks of any entry, as :meth:`Headers.of` does."""
    kind = entry.kind
    stored = _stored_name(entry)
    extra: list[tuple[bytes, bytes]] = []
    name, prefix, link = stored, b"", b""
    if len(stored) > LONGEST_FIELD or not stored.isascii():
        prefix, name = tarheader.split(stored) or (b"", stored[:LONGEST_FIELD])
        if not prefix:
            extra.append((b"path", stored))
    if kind is Kind.SYMLINK or kind is Kind.HARDLINK:
        link = entry.link
        if len(link) > LONGEST_FIELD or not link.isascii():
            extra.append((b"linkpath", link))
            link = link[:LONGEST_FIELD]
    size = entry.size if kind is Kind.FILE else 0
    device = entry.device if kind is Kind.CHARACTER or kind is Kind.BLOCK else (0, 0)
    uid, gid, seconds = entry.uid, entry.gid, entry.mtime_ns // SECOND
    if size > LARGEST_NUMBER:
        extra.append((b"size", b"%d" % size))
        size = 0
    if uid > LARGEST_ID:
        extra.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > LARGEST_ID:
        extra.append((b"gid", b"%d" % gid))
        gid = 0
    if entry.mtime_ns % SECOND or not 0 <= seconds <= LARGEST_NUMBER:
        extra.append((b"mtime", pax.time(entry.mtime_ns)))
        seconds = min(max(seconds, 0), LARGEST_NUMBER)
    for key in sorted(entry.xattrs):
        extra.append((pax.xattr_key(key), entry.xattrs[key]))
    numbers = (entry.mode & 0o7777, uid, gid, size, seconds)
    flag = _TYPE_FLAGS[kind]
    block = tarheader.block(name, numbers, flag, link=link, prefix=prefix, device=device)
    return pax.blocks(extra) + block if extra else block


def _stored_name(entry: Entry) -> bytes:
    name = entry.name
    match entry.kind:
        case Kind.DIRECTORY:
            stored = name + b"/" if name else b"./"
        case Kind.WHITEOUT:
            directory, slash, base = name.rpartition(b"/")
            return directory + slash + WHITEOUT_PREFIX + base
        case Kind.OPAQUE:
            return name + b"/" + OPAQUE_MARK if name else OPAQUE_MARK
        case _:
            stored = name
    refuse_storing(name)
    return stored


def refuse_storing(name: bytes) -> None:
    """Refuse a file's *name* that means something else in a layer.

    Raises:
        ContentError: it is that of a whiteout.
    """
    if WHITEOUT_PREFIX in name and name.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
        raise ContentError(
            f"{readable(name)} cannot be stored in a layer: there, names that begin with .wh. "
            "mean that a file was deleted",
            hint="remove it in the instruction that makes it, or rename it",
        )
