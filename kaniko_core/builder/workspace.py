"""The build's own directory, and what lives as long as the build: sandbox, store, packers.

    <kaniko-dir>/kaniko-build-XXXXXXXX/
    ├── steps/7/{upper,work}     what RUN number 7 of this build changed
    ├── blobs/…                  compressed layers on their way to the registry
    └── layers/8/…               unpacked base layers, where no cache directory can hold them
    <kaniko-dir>/kaniko-build-XXXXXXXX.lock    held while the build lives

A build that was killed leaves its directory; the next one sweeps it away, knowing it by its
lock that nobody holds.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from kaniko_core.builder.unpacked import UnpackedLayers
from kaniko_core.cache.contents import Kind
from kaniko_core.cache.removal import make_room
from kaniko_core.cache.uses import Uses
from kaniko_core.errors import DiskError, KanikoError, disk_errors
from kaniko_core.home import home
from kaniko_core.progress import Progress
from kaniko_core.rootfs.beneath import Whiteouts
from kaniko_core.rootfs.moving import remove
from kaniko_core.rootfs.store import LayerStore
from kaniko_core.sandbox.client import Sandbox, open_sandbox

T = TypeVar("T")

_PREFIX = "kaniko-build-"
_LAYERS = ".layers"  # below the cache directory
# Where builds go unless --kaniko-dir says otherwise, or we are carried: not /tmp, which is often
# a small tmpfs in memory, while a build's files can be many gigabytes.
DEFAULT_DIRECTORY = Path("/var/tmp")
# Packing is hashing and compressing, which release the interpreter's lock.
_PACKERS = 2
# What only the making of images needs.
_UNPACKED = ("steps", "layers")


class Workspace:
    """The open workspace of one build; safe to use from several threads."""

    def __init__(
        self,
        directory: Path,
        packers: ThreadPoolExecutor,
        cache_dir: Path | None,
        progress: Progress,
        stack: ExitStack,
    ) -> None:
        self.directory = directory
        self.packers = packers
        self.progress = progress
        self._cache_dir = cache_dir
        # The first to be entered, so that the last who needs anything of it is gone before.
        self._uses = stack.enter_context(Uses(cache_dir))
        self._background = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="sandbox"))
        self._stack = stack
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._cancelled = threading.Event()
        self._sandbox: Future[Sandbox] | None = None
        self._layers: UnpackedLayers | None = None

    def fresh(self, kind: str) -> Path:
        """Return a path below *kind* that nobody else is given; its parent exists."""
        parent = self.directory / kind
        parent.mkdir(exist_ok=True)
        return parent / str(next(self._numbers))

    def keep(self, resource: AbstractContextManager[T]) -> T:
        """Enter *resource*, and leave it when the build ends."""
        with self._lock:
            return self._stack.enter_context(resource)

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox, started by the first who asks.

        Raises:
            SandboxError: the kernel does not let us; the hint says which right is missing.
        """
        return self.begin_sandbox().result()

    def begin_sandbox(self) -> Future[Sandbox]:
        """Start the sandbox, if nobody has: whoever knows that it will be needed, need not wait."""
        with self._lock:
            if self._sandbox is None:
                self._sandbox = self._background.submit(open_sandbox, self.directory)
                self.keep(_closing(self._sandbox))
            return self._sandbox

    def rest(self) -> None:
        """End the sandbox and remove all unpacked files, in the background.

        For when the layers of all images are packed: while they are pushed, there is time for
        it. Whoever asks for the sandbox or the store after that, gets new ones.
        """
        with self._lock:
            sandbox, self._sandbox, self._layers = self._sandbox, None, None
        # Only what is there now: should the build start over, it makes others beside it.
        left = [path for kind in _UNPACKED for path in (self.directory / kind).glob("*")]
        # Beside each other: what is mounted still is gone, too, when the sandbox has ended.
        if sandbox is not None:
            self._background.submit(_close, sandbox)
        self._background.submit(_discard_all, left)

    @property
    def whiteouts(self) -> Whiteouts:
        """How layers are unpacked for the sandbox's overlays."""
        return Whiteouts(self.sandbox.whiteouts)

    @property
    def store(self) -> UnpackedLayers:
        """The store of unpacked layers: in the cache directory if that is possible."""
        with self._lock:
            if self._layers is None:
                shared = self._shared_store if self._cache_dir else None
                self._layers = UnpackedLayers(shared, self._own_store, self.progress)
            return self._layers

    def hold(self, name: str) -> None:
        """Keep what is at the path *name* below the cache directory, from now on; never raises."""
        self._uses.hold(name)

    def make_room(self, size: int) -> bool:
        """Remove cached layers that no build uses, some *size* bytes; say whether there were any.

        For when the disk of the cache directory is full.
        """
        return self._make_room(size, (Kind.UNPACKED, Kind.BUILT))

    @property
    def cancelled(self) -> bool:
        """Whether the build was given up."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Ask whether to go on; for whatever may take seconds.

        Raises:
            KanikoError: the build was given up; why, somebody else tells.
        """
        if self._cancelled.is_set():
            raise KanikoError("the build was given up")

    def cancel(self) -> None:
        """End every command that runs, now."""
        self._cancelled.set()
        with self._lock:
            sandbox = self._sandbox
        if sandbox is not None:
            _close(sandbox)

    def _own_store(self) -> LayerStore:
        return LayerStore(self.fresh("layers"), self.whiteouts)

    def _shared_store(self) -> LayerStore:
        assert self._cache_dir is not None
        return open_store(
            self._cache_dir,
            self.sandbox,
            hold=self.hold,
            make_room=lambda size: self._make_room(size, (Kind.UNPACKED,)),
        )

    def _make_room(self, size: int, kinds: tuple[Kind, ...]) -> bool:
        if self._cache_dir is None:
            return False
        return make_room(self._cache_dir, size, kinds, self.progress)


