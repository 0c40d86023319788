"""Base images on disk, named by digest.

    <cache_dir>/
    ├── sha256:9f86…          the image, as a docker-save tarball
    ├── sha256:9f86….json     its manifest, byte for byte as the registry sent it
    ├── .tags/                what tags meant when they were last warmed
    ├── .locks/               one lock for each image that is being downloaded
    └── .tmp-…                being written, or left by a process that was killed

The sidecar exists because a docker-save tarball does not keep the manifest, and a manifest made
anew would have another digest. It is renamed into place *before* the tarball, so whoever can
see the tarball can see the sidecar. Its time is when a build last used the image. The name is
the key: it is trusted, the sidecar must hash to it, and every layer is verified by its
descriptor when it is read. So a look-up reads kilobytes.

Where Go kaniko's warmer wrote ``sha256:9f86…`` as a directory, an OCI layout, that is read too.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import assert_never

from kaniko_core.cache.contents import sidecar
from kaniko_core.cache.tables import span
from kaniko_core.cache.tags import Remembered, TagIndex
from kaniko_core.errors import ContentError, DigestMismatch, KanikoError, disk_errors, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.oci.atomic import discard_directory, make_directory, replacing, sweep
from kaniko_core.oci.digest import Digest, read_verified
from kaniko_core.oci.image import Image
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.tarball import read_image, write_image
from kaniko_core.options import CacheOptions

# Seconds to wait for another process that downloads the same image. Then we download it too:
# the lock only saves work, and its holder may be stopped or on a machine that is gone.
_LOCK_SECONDS = 900.0
_LOCK_POLL_SECONDS = 0.05


class Freshness(Enum):
    """Whether the cache has an image, and whether it can be used."""

    ABSENT = "absent"
    FRESH = "fresh"
    STALE = "stale"  # whole, but older than the time to live
    DAMAGED = "damaged"  # not what its name promises
    UNREADABLE = "unreadable"  # the disk, or a permission, refused


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache has under a digest.

    Attributes:
        image: there when FRESH or STALE.
        size: bytes of the entry.
        age: since it was written or renewed.
        detail: what is wrong with it, when DAMAGED or UNREADABLE.
    """

    digest: Digest
    freshness: Freshness
    image: Image | None = None
    size: int = 0
    age: timedelta = timedelta(0)
    detail: str = ""


