"""Where the image goes: registries, a tarball, a layout, a digest file.

Everything that can refuse is asked before the build. Layers go out as soon as they are
made, while later instructions run; the manifests follow when the image is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EACCES, EBUSY, EPERM, EROFS
from pathlib import Path

from kaniko_core.errors import DiskError, KanikoError, disk_errors
from kaniko_core.oci.archive import EMPTY_DIFF_ID
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.tarball import write_tarball
from kaniko_core.options import OutputOptions
from kaniko_core.progress import Noted, Progress
from kaniko_core.registry.client import Registry

# Blobs on their way at once, to all destinations together.
_UPLOADS = 4
# What renaming onto a file says that is mounted, or whose directory is not ours to change.
_NOT_TO_BE_REPLACED = frozenset({EACCES, EBUSY, EPERM, EROFS})


@dataclass(frozen=True, slots=True)
class Product:
    """What a target became: an image, or an index of the images for several platforms.

    Attributes:
        stage: the target as the user named it; empty for the last stage.
    """

    stage: str
    content: Image | ImageIndex


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made, and where it is now."""

    digest: Digest
    image: Image
    references: tuple[Reference, ...]


class Delivery:
    """The way out for one image, opened before the build by :func:`open_delivery`."""

    def __init__(
        self,
        options: OutputOptions,
        registry: Registry,
        uploads: ThreadPoolExecutor,
        progress: Progress,
    ) -> None:
        self._options = options
        self._registry = registry
        self._uploads = uploads
        self._progress = progress
        self._destinations = (
            ()
            if options.no_push
            else tuple(reference.with_default_tag for reference in options.destination)
        )
        self._offered: dict[Digest, Future[None]] = {}
        self._mount_from: tuple[Repository, ...] = ()

    def check(self) -> None:
        """Find out now what would fail after the build.

        Raises:
            RegistryError: a destination cannot be pushed to.
            DiskError: a file or directory cannot be written.
        """
        if (tarball := self._options.tar_path) is not None:
            _check_directory(tarball.resolve().parent, tarball)
            _check_replaceable(tarball)
        digest_file = self._options.digest_file
        # A writable file will do, as /dev/termination-log is: its directory need not be.
        if digest_file is not None and (
            digest_file.is_dir() or not os.access(digest_file, os.W_OK)
        ):
            _check_directory(digest_file.absolute().parent, digest_file)
        if (layout := self._options.oci_layout_path) is not None:
            _check_directory(layout, layout)
        checks = [self._uploads.submit(self._registry.check_push, r) for r in self._destinations]
        for check in checks:
            check.result()

    def readers_of(self, repository: Repository) -> int:
        """Return how often a layer that is in *repository* will be read to be delivered."""
        files = (self._options.tar_path, self._options.oci_layout_path)
        others = [r for r in self._destinations if r.repository.registry != repository.registry]
        return len(others) + sum(file is not None for file in files)

    def starts_from(self, repository: Repository) -> None:
        """Note that the base came from *repository*, whose blobs may be mounted from there."""
        self._mount_from = (repository,)

    def offer(self, layer: Layer) -> None:
        """Begin to upload *layer*, which will be part of the image unless it changes nothing."""
        if layer.diff_id == EMPTY_DIFF_ID:
            return
        for reference in self._destinations[:1]:
            self._offered[layer.descriptor.digest] = self._uploads.submit(
                self._registry.upload,
                reference.repository,
                layer,
                mount_from=self._mount_from,
            )

    def homes(self, layer: Layer) -> tuple[Repository, ...]:
        """Return the repositories that have *layer* by now; waits for an upload that has begun."""
        upload = self._offered.get(layer.descriptor.digest)
        if upload is None:
            return ()
        try:
            upload.result()
        except (KanikoError, CancelledError):
            return ()
        return (self._destinations[0].repository,)

    def forget(self) -> None:
        """Let go of all layers that were offered: the build starts over."""
        # What is still being packed is offered in the midst of this, and may be.
        uploads = list(self._offered.values())
        self._offered.clear()
        for upload in uploads:
            upload.cancel()
        wait(uploads)

    def deliver(self, image: Image) -> BuildResult:
        """Put *image* everywhere it was asked for."""
        # A copy: of a build that started over, a layer may still be packed and offered.
        for upload in list(self._offered.values()):
            with _pushing(self._destinations[0]):
                upload.result()
        if (tarball := self._options.tar_path) is not None:
            names = tuple(r.with_default_tag for r in self._options.destination)
            # The file that a link leads to is replaced, never the link.
            write_tarball(image, tarball.resolve(), names)
            self._progress(Noted(f"wrote {tarball}"))
        if (layout := self._options.oci_layout_path) is not None:
            self._write_layout(layout, image)
        known = self._mount_from
        for reference in self._destinations:
            with _pushing(reference):
                self._registry.put(reference, image, mount_from=known)
            known = (*known, reference.repository)
            self._progress(Noted(f"pushed {reference}@{image.digest}"))
        if (digest_file := self._options.digest_file) is not None:
            with disk_errors("write the digest to", digest_file):
                _write_digest(digest_file, str(image.digest))
        return BuildResult(image.digest, image, self._destinations)

    def _write_layout(self, path: Path, image: Image) -> None:
        store = LayoutStore(path)
        for reference in self._options.destination or (None,):
            store.put(reference, image)
        self._progress(Noted(f"wrote {path}"))


@contextmanager
def _pushing(reference: Reference) -> Iterator[None]:
    try:
        yield
    except KanikoError as error:
        error.add_note(f"while pushing {reference}")
        raise


@contextmanager
def open_delivery(
    options: OutputOptions, registry: Registry, progress: Progress
) -> Iterator[Delivery]:
    """Check every destination, and yield the way out; uploads end with the block."""
    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="push") as uploads:
        try:
            delivery = Delivery(options, registry, uploads, progress)
            delivery.check()
            yield delivery
        except BaseException:
            registry.cancel()
            uploads.shutdown(wait=False, cancel_futures=True)
            raise


def _check_directory(directory: Path, what: Path) -> None:
    with disk_errors(f"write {what} into", directory):
        directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DiskError(
            f"cannot write {what}: {directory} is not writable",
            hint="change its permissions, or name another place",
        )
    if what.is_dir() and what != directory:
        raise DiskError(f"cannot write {what}: it is a directory", hint="name a file")


def _check_replaceable(path: Path) -> None:
    # A file that appears whole takes the place of what was there: never of /dev/null.
    if path.exists() and not path.is_file():
        raise DiskError(f"cannot write {path}: it is no regular file", hint="name a file")


def _write_digest(path: Path, text: str) -> None:
    """Write *text* to *path*, which appears whole where it is a file of its own.

    What cannot be replaced is written to: a device or pipe, a link such as /dev/stdout, and
    a file that is mounted there, as /dev/termination-log is in a pod.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        _write_through(path, text)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        if error.errno not in _NOT_TO_BE_REPLACED:
            raise
        path.write_text(text)


def _write_through(path: Path, text: str) -> None:
    if path.exists():
        status = path.stat()
        for stream in (1, 2):
            # Opened anew, the file that our output goes to would be emptied.
            with suppress(OSError):
                if os.path.samestat(os.fstat(stream), status):
                    os.write(stream, text.encode())
                    return
    path.write_text(text)
