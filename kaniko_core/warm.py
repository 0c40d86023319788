"""Fill the cache of base images ahead of the builds that need them.

For each image: ask the registry what the name means now (one HEAD), look that digest up in the
cache, and fetch only what is not there. A digest that is there needs no question at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from kaniko_core.addresses.archives import WebFile
from kaniko_core.addresses.url import is_http_address, parse_url
from kaniko_core.cache.images import Freshness, ImageCache, Lookup
from kaniko_core.cache.tables import aligned, amount
from kaniko_core.cache.uses import Uses
from kaniko_core.errors import ContentError, DiskError, KanikoError, NotFound, UsageError, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Descriptor, Index, MediaType
from kaniko_core.options import CacheOptions, RegistryOptions, WarmOptions
from kaniko_core.progress import Noted, Progress, Warned, silent
from kaniko_core.registry.failures import no_image

if TYPE_CHECKING:
    from kaniko_core.context import DockerfileSource

_LOG = logging.getLogger(__name__)

_IMAGES_AT_ONCE = 4


class Outcome(Enum):
    """What warming did for an image; the values are for people."""

    CACHED = "already cached"
    RENEWED = "renewed"
    DOWNLOADED = "downloaded"
    REPLACED = "replaced"
    REPAIRED = "repaired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image to warm: a name, and which of an index's images."""

    reference: Reference
    platform: Platform


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of a wanted image.

    Attributes:
        digest: of the image's manifest; None where it could not be learned.
        size: bytes of the entry in the cache.
        seconds: how long it took.
        error: why, when FAILED.
    """

    wanted: Wanted
    outcome: Outcome
    digest: Digest | None = None
    size: int = 0
    seconds: float = 0.0
    error: KanikoError | None = None


def wanted_images(
    options: WarmOptions,
    registry: RegistryOptions | None = None,
    *,
    progress: Progress = silent,
) -> tuple[Wanted, ...]:
    """Return the images of ``--image``, then those of ``--dockerfile``, each once.

    Args:
        options: which images.
        registry: whose certificates are believed, where the Dockerfile is behind a URL.
        progress: told of what is fetched.

    Raises:
        ContextError: the Dockerfile cannot be fetched.
        DockerfileError: the Dockerfile is none, or a name in it is none.
        UsageError: the Dockerfile cannot be read.
    """
    platform = options.custom_platform or Platform.host()
    wanted = [Wanted(reference.with_default_tag, platform) for reference in options.image]
    if options.dockerfile is not None:
        build_args = {name: value for name, value in options.build_arg if value is not None}
        if is_http_address(options.dockerfile):
            source = _fetched(options.dockerfile, registry, progress)
            wanted += _named_in(source.path, source.data, build_args, platform)
        else:
            wanted += images_of(Path(options.dockerfile), build_args, platform)
    return tuple(dict.fromkeys(wanted))


def images_of(
    dockerfile: Path, build_args: Mapping[str, str], platform: Platform
) -> tuple[Wanted, ...]:
    """Return every image that *dockerfile* names in FROM and COPY ``--from``, in its order.

    That is: those of all its stages, whatever the target of a build may be; not ``scratch``,
    and not earlier stages.

    Args:
        dockerfile: the file.
        build_args: values of ARGs, which win over the defaults in the file.
        platform: which images, where FROM does not say.

    Raises:
        DockerfileError: it is no Dockerfile, or a name in it is none.
        UsageError: the file cannot be read.
    """
    try:
        data = dockerfile.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the Dockerfile {dockerfile}: {reason_of(error)}",
            hint="name a file with --dockerfile",
        ) from error
    return _named_in(str(dockerfile), data, build_args, platform)


def _fetched(
    address: str, registry: RegistryOptions | None, progress: Progress
) -> DockerfileSource:
    from kaniko_core.builder.remote import RemoteSources
    from kaniko_core.context import read_dockerfile

    with (
        TemporaryDirectory(prefix="kaniko-warmer-") as directory,
        RemoteSources(
            lambda kind: Path(directory, kind), options=registry, progress=progress
        ) as remote,
    ):
        # What an address has besides its path may be a password.
        return read_dockerfile(remote.file(WebFile(address)).path, parse_url(address).name)


def _named_in(
    name: str, data: bytes, build_args: Mapping[str, str], platform: Platform
) -> tuple[Wanted, ...]:
    """Return the images of the Dockerfile that is called *name*."""
    from kaniko_core.builder.plan import ImageBase
    from kaniko_core.builder.planner import make_plan
    from kaniko_core.dockerfile.parser import parse_dockerfile

    parsed = parse_dockerfile(data, name)
    plans = (
        make_plan(
            parsed, targets=(str(stage.number),), build_args=build_args, target_platform=platform
        )
        for stage in parsed.stages
    )
    named = (image for plan in plans for image in sorted(plan.images, key=lambda i: i.name))
    # Without named contexts, all of them are images of registries.
    pulled = (image for image in named if isinstance(image, ImageBase))
    return tuple(dict.fromkeys(Wanted(image.reference, image.platform) for image in pulled))


class Source(Protocol):
    """What warming asks of a registry."""

    def head(self, reference: Reference) -> Descriptor | None:
        """Return what the registry lists under *reference*, or None."""

    def manifest(self, reference: Reference) -> tuple[Descriptor, bytes] | None:
        """Return the manifest or index itself, or None."""

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        """Return the image, its layers not yet fetched, or None."""

    def cancel(self) -> None:
        """End the downloads of other threads: at their next piece, with an error."""


def warm(
    wanted: Iterable[Wanted],
    *,
    cache: CacheOptions,
    pull: Source,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Warmed, ...]:
    """Put each image into the cache, several at once; one that fails does not stop the others.

    Args:
        wanted: which images; one that is named twice is warmed once.
        cache: where to, and when an entry is to be renewed.
        pull: the registries.
        force: fetch what is there already, too, and replace it.
        progress: is told what happens; of bytes that move, *pull* tells.

    Returns:
        What became of each, in the order given.
    """
    images = ImageCache(cache)
    images.sweep()
    unique = tuple(dict.fromkeys(wanted))
    warmer = _Warmer(images, pull, force, progress, threading.Event())
    with ThreadPoolExecutor(_IMAGES_AT_ONCE, thread_name_prefix="warm") as pool:
        try:
            return tuple(pool.map(warmer.warm, unique))
        except BaseException:
            # Ctrl-C: waiting ends now, downloads at their next piece, and they clean up.
            warmer.stop.set()
            pull.cancel()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class _Warmer:
    cache: ImageCache
    pull: Source
    force: bool
    progress: Progress
    stop: threading.Event

    def warm(self, wanted: Wanted) -> Warmed:
        """Warm one image; a failure is in the result."""
        started = time.monotonic()
        try:
            outcome, found = self._expected(wanted)
        except KanikoError as error:
            if not self.stop.is_set():
                name = wanted.reference.familiar
                self.progress(Warned(f"{name} was not warmed: {error}", hint=error.hint))
            return Warmed(wanted, Outcome.FAILED, seconds=time.monotonic() - started, error=error)
        seconds = time.monotonic() - started
        self.progress(Noted(f"{wanted.reference.familiar}: {outcome.value} ({found.digest})"))
        return Warmed(wanted, outcome, found.digest, found.size, seconds)

    def _expected(self, wanted: Wanted) -> tuple[Outcome, Lookup]:
        try:
            return self._warm(wanted)
        except KanikoError:
            raise
        except Exception as error:
            # A bug, and still no reason to leave the other images without their turn.
            _LOG.debug("warming %s failed unexpectedly", wanted.reference, exc_info=True)
            raise KanikoError(
                f"unexpected {type(error).__name__}: {error}",
                hint="this is a bug; run again with --verbosity=debug and report it",
            ) from error

    def _warm(self, wanted: Wanted) -> tuple[Outcome, Lookup]:
        if not self.force and (known := self._known(wanted)) is not None:
            return known
        listed, digest = self._resolve(wanted)
        outcome, found = self._bring(wanted, digest)
        if wanted.reference.digest != digest:
            self._remember(wanted, listed, digest)
        return outcome, found

    def _known(self, wanted: Wanted) -> tuple[Outcome, Lookup] | None:
        """Keep the entry of a digest, which no registry can change the meaning of."""
        digest = wanted.reference.digest
        if digest is None:
            return None
        # The digest may be an index's; then it was noted which of its images was meant.
        remembered = self.cache.recall(wanted.reference, wanted.platform)
        return self._keep(self.cache.look_up(remembered.image if remembered else digest))

    def _resolve(self, wanted: Wanted) -> tuple[Digest, Digest]:
        """Return what the registry lists under the name, and the image's own digest."""
        reference = wanted.reference
        listed = self.pull.head(reference)
        if listed is None:
            raise no_image(wanted.reference)
        if listed.media_type not in MediaType.INDEXES:
            return listed.digest, listed.digest
        remembered = self.cache.recall(reference, wanted.platform)
        if remembered is not None and remembered.listed == listed.digest:
            return listed.digest, remembered.image
        answer = self.pull.manifest(reference.at(listed.digest))
        if answer is None:
            raise no_image(wanted.reference)
        chosen = Index.parse(answer[1]).select(wanted.platform)
        if chosen is None:
            raise NotFound(
                f"{reference.familiar} has no image for {wanted.platform}",
                hint="name another platform with --custom-platform",
            )
        return listed.digest, chosen.digest

    def _bring(self, wanted: Wanted, digest: Digest) -> tuple[Outcome, Lookup]:
        """Make the entry of *digest* fresh."""
        found = self.cache.look_up(digest)
        if not self.force and (kept := self._keep(found)) is not None:
            return kept
        name = wanted.reference.familiar
        if found.freshness in (Freshness.DAMAGED, Freshness.UNREADABLE) and not self.force:
            self.progress(Warned(f"{self.cache.describe(found, name)}; repairing it"))

        def waiting() -> None:
            self.progress(Noted(f"another warmer is busy with {name}; waiting for it"))

        with self.cache.lock(digest, waiting=waiting, cancelled=self.stop.is_set):
            # Another warmer may have brought it while we waited for the lock.
            found = self.cache.look_up(digest)
            if not self.force and (kept := self._keep(found)) is not None:
                return kept
            return self._fetch(wanted, found), self.cache.look_up(digest)

    def _keep(self, found: Lookup) -> tuple[Outcome, Lookup] | None:
        match found.freshness:
            case Freshness.FRESH:
                return Outcome.CACHED, found
            case Freshness.STALE:
                # The same digest is the same content: only its time has to be new.
                self.cache.touch(found.digest)
                return Outcome.RENEWED, found
            case _:
                return None

    def _fetch(self, wanted: Wanted, found: Lookup) -> Outcome:
        # The digest decides what comes; the tag stays for those who read of the progress.
        reference = replace(wanted.reference, digest=found.digest)
        image = self.pull.get(reference, wanted.platform)
        if image is None:
            raise no_image(wanted.reference)
        if image.digest != found.digest:
            raise ContentError(f"the registry sent {image.digest} instead of {found.digest}")
        bad = found.freshness in (Freshness.DAMAGED, Freshness.UNREADABLE)
        if bad and not self.force and self.cache.repair(image):
            return Outcome.REPAIRED
        self.cache.put(image, (wanted.reference,))
        if bad:
            return Outcome.REPAIRED
        return Outcome.DOWNLOADED if found.freshness is Freshness.ABSENT else Outcome.REPLACED

    def _remember(self, wanted: Wanted, listed: Digest, image: Digest) -> None:
        try:
            self.cache.remember(wanted.reference, wanted.platform, listed, image)
        except DiskError as error:
            known = self.cache.recall(wanted.reference, wanted.platform)
            # In a read-only cache an old note that is still true serves as well.
            if known is None or (known.listed, known.image) != (listed, image):
                self.progress(Warned(f"builds without network will not know it: {error}"))


