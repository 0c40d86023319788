"""Layers on disk, unpacked once, as overlays want them.

    <directory>/<whiteouts>/        trusted or user: overlays of one kind cannot read the other
    ├── <chain ID>.<boot>/
    │   ├── fs/                     what the layer adds, with the kernel's whiteouts
    │   └── sealed                  it is on the disk for certain
    ├── <chain ID>.tmp/             being unpacked, by who holds the lock
    └── locks/<chain ID>.lock

A layer is unpacked under a temporary name and renamed when it is complete and verified. After
a power cut the new name may have survived where the bytes have not, and to sync every file
would cost more than unpacking. So an entry carries the boot ID of the machine that wrote it,
and counts only under the same boot, as long as it has no seal. A later build seals what is a
while old, in the background: by then the kernel has written it, and to make sure is cheap.

The time of last use of an entry is the modification time of its directory. An entry may be
removed by whoever keeps the directory small, unless a build holds it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import BinaryIO, cast

from kaniko_core import linux
from kaniko_core.errors import ContentError, DiskError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Doubtful, Layer
from kaniko_core.oci.layer import open_tar
from kaniko_core.progress import Progress, silent
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.reporting import Counted, Reporter
from kaniko_core.rootfs.unpack import Unpacked, unpack

# Unpacking is mostly one processor's work; more at once let downloads overlap with it.
_AT_ONCE = 3
# Seconds after which the kernel has written most of what it was given (Linux expires dirty
# pages after 30), so that syncing finds little to do.
_SETTLED = 60.0
# Seconds after which an entry of another boot that was never sealed is taken for lost. It may
# belong to another machine that is using a shared directory.
_FORGOTTEN = 7 * 24 * 3600.0
_LOCK_WAIT = 0.5  # seconds between two looks at whether somebody wants us to stop
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# How many bytes files take for each that a layer has compressed, generously.
_COMPRESSION = 4


class LayerStore:
    """Unpacked layers in *directory*, shared with other processes; safe between threads.

    Args:
        directory: made where it is missing.
        whiteouts: how layers are unpacked; not APPLY.
        now: the time in seconds since the epoch.
        hold: keeps the entry at a path below *directory* from being removed, from now on.
        make_room: removes what nobody needs when the disk is full, so many bytes if there are;
            says whether trying again makes sense.

    Raises:
        DiskError: *directory* cannot be written to.
    """

    def __init__(
        self,
        directory: Path,
        whiteouts: Whiteouts,
        *,
        now: Callable[[], float] = time.time,
        hold: Callable[[str], None] = lambda _: None,
        make_room: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._now = now
        self._hold = hold
        self._make_room = make_room
        self._whiteouts = whiteouts
        self._directory = directory / whiteouts.value
        self._locks = self._directory / "locks"
        self._boot = _boot_id()
        with disk_errors("keep unpacked layers in", directory):
            self._locks.mkdir(parents=True, exist_ok=True)
            _require_writable(self._locks)
            self._sweep()

    @property
    def directory(self) -> Path:
        """Where the entries are; it exists."""
        return self._directory

    def directories(
        self, layers: Sequence[Layer], *, progress: Progress = silent, name: str = ""
    ) -> tuple[Path, ...]:
        """Return the unpacked directories of an image's *layers*, bottom first.

        What is missing is fetched and unpacked, several layers at once.

        Args:
            layers: all of an image's, or the lowest of them, bottom first.
            progress: told how many bytes have been unpacked.
            name: of the image, for *progress*.

        Raises:
            ContentError: a layer is damaged, or not what its digest promises.
            DiskError: the directory cannot be written to.
            RegistryError: a layer cannot be fetched.
        """
        chains = chain_ids([layer.diff_id for layer in layers])
        with disk_errors("unpack layers in", self._directory):
            names = os.listdir(self._directory)
        found = [self._find(chain, names) for chain in chains]
        if None in found:
            found = self._unpack_with_room(layers, chains, Reporter(progress, name))
        entries = [entry for entry in found if entry is not None]
        self._used(entries)
        return tuple(entry / "fs" for entry in entries)

    def _find(self, chain: Digest, names: Sequence[str] | None = None) -> Path | None:
        """Return the entry of *chain*; *names* are those in the directory, if they are known."""
        for entry in self._candidates(chain, names):
            if entry.is_dir():
                self._held(entry)
                # Only an entry that is held cannot vanish any more.
                if entry.is_dir():
                    return entry
        return None

    def _candidates(self, chain: Digest, names: Sequence[str] | None) -> Iterator[Path]:
        yield self._directory / f"{chain.hex}.{self._boot}"
        # A plain listing: patterns would cost an image of many layers more than all else here.
        for name in sorted(os.listdir(self._directory) if names is None else names):
            if name.startswith(f"{chain.hex}.") and (self._directory / name / "sealed").exists():
                yield self._directory / name

    def _held(self, entry: Path) -> Path:
        self._hold(f"{self._whiteouts.value}/{entry.name}")
        return entry

    def _unpack_with_room(
        self, layers: Sequence[Layer], chains: Sequence[Digest], reporter: Reporter
    ) -> list[Path | None]:
        try:
            return self._unpack_missing(layers, chains, reporter)
        except DiskError as error:
            if not _is_full(error):
                raise
            missing = (
                layer.descriptor.size
                for layer, chain in zip(layers, chains, strict=True)
                if self._find(chain) is None
            )
            if not self._make_room(_COMPRESSION * sum(missing)):
                raise
        return self._unpack_missing(layers, chains, reporter)

    def _unpack_missing(
        self, layers: Sequence[Layer], chains: Sequence[Digest], reporter: Reporter
    ) -> list[Path | None]:
        stop = threading.Event()
        futures: list[Future[Path]] = []
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="unpack")
        try:
            for layer, chain in zip(layers, chains, strict=True):
                # The pool starts in this order, and a layer only ever waits for lower ones,
                # so the lowest that is not ready can always go on.
                lower = tuple(reversed(futures))
                step = _Step(layer, chain, lower, stop)
                futures.append(pool.submit(self._ready, step, reporter))
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future in done and (error := future.exception()) is not None:
                    raise error
            return [future.result() for future in futures]
        finally:
            # After an error the others stop at their next read instead of running to the end.
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _ready(self, step: _Step, reporter: Reporter) -> Path:
        """Return the entry of a layer, unpacked by whoever is first."""
        with disk_errors("unpack layers in", self._directory), self._locked(step):
            found = self._find(step.chain)
            if found is not None:
                return found
            temporary = self._directory / f"{step.chain.hex}.tmp"
            # Whoever held the lock before and left this did not live to finish it.
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                (temporary / "fs").mkdir(parents=True)
                self._unpack(step, temporary / "fs", reporter)
                entry = self._held(self._directory / f"{step.chain.hex}.{self._boot}")
                temporary.rename(entry)
                # Again: where no list can be written, only what is there can be held.
                return self._held(entry)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def _unpack(self, step: _Step, directory: Path, reporter: Reporter) -> None:
        layer = step.layer
        try:
            made = self._unpack_from(
                layer.unchecked() if isinstance(layer, Doubtful) else layer,
                step,
                directory,
                reporter,
            )
        except (ContentError, DiskError):
            mended = layer.mended() if isinstance(layer, Doubtful) else None
            if mended is None:
                raise
            # Of the damaged one nothing is kept.
            shutil.rmtree(directory)
            directory.mkdir()
            made = self._unpack_from(mended, step, directory, reporter)
        reporter.warn_of_losses(step.layer, made)

    def _unpack_from(
        self, layer: Layer, step: _Step, directory: Path, reporter: Reporter
    ) -> Unpacked:
        with open_tar(layer) as tar:
            counted = Counted(tar, step.check, reporter.transfer(step.layer))
            stream = cast("BinaryIO", counted)
            made = unpack(stream, directory, whiteouts=self._whiteouts, below=step.below)
            counted.finish()
        return made

    @contextmanager
    def _locked(self, step: _Step) -> Iterator[None]:
        from filelock import FileLock, Timeout

        # A soft lock would outlive a process that is killed.
        lock = FileLock(self._locks / f"{step.chain.hex}.lock", fallback_to_soft=False)
        while True:
            try:
                lock.acquire(timeout=_LOCK_WAIT)
                break
            except Timeout:
                step.check()
        try:
            yield
        finally:
            lock.release()

    def _used(self, entries: Sequence[Path]) -> None:
        unsealed = []
        for entry in entries:
            with suppress(OSError):
                os.utime(entry)
                age = self._now() - (entry / "fs").stat().st_ctime
                if age > _SETTLED and not (entry / "sealed").exists():
                    unsealed.append(entry)
        if unsealed:
            # A daemon: a build that is over does not wait for the disk. What it leaves
            # without a seal the next build may seal.
            threading.Thread(target=_seal, args=(unsealed,), name="seal", daemon=True).start()

    def _sweep(self) -> None:
        from filelock import FileLock, Timeout

        for leftover in self._directory.glob("*.tmp"):
            lock = FileLock(
                self._locks / f"{leftover.stem}.lock", timeout=0, fallback_to_soft=False
            )
            with suppress(Timeout, OSError), lock:
                shutil.rmtree(leftover, ignore_errors=True)
        for entry in self._directory.glob("*.*"):
            if entry.suffix in (".tmp", f".{self._boot}") or (entry / "sealed").exists():
                continue
            with suppress(OSError):
                if self._now() - entry.stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(entry, ignore_errors=True)


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Return what names each layer together with those below it.

    Source: OCI image-spec v1.1, config.md, "Layer ChainID".
    """
    chains: list[Digest] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else ""
        chains.append(Digest.of(text.encode()) if text else diff_id)
    return chains


