"""Files as parts of a key: everything of them that ends up in a layer, but for their times.

The value of a part is ``name=value`` fields with ``;`` between them, so that people can be told
which of them changed; what a field holds is percent-encoded where it could be mistaken.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self
from urllib.parse import quote

from kaniko_core.builder.source import CopySource, unreadable
from kaniko_core.builder.taken import TakenFiles
from kaniko_core.cache.key import Part, key_of
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry, Kind

# Hashing frees the interpreter; more threads than processors hide the waiting for the disk.
_AT_ONCE = 4
# A batch of files is one task: small files cost less than handing them over.
_BATCH_FILES = 128
_BATCH_BYTES = 8 << 20
# Bytes; up to here a file is read at once.
_SMALL = 128 << 10
_CHUNK = 1 << 20

_KINDS = {kind: kind.name.lower() for kind in Kind}
_EMPTY = hashlib.sha256().hexdigest()
# These end no field, and begin none.
_PLAIN = "/:,@+ "

_Digests = Mapping[bytes, str | OSError]


def fields(values: Iterable[tuple[str, str | bytes | int | bool | None]]) -> str:
    """Return the value of a part that has several fields; those that are None are left out."""
    return ";".join(f"{name}={_text(value)}" for name, value in values if value is not None)


def _text(value: str | bytes | int | bool | None) -> str:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    return quote(value if isinstance(value, bytes) else str(value).lower(), safe=_PLAIN)


def sha256(data: bytes) -> str:
    """Return the digest of *data* as a field has it."""
    return hashlib.sha256(data).hexdigest()


class Contents:
    """Digests of what files hold, each read once; safe to use from several threads.

    A context manager: at its end, what is still to be read is not.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hash")
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._known: dict[bytes, Future[_Digests]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """Read no more: nobody will ask for what is not read yet."""
        self._stopped.set()

    def prepare(self, entries: Iterable[Entry]) -> None:
        """Begin to read the files of *entries* that nobody has asked for yet."""
        sizes = {e.content: e.size for e in entries if isinstance(e.content, bytes)}
        with self._lock:
            new = {path: size for path, size in sizes.items() if path not in self._known}
            for batch in _batches(new):
                self._known.update(dict.fromkeys(batch, self._pool.submit(self._read, batch)))

    def of(self, path: bytes) -> str:
        """Return the digest of the file at *path*, which was prepared.

        Raises:
            OSError: it cannot be read.
        """
        found = self._known[path].result()[path]
        if isinstance(found, OSError):
            raise found
        return found

    def _read(self, batch: Sequence[bytes]) -> _Digests:
        found: dict[bytes, str | OSError] = {}
        for path in batch:
            try:
                found[path] = self._digest(path)
            except OSError as error:
                found[path] = error
        return found

    def _digest(self, path: bytes) -> str:
        # No Path has bytes.
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            hashed = hashlib.sha256(file.read(_SMALL))
            while not self._stopped.is_set() and (chunk := file.read(_CHUNK)):
                hashed.update(chunk)
        return hashed.hexdigest()


def _batches(sizes: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    total = 0
    for path, size in sizes.items():
        batch.append(path)
        total += size
        if len(batch) == _BATCH_FILES or total >= _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class FileParts:
    """Parts of a key, and the files that they were made of.

    Attributes:
        seen: where each file was, its size, and its time in nanoseconds.
    """

    parts: Sequence[Part]
    seen: Sequence[tuple[bytes, int, int]] = ()

    def unchanged(self) -> bool:
        """Whether nobody has written to the files since."""
        for path, size, mtime_ns in self.seen:
            try:
                status = os.lstat(path)
            except OSError:
                return False
            if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Makes parts of files, for one build."""

    contents: Contents

    def parts(self, origin: CopySource, taken: Sequence[TakenFiles]) -> FileParts:
        """Return a part for each file, named as *origin* has it.

        Raises:
            ContextError: a file cannot be read.
        """
        for files in taken:
            self.contents.prepare(files.entries)
        parts = [part for files in taken for part in self._parts(origin, files)]
        return FileParts(parts, [item for files in taken for item in _seen(origin, files)])

    def _parts(self, origin: CopySource, files: TakenFiles) -> Iterator[Part]:
        match = files.match
        if match.is_directory:
            # Its own mode and owner are not copied, but that it is there makes a directory.
            yield Part("file", _decoded(match.resolved) or ".", "to=;kind=directory")
        for entry in files.entries:
            path = files.path(entry)
            to = entry.name if match.is_directory else path.rpartition(b"/")[2]
            yield Part("file", _decoded(path), self._value(entry, to, origin, path))

    def _value(self, entry: Entry, to: bytes, origin: CopySource, path: bytes) -> str:
        """Return what of *entry*, which is *path* of *origin*, a layer has as *to*."""
        kind = entry.kind
        content: str | None = None
        if kind is Kind.FILE:
            content = _EMPTY
            if isinstance(entry.content, bytes):
                try:
                    content = self.contents.of(entry.content)
                except OSError as error:
                    raise unreadable(origin, path, error) from error
        # By hand, because there are many files.
        text = f"to={_text(to)};kind={_KINDS[kind]};mode={entry.mode:o}"
        text += f";owner={entry.uid}:{entry.gid}"
        if content is not None:
            text += f";content={content}"
        elif kind in (Kind.SYMLINK, Kind.HARDLINK):
            text += f";target={_text(entry.link)}"
        elif kind in (Kind.CHARACTER, Kind.BLOCK):
            text += ";device={}:{}".format(*entry.device)
        return text + (f";attributes={_attributes(entry.xattrs)}" if entry.xattrs else "")


def _attributes(xattrs: Mapping[bytes, bytes]) -> str:
    return key_of(Part("attribute", _decoded(name), xattrs[name]) for name in sorted(xattrs))


def _seen(origin: CopySource, files: TakenFiles) -> Iterator[tuple[bytes, int, int]]:
    for entry in files.entries:
        if entry.kind is Kind.FILE:
            path = files.path(entry) if files.match.is_directory else files.match.resolved
            yield origin.root.host_path(path), entry.size, entry.mtime_ns


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
