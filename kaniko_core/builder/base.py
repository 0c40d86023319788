"""From a name to an image: the cache of base images first, then the registry; or an OCI layout.

With ``--cache`` an image named by digest needs no network, one named by tag needs one HEAD,
and where the registry cannot be reached the tag means what it meant when it was last warmed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from kaniko_core.builder.layouts import layout_image
from kaniko_core.builder.plan import ImageBase, LayoutBase
from kaniko_core.cache.checked import with_spare
from kaniko_core.cache.images import Freshness, ImageCache, Lookup
from kaniko_core.errors import ContentError, DiskError, KanikoError, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.progress import Noted, Progress, Warned
from kaniko_core.registry.client import Registry
from kaniko_core.registry.failures import no_image

# Images that are asked for before anybody needs them.
_AHEAD = 8


class BaseImages:
    """Finds each image once, however many stages name it; safe to use from several threads."""

    def __init__(
        self,
        registry: Registry,
        cache: ImageCache | None,
        progress: Progress,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        hold: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Look for images in *cache* first, where there is one.

        Args:
            registry: to pull from.
            cache: of base images.
            progress: told where images come from.
            now: the clock.
            hold: keeps what is at a path below the cache directory from being pruned.
        """
        self._registry = registry
        self._lookup = (
            None if cache is None else _CachedImages(registry, cache, progress, now, hold)
        )
        self._found: dict[ImageBase | LayoutBase, Image | KanikoError] = {}
        self._guard = threading.Lock()
        self._locks: dict[ImageBase | LayoutBase, threading.Lock] = {}

    @contextmanager
    def asked(self, wanted: Iterable[ImageBase | LayoutBase]) -> Iterator[None]:
        """Begin to find the images of registries among *wanted*, and go on meanwhile.

        What goes wrong is told to nobody but whoever asks for the image.
        """
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="base") as pool:
            asked = [pool.submit(self.find, i) for i in wanted if isinstance(i, ImageBase)]
            try:
                yield
                wait(asked)
            except BaseException:
                # Whatever it is, nobody wants to wait for what a registry has to say any more.
                self.cancel()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def find(self, wanted: ImageBase | LayoutBase) -> Image:
        """Return the image, its layers not yet fetched.

        Raises:
            NotFound: the registry has no such image.
            RegistryError: the registry cannot be asked, and the cache does not have the image.
            ContextError: the OCI layout has no such image.
            ContentError: the OCI layout is none, or damaged.
        """
        with self._guard:
            lock = self._locks.setdefault(wanted, threading.Lock())
        with lock:
            found = self._found.get(wanted)
            if found is None:
                found = self._found[wanted] = self._tried(wanted)
            if isinstance(found, KanikoError):
                raise found
            return found

    def cancel(self) -> None:
        """End what other threads are asking registries, now."""
        self._registry.cancel()

    def _tried(self, wanted: ImageBase | LayoutBase) -> Image | KanikoError:
        """Return the image, or why there is none: who asked before may not have heard of it."""
        try:
            return self._find(wanted)
        except KanikoError as error:
            return error

    def _find(self, wanted: ImageBase | LayoutBase) -> Image:
        if isinstance(wanted, LayoutBase):
            return layout_image(wanted)
        if self._lookup is None:
            return self._pull(wanted)
        cached = self._lookup.find(wanted)
        return cached or self._lookup.instead_of(wanted, self._pull(wanted))

    def _pull(self, wanted: ImageBase) -> Image:
        image = self._registry.get(wanted.reference, wanted.platform)
        if image is None:
            raise no_image(wanted.reference)
        return image


@dataclass(frozen=True, slots=True)
class _Known:
    """Which image a name means, and how sure we are."""

    digest: Digest
    # An entry past its time will do: the name is a digest, which cannot mean anything else,
    # or the registry could not be asked.
    ageless: bool = False