def unpack(warmed: Sequence[Warmed], *, cache: CacheOptions, progress: Progress = silent) -> None:
    """Unpack what was warmed, to where builds in a sandbox look for it; skip what is there.

    Raises:
        SandboxError: builds in a sandbox are not possible here, so there is nothing to prepare.
        DiskError: the cache directory has no room, or cannot hold unpacked layers.
        ContentError: an image in the cache is damaged.
    """
    from kaniko_core.builder.workspace import DEFAULT_DIRECTORY, open_store
    from kaniko_core.sandbox.client import open_sandbox

    images = ImageCache(cache)
    with Uses(cache.cache_dir) as uses, open_sandbox(DEFAULT_DIRECTORY) as sandbox:
        store = open_store(cache.cache_dir, sandbox, hold=uses.hold)
        for item in warmed:
            uses.hold(str(item.digest))
            image = None if item.digest is None else images.get(item.digest)
            if image is not None:
                name = item.wanted.reference.familiar
                store.directories(image.layers, progress=progress, name=name)


def table(warmed: Sequence[Warmed]) -> str:
    """Return one aligned line for each image: what, which, how big, how long, and the result."""
    rows = [("IMAGE", "DIGEST", "SIZE", "TIME", "RESULT")]
    for item in warmed:
        failed = item.outcome is Outcome.FAILED
        rows.append(
            (
                item.wanted.reference.familiar,
                "-" if item.digest is None else f"sha256:{item.digest.short}",
                "-" if failed else amount(item.size),
                f"{item.seconds:.1f}s",
                f"{item.outcome.value}: {item.error}" if item.error else item.outcome.value,
            )
        )
    return aligned(rows)