def _seal(entries: Sequence[Path]) -> None:
    with suppress(OSError):
        fd = os.open(entries[0], os.O_RDONLY | os.O_DIRECTORY)
        try:
            linux.syncfs(fd)
        finally:
            os.close(fd)
        for entry in entries:
            (entry / "sealed").touch()


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip().replace("-", "")[:12]
    except OSError:
        # Nobody knows then how old an entry is: each process has its own.
        return os.urandom(6).hex()


def _is_full(error: DiskError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (ENOSPC, EDQUOT)


def _require_writable(directory: Path) -> None:
    with (directory / f".probe-{os.urandom(4).hex()}").open("xb") as file:
        Path(file.name).unlink()


@dataclass(frozen=True, slots=True)
class _Step:
    """A layer to unpack; *lower* are the entries below it, topmost first, as they get ready."""

    layer: Layer
    chain: Digest
    lower: tuple[Future[Path], ...]
    stop: threading.Event

    def check(self) -> None:
        """Raise when another layer has failed."""
        if self.stop.is_set():
            raise _Stopped

    def below(self) -> Sequence[Path]:
        """Wait for the layers below, and return their directories, topmost first."""
        return [future.result() / "fs" for future in self.lower]


class _Stopped(Exception):  # noqa: N818 - names what happened
    """Another layer failed; its error is the one to show."""
