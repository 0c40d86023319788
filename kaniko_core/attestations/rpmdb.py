"""The databases that rpm keeps its headers in: SQLite's, its own, and Berkeley DB's.

    rpmdb.sqlite    since Fedora 33, RHEL 9
    Packages.db     SUSE; ``ndb``
    Packages        before: RHEL 8, CentOS 7, Amazon Linux 2

Source: rpm 4.18, lib/backend/ndb/rpmpkg.c, as documented there ("Package database").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from kaniko_core.attestations.berkeley import berkeley_values
from kaniko_core.errors import ContentError

# By preference: where a database was converted, the old one may still be there.
SQLITE, NDB, BERKELEY = "rpmdb.sqlite", "Packages.db", "Packages"
FILES = frozenset({SQLITE, f"{SQLITE}-wal", NDB, BERKELEY})

LARGEST_HEADER = 256 << 20  # bytes; rpm's own limit
_NDB_HEAD = Struct("<4sIII")  # magic, version, generation, pages of slots
_NDB_SLOT = Struct("<4sIII")  # magic, package, first block, blocks
_NDB_BLOB = Struct("<4sIII")  # magic, package, generation, bytes
_NDB_PAGE, _NDB_BLOCK, _NDB_FIRST_SLOT = 4096, 16, 32  # bytes


def headers_in(directory: Path) -> Iterator[bytes]:
    """Yield the headers of all packages in the database that *directory* holds, if any.

    Raises:
        ContentError: it is damaged.
        OSError: it cannot be read.
    """
    if (directory / SQLITE).exists():
        yield from _sqlite(directory / SQLITE)
    elif (directory / NDB).exists():
        with (directory / NDB).open("rb") as stream:
            yield from _ndb(stream)
    elif (directory / BERKELEY).exists():
        with (directory / BERKELEY).open("rb") as stream:
            yield from berkeley_values(stream, LARGEST_HEADER)


def _sqlite(path: Path) -> Iterator[bytes]:
    import sqlite3

    try:
        # What is beside it, the log of what was not yet written into it, is read too.
        with closing(sqlite3.connect(path)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_HEADER)
            database.execute("PRAGMA trusted_schema = OFF")
            kinds = database.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'")
            # Of a view, nobody knows what it does, or for how long.
            if kinds.fetchall() != [("table",)]:
                raise ContentError("it has no table of packages")
            for (header,) in database.execute("SELECT blob FROM Packages ORDER BY hnum"):
                if not isinstance(header, bytes):
                    raise ContentError("a package's header is damaged")
                yield header
    except sqlite3.Error as problem:
        raise ContentError(f"SQLite says: {problem}") from problem
    except UnicodeDecodeError as problem:
        # It quotes the database, and Python takes what it says for UTF-8.
        raise ContentError("SQLite says that it is damaged") from problem


def _ndb(stream: BinaryIO) -> Iterator[bytes]:
    magic, version, _, pages = _NDB_HEAD.unpack(_exactly(stream, _NDB_HEAD.size))
    if magic != b"RpmP" or version != 0 or pages == 0:
        raise ContentError("it is no package database")
    slots = (pages * _NDB_PAGE - _NDB_FIRST_SLOT) // _NDB_SLOT.size
    # Of all headers together: slots that share one could make a small file a large one.
    left = stream.seek(0, os.SEEK_END)
    for number in range(slots):
        stream.seek(_NDB_FIRST_SLOT + number * _NDB_SLOT.size)
        magic, package, block, _ = _NDB_SLOT.unpack(_exactly(stream, _NDB_SLOT.size))
        if magic != b"Slot":
            raise ContentError("its list of packages is damaged")
        if not package:
            continue
        stream.seek(block * _NDB_BLOCK)
        magic, same, _, size = _NDB_BLOB.unpack(_exactly(stream, _NDB_BLOB.size))
        if magic != b"BlbS" or same != package or size > left:
            raise ContentError("a package's header is damaged")
        left -= size
        yield _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ContentError("it is incomplete")
    return data