@contextmanager
def _closing(sandbox: Future[Sandbox]) -> Iterator[None]:
    try:
        yield
    finally:
        _close(sandbox)


def _close(sandbox: Future[Sandbox]) -> None:
    """End *sandbox* when it has started; why it could not be is told to those who need it."""
    if sandbox.exception() is None:
        sandbox.result().close()


def _discard_all(left: Sequence[Path]) -> None:
    for path in left:
        discard(path)


def open_store(
    cache_dir: Path,
    sandbox: Sandbox,
    *,
    hold: Callable[[str], None] = lambda _: None,
    make_room: Callable[[int], bool] = lambda _: False,
) -> LayerStore:
    """Return the store of unpacked layers that all builds with this cache directory share.

    Args:
        cache_dir: the cache directory.
        sandbox: whose overlays are to be made of them.
        hold: keeps what is at a path below *cache_dir* from being pruned.
        make_room: removes what nobody needs, so many bytes; says whether there was any.

    Raises:
        DiskError: it cannot be written to, or its file system cannot be an overlay's lower.
    """
    store = LayerStore(
        cache_dir / _LAYERS,
        Whiteouts(sandbox.whiteouts),
        hold=lambda name: hold(f"{_LAYERS}/{name}"),
        make_room=make_room,
    )
    sandbox.check_lower(store.directory)
    return store


@contextmanager
def open_workspace(
    kaniko_dir: Path | None, cache_dir: Path | None, progress: Progress
) -> Iterator[Workspace]:
    """Make the build's directory, and remove it with everything in it at the end.

    Raises:
        DiskError: there is no place for it.
    """
    from filelock import FileLock

    base = (kaniko_dir or home() or DEFAULT_DIRECTORY).absolute()
    directory = base / f"{_PREFIX}{secrets.token_hex(4)}"
    # The lock comes first: a directory without one is taken for a leftover.
    lock = FileLock(f"{directory}.lock", fallback_to_soft=False)
    with ExitStack() as stack:
        with _kept_in(base):
            base.mkdir(parents=True, exist_ok=True)
            _sweep(base)
            lock.acquire()
            stack.callback(lock.release)
            stack.callback(_remove, directory)
            directory.mkdir(mode=0o700)
        packers = ThreadPoolExecutor(_PACKERS, thread_name_prefix="pack")
        inner = stack.enter_context(ExitStack())
        stack.callback(packers.shutdown, wait=True, cancel_futures=True)
        yield Workspace(directory, packers, cache_dir, progress, inner)


@contextmanager
def _kept_in(base: Path) -> Iterator[None]:
    try:
        with disk_errors("keep the build's files in", base):
            yield
    except DiskError as error:
        if home() is not None and os.geteuid() != 0:
            error.hint = "run the container as root: in Kubernetes, runAsUser: 0"
        elif error.hint is not None:
            error.hint += ", with --kaniko-dir"
        raise


def discard(directory: Path) -> None:
    """Remove a directory of the build, whatever a command has made in it, as far as it can be."""
    with suppress(DiskError):
        remove(directory)


def _remove(directory: Path) -> None:
    # By its lock the next build knows what could not be removed.
    with suppress(OSError, DiskError):
        remove(directory)
        Path(f"{directory}.lock").unlink()


def _sweep(base: Path) -> None:
    from filelock import FileLock, Timeout

    for lock_file in base.glob(f"{_PREFIX}*.lock"):
        lock = FileLock(lock_file, fallback_to_soft=False, timeout=0)
        with suppress(Timeout, OSError), lock:
            _remove(lock_file.with_suffix(""))