@dataclass(frozen=True, slots=True)
class _CachedImages:
    registry: Registry
    cache: ImageCache
    progress: Progress
    now: Callable[[], datetime]
    hold: Callable[[str], None]

    def find(self, wanted: ImageBase) -> Image | None:
        """Return the image if the cache has a good one; say why where it has not."""
        known = self._known(wanted)
        found = self._held(known.digest)
        if found.freshness is Freshness.ABSENT and self._awaited(wanted, known.digest):
            found = self._held(known.digest)
        if found.freshness is Freshness.FRESH or (known.ageless and found.image is not None):
            return self._used(wanted, found)
        message = self.cache.explain(found, wanted.name)
        if found.freshness in (Freshness.DAMAGED, Freshness.UNREADABLE):
            self.progress(Warned(message))
        else:
            self.progress(Noted(message))
        return None

    def _held(self, digest: Digest) -> Lookup:
        # In this order: an entry that is seen before it is held may be pruned in between.
        self.hold(str(digest))
        return self.cache.look_up(digest)

    def _awaited(self, wanted: ImageBase, digest: Digest) -> bool:
        """Wait for a warmer that is fetching the image just now; say whether there was one."""

        def waiting() -> None:
            self.progress(Noted(f"{wanted.name} is being put into the cache; waiting for it"))

        return self.cache.wait(digest, waiting=waiting, cancelled=lambda: self.registry.cancelled)

    def instead_of(self, wanted: ImageBase, image: Image) -> Image:
        """Return the cached form of *image*, from the registry, if there is a good one.

        Nobody may have noted which image of an index it is, as when Go kaniko warmed it.
        """
        found = self._held(image.digest)
        return self._used(wanted, found) if found.freshness is Freshness.FRESH else image

    def _used(self, wanted: ImageBase, found: Lookup) -> Image:
        assert found.image is not None

        def spare() -> Image:
            reference = replace(wanted.reference, tag=None, digest=found.digest)
            image = self.registry.get(reference, wanted.platform)
            if image is None:
                raise no_image(wanted.reference)
            return image

        def damaged(error: KanikoError) -> None:
            bad = replace(found, freshness=Freshness.DAMAGED, detail=str(error))
            self.progress(Warned(self.cache.explain(bad, wanted.name)))
            if isinstance(error, ContentError):
                # Without the entry, the next run of the warmer fetches the image anew.
                with suppress(DiskError):
                    self.cache.remove(found.digest)

        self.cache.used(found.digest)
        self.progress(Noted(f"{wanted.name} is in the cache ({found.digest})"))
        return with_spare(found.image, spare, damaged)

    def _known(self, wanted: ImageBase) -> _Known:
        """Ask as little as can be: nothing for a digest, one HEAD for a tag."""
        remembered = self.cache.recall(wanted.reference, wanted.platform)
        if wanted.reference.digest is not None:
            # A digest never changes its meaning: either it is an image's own, or an index's,
            # and then the warmer remembered which image of it serves the platform.
            digest = remembered.image if remembered else wanted.reference.digest
            return _Known(digest, ageless=True)
        try:
            listed = self.registry.head(wanted.reference)
        except RegistryError as error:
            if error.status is not None and not error.temporary:
                raise
            if remembered is None or self.cache.get(remembered.image) is None:
                error.add_note(f"the cache {self.cache.directory} has no {wanted.name} either")
                raise
            self._warn_offline(wanted, remembered.image, remembered.when, error)
            return _Known(remembered.image, ageless=True)
        if listed is None:
            raise no_image(wanted.reference)
        if remembered is not None and remembered.listed == listed.digest:
            return _Known(remembered.image)
        return _Known(listed.digest)

    def _warn_offline(
        self, wanted: ImageBase, digest: Digest, when: datetime, error: RegistryError
    ) -> None:
        days = (self.now() - when).days
        age = "today" if days < 1 else "yesterday" if days == 1 else f"{days} days ago"
        self.progress(
            Warned(
                f"{error}; using {wanted.name} as it was warmed {age} "
                f"({when:%Y-%m-%d %H:%M} UTC, {digest})",
                hint="the tag may mean a newer image by now; build again when the registry is back",
            )
        )
