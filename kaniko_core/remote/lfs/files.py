"""Git LFS: the files of a checkout that are pointers become what they stand for.

    .gitattributes   *.bin filter=lfs        which files; git itself tells them
    model.bin        version https://git-lfs.github.com/spec/v1
                     oid sha256:4d7a…        what it stands for: that is verified
                     size 12345
    .lfsconfig       lfs.url = https://…     where it is; else the repository's address says it

A file that has the attribute and is no pointer stays what it is, and so does a pointer without
the attribute: git-lfs would not touch them either. The program git-lfs is not needed.

Source: git-lfs, docs/spec.md and docs/api/server-discovery.md.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kaniko_core.errors import (
    ContextError,
    DigestMismatch,
    RegistryError,
    UsageError,
    disk_errors,
)
from kaniko_core.lean import dataclass
from kaniko_core.progress import Direction, Progress
from kaniko_core.registry.meter import Meter
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.git.run import GitFailed
from kaniko_core.remote.lfs.answers import Download, LargeObject
from kaniko_core.remote.lfs.places import Checkout, endpoint_of, name_of
from kaniko_core.remote.lfs.server import LfsServer

_BATCH = 100  # objects that are asked for at a time; git-lfs asks for as many
_AT_ONCE = 4  # objects
_LARGEST_POINTER = 1024  # bytes; git-lfs looks at no larger file
_PIECE = 1 << 20  # bytes that are copied at a time
_VERSIONS = frozenset(
    {
        b"https://git-lfs.github.com/spec/v1",
        b"https://hawser.github.com/spec/v1",
        b"http://git-media.io/v/2",
    }
)
_OID = re.compile(rb"sha256:([0-9a-f]{64})")
_SIZE = re.compile(rb"[0-9]{1,18}")
_EXTENSION = re.compile(rb"ext-[0-9]-(.+)")


@dataclass(frozen=True, slots=True)
class LargeFiles:
    """Fetches what pointers stand for; safe to use from several threads.

    Attributes:
        transport: closed by whoever made it.
        pacing: how often a request is tried again, and when.
        progress: told of bytes that move.
        stopped: set by whoever gives everything up.
    """

    transport: Transport
    pacing: Pacing
    progress: Progress
    stopped: threading.Event

    def resolve(self, checkout: Checkout) -> int:
        """Replace the pointers of *checkout* and its submodules; return how many files they were.

        Modes stay; times become those of the writing. Files that are not in the directory, such
        as those of a sparse checkout, are not fetched. After an error the directory holds both
        pointers and files.

        Raises:
            ContextError: something cannot be fetched; the sentence names the file.
            DigestMismatch: the server has something else.
            DiskError: the directory cannot be written.
            GitFailed: git cannot tell which files these are.
        """
        count = self._resolve_one(checkout)
        return count + sum(self.resolve(each) for each in _submodules(checkout))

    def _resolve_one(self, checkout: Checkout) -> int:
        wanted = _pointers(checkout)
        paths = [path for each in wanted.values() for path in each]
        if not paths:
            return 0
        name = name_of(checkout)
        others = (
            f" and {len(paths) - 1} more of the Git LFS files" if paths[1:] else ", a Git LFS file"
        )
        with _named(f"{paths[0]}{others} of {name}"):
            halted = threading.Event()
            server = LfsServer(
                endpoint_of(checkout),
                self.transport,
                self.pacing,
                self.stopped,
                halted,
                checkout.unverified,
            )
            meter = _Sum(self.progress, f"LFS files of {name}", sum(each.size for each in wanted))
            fetching = _Fetching(server, checkout.directory, name, wanted, meter)
            fetching.run()
        return len(paths)


Wanted = Mapping[LargeObject, Sequence[str]]


def _pointers(checkout: Checkout) -> Wanted:
    """Return what the pointers stand for, and the files that are to become it."""
    wanted: dict[LargeObject, list[str]] = {}
    for name in checkout.git("ls-files", "-z", "--", ":(attr:filter=lfs)").split("\0"):
        found = _pointer(checkout, name) if name else None
        if found is not None:
            wanted.setdefault(found, []).append(name)
    return wanted


def _pointer(checkout: Checkout, name: str) -> LargeObject | None:
    path = checkout.directory / name
    with disk_errors("read", path):
        try:
            state = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(state.st_mode) or state.st_size >= _LARGEST_POINTER:
            return None
        lines = path.read_bytes().strip().splitlines()
    fields = dict(line.partition(b" ")[::2] for line in lines)
    if not lines or lines[0].partition(b" ")[0] != b"version":
        return None
    if fields[b"version"] not in _VERSIONS:
        return None
    oid, size = (
        pattern.fullmatch(fields.get(key, b""))
        for key, pattern in ((b"oid", _OID), (b"size", _SIZE))
    )
    if oid is None or size is None:
        return None
    for extension in filter(None, map(_EXTENSION.fullmatch, fields)):
        raise ContextError(
            f"cannot fetch {name}, a Git LFS file of {name_of(checkout)}: it went through the LFS "
            f"extension {extension[1].decode(errors='replace')}, and nothing of it runs here",
            hint="fetch the repository with git lfs before the build",
        )
    return LargeObject(oid[1].decode(), int(size[0]))


def _submodules(checkout: Checkout) -> Iterator[Checkout]:
    """Yield the submodules that are there."""
    if not (checkout.directory / ".gitmodules").is_file():
        return
    try:
        asked = ("config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$")
        said = checkout.git(*asked)
    except GitFailed:
        return  # it names none
    top = checkout.directory.resolve()
    for field in filter(None, said.split("\0")):
        path = (top / field.partition("\n")[2]).resolve()
        if path != top and path.is_relative_to(top) and (path / ".git").exists():
            yield checkout.at(path)


class _Sum:
    """Counts the bytes of all files together."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._meter = Meter(progress, Direction.PULL, what, total)
        self._done = 0
        self._lock = threading.Lock()

    def moved(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._meter.at(self._done)


@dataclass(frozen=True, slots=True)
class _Fetching:
    """The files of one repository on their way here."""

    server: LfsServer
    directory: Path
    repository: str
    wanted: Wanted
    sum: _Sum

    def run(self) -> None:
        objects = list(self.wanted)
        parts = (objects[start : start + _BATCH] for start in range(0, len(objects), _BATCH))
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lfs") as pool:
            try:
                for part in parts:
                    # The next objects are asked for while these ones are on their way.
                    answers = self.server.batch(part)
                    _settle(pending)
                    pending = [pool.submit(self._fetch, each, answers[each.oid]) for each in part]
                _settle(pending)
            except BaseException:
                self.server.halted.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch(self, wanted: LargeObject, download: Download | RegistryError) -> None:
        names = self.wanted[wanted]
        with _named(f"{names[0]}, a Git LFS file of {self.repository}"):
            first = self.directory / names[0]
            with _replacement(first) as file:
                self.server.fetch(wanted, download, file, self.sum.moved)
            for name in names[1:]:
                with (
                    _replacement(self.directory / name) as file,
                    disk_errors("write", file.name),
                    first.open("rb") as same,
                ):
                    shutil.copyfileobj(same, file, _PIECE)


def _settle(pending: Iterable[Future[None]]) -> None:
    for future in as_completed(pending):
        future.result()


@contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of *path*, with its mode, where the block succeeds."""
    with disk_errors("write", path):
        mode = stat.S_IMODE(path.lstat().st_mode)
        descriptor, name = tempfile.mkstemp(prefix=".lfs-", dir=path.parent)
        os.close(descriptor)
    fresh = Path(name)
    try:
        with fresh.open("wb") as file:
            yield file
            with disk_errors("write", path):
                file.flush()
        with disk_errors("write", path):
            fresh.chmod(mode)
            fresh.replace(path)
    except BaseException:
        fresh.unlink()
        raise


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Name *what* could not be fetched, in an error that does not."""
    try:
        yield
    except DigestMismatch as error:
        raise DigestMismatch(f"cannot use {what}: {error}", hint=error.hint) from error
    except (RegistryError, GitFailed, UsageError) as error:
        raise ContextError(f"cannot fetch {what}: {error}", hint=error.hint) from error
