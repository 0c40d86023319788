"""Reading a tar entry by entry, in every dialect that layers and archives are found in.

    ustar            POSIX: regular files, links, devices, FIFOs, directories
    PAX              `x` and `g` headers: long names, fractions of times, large numbers, xattrs
    GNU tar          `L` and `K` long names, base-256 numbers, `S` sparse files
    before POSIX     no magic, type NUL, a directory by its trailing slash
    sparse by PAX    GNU's formats 0.0, 0.1 (map in the header) and 1.0 (map before the data)

Sources: OCI image-spec v1.1, layer.md; the GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

import os
from struct import Struct
from typing import BinaryIO

from kaniko_core.errors import ContentError, UnsafeEntry
from kaniko_core.oci import pax, sparse, tarheader
from kaniko_core.oci.entry import OPAQUE_MARK, WHITEOUT_PREFIX, Entry, Kind
from kaniko_core.oci.tarheader import BLOCK, number, readable, text

_CHUNK = 1 << 20  # bytes to ask the stream for
_LARGEST_EXTENSION = 1 << 20  # bytes of a PAX header or a GNU long name; Go's limit too
_LARGEST_ID = (1 << 32) - 2  # the next one means "unchanged" to chown
# Of Linux, which has 32 bits for both: include/linux/kdev_t.h.
_LARGEST_MAJOR, _LARGEST_MINOR = (1 << 12) - 1, (1 << 20) - 1

_KINDS = {kind.value: kind for kind in Kind if kind not in {Kind.WHITEOUT, Kind.OPAQUE}} | {
    b"\0": Kind.FILE,  # before POSIX
    b"7": Kind.FILE,  # contiguous
    b"S": Kind.FILE,  # GNU sparse
    b"D": Kind.DIRECTORY,  # GNU incremental backup; its data lists what was there
}
_SPARSE, _DUMPED = b"SD"
# Volume labels and Solaris ACLs describe nothing that a root file system holds.
_SKIPPED = frozenset({b"V", b"A"})
# name; mode, uid and gid together; size; mtime
_FIELDS = Struct("100s24s12s12s")
_DEVICE = Struct("8s8s")
# Different combinations of owner and mode that are remembered. Few archives have as many.
_MOST_OWNERS = 512
# AUFS kept its own files in the root of layers; image-spec layer.md reserves the names.
_AUFS_PREFIX = b".wh..wh."
_TRUNCATED = "the tar archive ends in the middle of an entry"


class TarReader:
    """Entries of an uncompressed tar, one after the other.

    After :meth:`next`, the entry's content can be taken with :meth:`take` or :meth:`copy_to`;
    what is not taken is skipped. The stream is read to its end, so that a verifying stream has
    verified when :meth:`next` returns None; it is the caller's to close.

    Attributes:
        segments: offset and length of the current entry's data when the file is sparse, else
            None. :meth:`take` gives the data alone, without the holes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._read = stream.read
        self._chunk = b""
        self._view = memoryview(b"")
        self._position = 0
        self._left = 0  # stored bytes of the current entry that were not taken yet
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}
        self._owners: dict[bytes, tuple[int, int, int]] = {}
        self.segments: sparse.Segments | None = None

    def next(self) -> Entry | None:
        """Return the next entry, or None at the end of the archive.

        Raises:
            ContentError: the archive is damaged or incomplete.
            UnsafeEntry: a name or hard link could leave the root.
        """
        extended: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            header = self._header()
            if header is None:
                if extended or long_name or long_link:
                    raise ContentError(_TRUNCATED)
                return None
            kind = _KINDS.get(header[156:157])
            if kind is not None:
                entry = self._entry(header, kind, extended, long_name, long_link)
                if entry is not None:
                    return entry
                extended, long_name, long_link = {}, None, None
                continue
            flag = header[156:157]
            size = number(header[124:136])
            if flag in {b"x", b"X"}:
                extended = pax.records(self._extension(size))
            elif flag == b"g":
                self._remember(pax.records(self._extension(size)))
            elif flag == b"L":
                long_name = text(self._extension(size))
            elif flag == b"K":
                long_link = text(self._extension(size))
            elif flag in _SKIPPED:
                self._expect(size)
            else:
                raise ContentError(f"the tar archive has an entry of unknown type {flag!r}")

    def take(self, limit: int) -> memoryview:
        """Return the next stored bytes of the entry's content: at most *limit*, none at its end."""
        wanted = limit if limit < self._left else self._left
        start = self._position
        if start == len(self._chunk) and wanted:
            if not self._more():
                raise ContentError(_TRUNCATED)
            start = 0
        piece = self._view[start : start + wanted]
        self._position = start + len(piece)
        self._left -= len(piece)
        return piece

    def copy_to(self, fd: int, size: int) -> None:
        """Write the entry's content to *fd*, a new file; holes stay holes.

        Args:
            fd: an empty file, open for writing at its beginning.
            size: the entry's.

        Raises:
            OSError: the disk refused.
        """
        if self.segments is None:
            self._copy(fd, size)
            return
        for offset, length in self.segments:
            os.lseek(fd, offset, os.SEEK_SET)
            self._copy(fd, length)
        os.ftruncate(fd, size)

    def _copy(self, fd: int, length: int) -> None:
        while length:
            piece = self.take(length)
            length -= len(piece)
            while (written := os.write(fd, piece)) < len(piece):
                piece = piece[written:]

    # Bytes of the stream

    def _more(self) -> bool:
        chunk = self._read(_CHUNK)
        self._chunk = chunk
        self._view = memoryview(chunk)
        self._position = 0
        return bool(chunk)

    def _bytes(self, count: int) -> bytes:
        """Return the next *count* bytes, or fewer at the end of the stream."""
        start = self._position
        end = start + count
        if end <= len(self._chunk):
            self._position = end
            return self._chunk[start:end]
        parts = [self._chunk[start:]]
        missing = count - len(parts[0])
        while missing and self._more():
            parts.append(self._chunk[:missing])
            self._position = len(parts[-1])
            missing -= len(parts[-1])
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        end = self._position + count
        while end > len(self._chunk):
            end -= len(self._chunk)
            if not self._more():
                raise ContentError(_TRUNCATED)
        self._position = end

    def _header(self) -> bytes | None:
        """Return the next header, after what was not taken of the entry before; None: the end."""
        start = self._position + self._left + self._padding
        header = self._chunk[start : start + BLOCK]
        if len(header) == BLOCK:
            self._position = start + BLOCK
        else:
            self._skip(self._left + self._padding)
            header = self._bytes(BLOCK)
        self._left = self._padding = 0
        if len(header) == BLOCK and (header[0] or any(header)):
            tarheader.check(header)
            return header
        if any(header):
            raise ContentError("the tar archive ends in the middle of a header")
        # Some writers leave out the zeros that end an archive. Whatever follows them counts
        # for the digest only.
        while self._more():
            pass
        self._position = 0
        return None

    def _expect(self, size: int) -> None:
        """Note that *size* stored bytes follow the header."""
        if size < 0:
            raise ContentError("the tar archive is damaged: an entry has a negative size")
        self._left = size
        self._padding = -size % BLOCK

    def _stored(self, size: int) -> bytes:
        """Return the next *size* stored bytes of the entry."""
        data = self._bytes(min(size, self._left))
        self._left -= len(data)
        if len(data) < size:
            raise ContentError(_TRUNCATED)
        return data

    def _extension(self, size: int) -> bytes:
        if size > _LARGEST_EXTENSION:
            raise ContentError(f"the tar archive has an extended header of {size} bytes")
        self._expect(size)
        return self._stored(size)

    # Headers

    def _remember(self, records: dict[bytes, bytes]) -> None:
        """Let *records* count for all entries from now on; together they have a header's limit."""
        self._globals |= records
        size = sum(len(key) + len(value) for key, value in self._globals.items())
        if size > _LARGEST_EXTENSION:
            raise ContentError(f"the tar archive has global headers of {size} bytes together")

    def _entry(
        self,
        header: bytes,
        kind: Kind,
        extended: dict[bytes, bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry | None:
        """Return the entry that *header* begins, or None for one of AUFS's own files."""
        name, owner, size, mtime = _FIELDS.unpack_from(header)
        if long_name is not None:
            name = long_name
        else:
            name = name.partition(b"\0")[0]
            if header[345] and header.startswith(b"ustar\0", 257):
                name = text(header[345:500]) + b"/" + name
        if long_link is None:
            long_link = text(header[157:257]) if header[157] else b""
        mode, uid, gid = self._owners.get(owner) or self._owner(owner)
        entry = Entry(
            name,
            kind,
            mode,
            uid,
            gid,
            number(size),
            tarheader.time(mtime),
            long_link,
            {},
        )
        if self._globals:
            extended = self._globals | extended
        if extended:
            pax.extend(entry, extended)
        if kind is Kind.FILE and entry.name.endswith(b"/"):
            entry.kind = kind = Kind.DIRECTORY
        self.segments = None
        if kind is Kind.FILE:
            self._expect(entry.size)
            if header[156] == _SPARSE:
                self._sparse(entry, sparse.of_header(header, self._block))
            elif extended and (found := sparse.of_records(extended, self._stored_block)):
                self._sparse(entry, found)
        else:
            # Links, devices, FIFOs and directories have no data, whatever their size field says.
            self._expect(entry.size if header[156] == _DUMPED else 0)
            if kind is Kind.CHARACTER or kind is Kind.BLOCK:
                entry.device = _device(header)
        return _finished(entry)

    def _owner(self, fields: bytes) -> tuple[int, int, int]:
        """Read mode, uid and gid, which most entries have from the one before."""
        owner = (number(fields[:8]) & 0o7777, number(fields[8:16]), number(fields[16:]))
        if len(self._owners) >= _MOST_OWNERS:
            self._owners.clear()
        self._owners[fields] = owner
        return owner

    def _sparse(self, entry: Entry, found: tuple[int, sparse.Segments]) -> None:
        entry.size, segments = found
        sparse.check(segments, entry.size, self._left)
        self.segments = segments

    def _block(self) -> bytes:
        block = self._bytes(BLOCK)
        if len(block) < BLOCK:
            raise ContentError(_TRUNCATED)
        return block

    def _stored_block(self) -> bytes:
        return self._stored(BLOCK)


def _device(header: bytes) -> tuple[int, int]:
    """Return the device numbers of *header*, which one of another system may have larger."""
    major, minor = map(number, _DEVICE.unpack_from(header, 329))
    if not (0 <= major <= _LARGEST_MAJOR and 0 <= minor <= _LARGEST_MINOR):
        raise ContentError(f"the tar archive has a device that Linux has not: {major}:{minor}")
    return major, minor


def _finished(entry: Entry) -> Entry | None:
    """Check *entry*, give it its final name and recognise whiteouts."""
    raw = entry.name
    entry.name = name = tarheader.clean_name(raw)
    kind = entry.kind
    if not 0 <= entry.uid <= _LARGEST_ID or not 0 <= entry.gid <= _LARGEST_ID:
        raise ContentError(
            f"{readable(raw)} in the tar archive has an owner that no file can have: "
            f"{entry.uid}:{entry.gid}"
        )
    if not name and kind is not Kind.DIRECTORY:
        raise ContentError(f"the tar archive has an entry without a name: {readable(raw)!r}")
    if kind is not Kind.FILE:
        entry.size = 0
        if kind is Kind.HARDLINK:
            entry.link = tarheader.clean_name(entry.link)
        links = kind is Kind.HARDLINK or kind is Kind.SYMLINK
        if links and (not entry.link or b"\0" in entry.link):
            raise ContentError(f"{readable(raw)} in the tar archive links to nothing")
    if WHITEOUT_PREFIX in name:
        return _whiteout(entry)
    return entry


def _whiteout(entry: Entry) -> Entry | None:
    """Return *entry* as the whiteout that it is, if it is one; None for AUFS's own files."""
    directory, slash, base = entry.name.rpartition(b"/")
    if base == OPAQUE_MARK:
        entry.kind, entry.name, entry.size = Kind.OPAQUE, directory, 0
    elif entry.name.startswith(_AUFS_PREFIX):
        return None
    elif base.startswith(WHITEOUT_PREFIX):
        hidden = base.removeprefix(WHITEOUT_PREFIX)
        if hidden in {b"", b".", b".."}:
            raise UnsafeEntry(
                f"the tar archive has a whiteout that removes no file: {readable(entry.name)}"
            )
        entry.kind, entry.name, entry.size = Kind.WHITEOUT, directory + slash + hidden, 0
    return entry