class ImageCache:
    """The cache directory of *options*; several processes may use it at once.

    Args:
        options: where, and for how long entries stay fresh.
        now: the clock, in seconds since the epoch, as files' times are.
    """

    def __init__(self, options: CacheOptions, now: Callable[[], float] = time.time) -> None:
        self._options = options
        self._now = now
        self._tags = TagIndex(options.cache_dir / ".tags")

    @property
    def directory(self) -> Path:
        """The cache directory."""
        return self._options.cache_dir

    def look_up(self, digest: Digest) -> Lookup:
        """Return what is there, without reading any layer; never raises for what it finds."""
        path = self._entry(digest)
        try:
            status = path.stat()
        except FileNotFoundError:
            return Lookup(digest, Freshness.ABSENT)
        except OSError as error:
            return Lookup(digest, Freshness.UNREADABLE, detail=reason_of(error))
        age = timedelta(seconds=self._now() - status.st_mtime)
        try:
            image = self._read(digest)
        except (OSError, KanikoError) as error:
            if _is_another(path, status):
                return self.look_up(digest)
            if isinstance(error, OSError):
                return Lookup(digest, Freshness.UNREADABLE, age=age, detail=reason_of(error))
            return Lookup(digest, Freshness.DAMAGED, age=age, detail=str(error))
        freshness = Freshness.STALE if age > self._options.cache_ttl else Freshness.FRESH
        size = sum(layer.descriptor.size for layer in image.layers) if path.is_dir() else 0
        return Lookup(digest, freshness, image, size or status.st_size, age)

    def freshness(self, digest: Digest) -> Freshness:
        """Return only how good the entry is."""
        return self.look_up(digest).freshness

    def get(self, digest: Digest) -> Image | None:
        """Return the image where the entry is whole, be it stale; else None."""
        return self.look_up(digest).image

    def describe(self, found: Lookup, name: str) -> str:
        """Say what the cache has of *name*, and in which directory."""
        directory = self._options.cache_dir
        match found.freshness:
            case Freshness.ABSENT if not directory.is_dir():
                return f"{name} is not cached: there is no directory {directory}"
            case Freshness.ABSENT:
                return f"{name} is not in the cache {directory}"
            case Freshness.FRESH:
                return f"{name} is in the cache {directory}, {span(found.age)} old"
            case Freshness.STALE:
                return (
                    f"{name} in the cache {directory} is {span(found.age)} old, and "
                    f"--cache-ttl allows {span(self._options.cache_ttl)}"
                )
            case Freshness.DAMAGED:
                return f"{name} in the cache {directory} is damaged ({found.detail})"
            case Freshness.UNREADABLE:
                return (
                    f"{name} in the cache {directory} cannot be read "
                    f"({self._entry(found.digest)}: {found.detail})"
                )
            case _:
                assert_never(found.freshness)

    def explain(self, found: Lookup, name: str) -> str:
        """Say in a sentence why *name* does not come from the cache, and what to do."""
        again = f"kaniko-warmer --image {name} --cache-dir {self._options.cache_dir}"
        match found.freshness:
            case Freshness.ABSENT:
                advice = f"put it there with: {again}"
            case Freshness.FRESH | Freshness.STALE:
                advice = f"renew it with: {again}"
            case Freshness.DAMAGED:
                advice = f"repair it with: {again}"
            case Freshness.UNREADABLE:
                advice = f"let this user read it, or replace it with: {again} --force"
            case _:
                assert_never(found.freshness)
        return f"{self.describe(found, name)}; {advice}"

    def put(self, image: Image, names: Sequence[Reference] = ()) -> int:
        """Write *image*, in the place of what is there; return the entry's size in bytes.

        Layers stream from where they are into the entry, several at once. Others see nothing of
        it until it is complete and on the disk; who reads the old entry goes on reading it.

        Args:
            image: what; its digest is the key.
            names: RepoTags of the tarball.

        Raises:
            DiskError: the disk refused.
            DigestMismatch: a layer is not what its descriptor says.
        """
        entry = self._entry(image.digest)
        with disk_errors("write to the cache", self._options.cache_dir):
            make_directory(self._options.cache_dir)
            with replacing(entry) as tarball:
                write_image(image, tarball, names)
                # Leaving the outer block renames the tarball. Were the sidecar written after
                # it, a reader could find an image and no manifest.
                self._write_sidecar(image)
                if entry.is_dir():
                    discard_directory(entry)
            return entry.stat().st_size

    def repair(self, image: Image) -> bool:
        """Give a tarball that is whole the sidecar that it lacks; say whether that made it good.

        Args:
            image: from the registry, for its manifest; no layer is read.

        Raises:
            DiskError: the disk refused.
        """
        entry = self._entry(image.digest)
        try:
            read_image(entry, image.raw_manifest)
        except (OSError, KanikoError):
            return False
        with disk_errors("repair the cache", self._options.cache_dir):
            self._write_sidecar(image)
            os.utime(entry)
        return True

    def touch(self, digest: Digest) -> None:
        """Make the entry as old as if it were written now; raise DiskError where that fails."""
        with disk_errors("renew the cached image", self._entry(digest)):
            os.utime(self._entry(digest), (self._now(), self._now()))

    def used(self, digest: Digest) -> None:
        """Note that a build uses the entry, where that can be noted."""
        with suppress(OSError):
            os.utime(sidecar(self._entry(digest)))

    def remove(self, digest: Digest) -> None:
        """Remove the entry, if there is one; raise DiskError where that cannot be."""
        entry = self._entry(digest)
        with disk_errors("remove from the cache", entry):
            # The tarball first: a sidecar alone is no entry, a tarball alone a damaged one.
            if entry.is_dir():
                discard_directory(entry)
            else:
                entry.unlink(missing_ok=True)
            self._sidecar(digest).unlink(missing_ok=True)

    @contextmanager
    def lock(
        self,
        digest: Digest,
        *,
        waiting: Callable[[], None] = lambda: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Keep others, threads and processes, from downloading the same image meanwhile.

        Only to save work: where the lock cannot be had, because the file system has none, the
        directory is read-only or another holds it for too long, the block runs without.

        Args:
            digest: the image's.
            waiting: called once if another has the lock.
            cancelled: asked while waiting; True ends the wait.
        """
        from filelock import FileLock, Timeout

        directory = self._options.cache_dir / ".locks"
        with ExitStack() as stack:
            try:
                make_directory(directory)
                lock = FileLock(directory / f"{digest}.lock", mode=0o644, fallback_to_soft=False)
                try:
                    stack.enter_context(lock.acquire(timeout=0))
                except Timeout:
                    waiting()
                    stack.enter_context(
                        lock.acquire(_LOCK_SECONDS, _LOCK_POLL_SECONDS, cancel_check=cancelled)
                    )
            except (Timeout, OSError, NotImplementedError):
                pass
            yield

    def wait(
        self, digest: Digest, *, waiting: Callable[[], None], cancelled: Callable[[], bool]
    ) -> bool:
        """Wait while another process downloads the image; say whether one did.

        Args:
            digest: the image's.
            waiting: called once if there is such a process.
            cancelled: asked while waiting; True ends the wait.
        """
        try:
            # Only to read: builders have caches that they must not write to.
            fd = os.open(self._options.cache_dir / ".locks" / f"{digest}.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            return _wait_for_lock(fd, waiting, cancelled)
        finally:
            os.close(fd)

    def sweep(self) -> None:
        """Remove what killed processes left, never what a living one is writing."""
        for directory in (self._options.cache_dir, self._tags.directory):
            sweep(directory)

    def remember(
        self, reference: Reference, platform: Platform, listed: Digest, image: Digest
    ) -> None:
        """Note what *reference* means now.

        Args:
            reference: a tag, or the digest of an index.
            platform: which of an index's images was meant.
            listed: what the registry has under it, perhaps an index.
            image: the digest of the image's own manifest.

        Raises:
            DiskError: the note cannot be written.
        """
        now = datetime.fromtimestamp(self._now(), UTC)
        self._tags.remember(reference, platform, listed, image, now)

    def recall(self, reference: Reference, platform: Platform) -> Remembered | None:
        """Return what *reference* meant when it was last warmed for *platform*, or None."""
        return self._tags.recall(reference, platform)

    def _entry(self, digest: Digest) -> Path:
        return self._options.cache_dir / str(digest)

    def _sidecar(self, digest: Digest) -> Path:
        return self._options.cache_dir / f"{digest}.json"

    def _write_sidecar(self, image: Image) -> None:
        with replacing(self._sidecar(image.digest)) as sidecar:
            sidecar.write(image.raw_manifest)

    def _read(self, digest: Digest) -> Image:
        entry = self._entry(digest)
        if entry.is_dir():
            return LayoutStore(entry).read(digest)
        try:
            raw_manifest = self._sidecar(digest).read_bytes()
        except FileNotFoundError:
            raise ContentError(f"its manifest {self._sidecar(digest)} is missing") from None
        try:
            read_verified(raw_manifest, digest, "manifest")
        except DigestMismatch:
            raise ContentError(
                f"its manifest {self._sidecar(digest)} is not what its name says"
            ) from None
        return read_image(entry, raw_manifest)


def _is_another(path: Path, status: os.stat_result) -> bool:
    """Whether *path* was removed or replaced by somebody since it had this *status*."""
    try:
        now = path.stat()
    except OSError:
        return True
    return (now.st_ino, now.st_ctime_ns) != (status.st_ino, status.st_ctime_ns)


def _wait_for_lock(fd: int, waiting: Callable[[], None], cancelled: Callable[[], bool]) -> bool:
    """Wait until nobody locks the file *fd* for long; say whether somebody did."""
    busy = False
    deadline = time.monotonic() + _LOCK_SECONDS
    while not cancelled() and time.monotonic() < deadline:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if not busy:
                waiting()
            busy = True
            time.sleep(_LOCK_POLL_SECONDS)
        except OSError:
            break  # the file system has no locks
        else:
            break
    return busy


__all__ = ["Freshness", "ImageCache", "Lookup", "Remembered"]
