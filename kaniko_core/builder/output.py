"""Where the images go: registries, a tarball, a layout, and files that tell about them.

Everything that can refuse is asked before the build. Layers go out as soon as they are
made, while later instructions run; the manifests follow when the images are complete.

All destinations are served side by side. The bytes of a layer go to a registry once: to the first
repository there, from which the others mount it. Where a destination fails the others are served
all the same, because each is a whole by itself, and whoever builds again has less to send; the
build fails with the first error, whose notes name all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from kaniko_core.builder.recipients import layout_tags, names_of
from kaniko_core.builder.reports import Delivered, Times, write_reports
from kaniko_core.builder.written import check_directory, check_replaceable, check_text
from kaniko_core.errors import ContentError, KanikoError, RegistryError, TagImmutable, UsageError
from kaniko_core.lean import dataclass
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
from kaniko_core.steps.step import LostLayer

# Layers that registries are asked about at once during the build; upload.py says how many of
# them are sent at once.
_UPLOADS = 16
# Destinations that are served at once, each with some blobs at once.
_PUSHES = 8
# How registries refuse a manifest without saying why.
_REFUSED = frozenset({400, 403, 405, 409, 412})


def _utc_now() -> datetime:
    return datetime.now(UTC)


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
    """What a build made, and where it is now: for each target in turn, at least one."""

    delivered: tuple[Delivered, ...]

    @property
    def content(self) -> Image | ImageIndex:
        """What the first target became."""
        return self.delivered[0].content

    @property
    def digest(self) -> Digest:
        """The digest of what the first target became."""
        return self.delivered[0].digest

    @property
    def references(self) -> tuple[Reference, ...]:
        """Everything that was pushed to."""
        return tuple(name for each in self.delivered for name in each.references)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A layer on its way to a registry, and the repository there that gets its bytes."""

    repository: Repository
    upload: Future[None]


class Delivery:
    """The way out for the images, opened before the build by :func:`open_delivery`."""

    def __init__(
        self,
        options: OutputOptions,
        registry: Registry,
        uploads: ThreadPoolExecutor,
        progress: Progress,
        *,
        stages: Sequence[str],
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._registry = registry
        self._uploads = uploads
        self._progress = progress
        self._stages = tuple(stages)
        self._names = names_of(options, stages)
        self._now = now
        self._begun = now()
        self._offered: dict[tuple[str, Digest], _Offer] = {}
        self._mount_from: tuple[Repository, ...] = ()

    @property
    def _pushes(self) -> tuple[tuple[Reference, ...], ...]:
        """For each target, where it is pushed to."""
        return tuple(() for _ in self._names) if self._options.no_push else self._names

    @property
    def _repositories(self) -> tuple[Repository, ...]:
        return tuple(dict.fromkeys(r.repository for each in self._pushes for r in each))

    def check(self) -> None:
        """Find out now what would fail after the build.

        Raises:
            RegistryError: a destination cannot be pushed to.
            DiskError: a file or directory cannot be written.
        """
        if (tarball := self._options.tar_path) is not None:
            check_directory(tarball.resolve().parent, tarball)
            check_replaceable(tarball)
        for report in self._options.reports:
            if isinstance(report, Path):
                check_text(report)
        if (layout := self._options.oci_layout_path) is not None:
            check_directory(layout, layout)
        if self._options.output:
            # Imported here, because few builds want files.
            from kaniko_core.builder.export.writing import check as check_exports

            check_exports(self._options.output)
        if self._options.skip_push_permission_check:
            return
        asked = [Reference(repository) for repository in self._repositories]
        checks = [self._uploads.submit(self._registry.check_push, each) for each in asked]
        for check in checks:
            check.result()

    def readers_of(self, repository: Repository) -> int:
        """Return how often a layer that is in *repository* will be read to be delivered."""
        options = self._options
        # All exports together read it once.
        files = (options.tar_path, options.oci_layout_path, options.output)
        others = {each.registry for each in self._repositories} - {repository.registry}
        return len(others) + sum(bool(file) for file in files)

    def starts_from(self, repository: Repository) -> None:
        """Note that a base came from *repository*, whose blobs may be mounted from there."""
        self._mount_from = tuple(dict.fromkeys((*self._mount_from, repository)))

    def offer(self, layer: Layer, target: int = 0) -> None:
        """Begin to upload *layer*, which will be part of an image unless it changes nothing.

        Args:
            layer: what; it may be offered several times.
            target: which target's image, counted from 0.
        """
        if layer.diff_id == EMPTY_DIFF_ID:
            return
        for reference in self._pushes[target]:
            repository, key = reference.repository, layer.descriptor.digest
            if (repository.registry, key) in self._offered:
                continue
            upload = self._uploads.submit(
                self._registry.upload, repository, layer, mount_from=self._mount_from
            )
            self._offered[repository.registry, key] = _Offer(repository, upload)

    def homes(self, layer: Layer) -> tuple[Repository, ...]:
        """Return the repositories that have *layer* by now; waits for uploads that have begun."""
        found = []
        for (_, digest), offer in list(self._offered.items()):
            if digest == layer.descriptor.digest:
                with suppress(KanikoError, CancelledError):
                    offer.upload.result()
                    found.append(offer.repository)
        return tuple(found)

    def forget(self) -> None:
        """Let go of all layers that were offered: the build starts over."""
        # What is still being packed is offered in the midst of this, and may be.
        uploads = [offer.upload for offer in list(self._offered.values())]
        self._offered.clear()
        for upload in uploads:
            upload.cancel()
        wait(uploads)

    def deliver(
        self, products: Sequence[Product], context: Mapping[str, str] | None = None
    ) -> BuildResult:
        """Put everything everywhere it was asked for.

        Args:
            products: what became of each target, in their order.
            context: what there is to say of a context that was fetched.

        Raises:
            LostLayer: a layer of the cache is none: nothing is said about the images yet.
            KanikoError: the first of the places that could not be served.
        """
        built = self._now()
        self._write_files(products)
        pushed = self._push_all(products)
        delivered = tuple(
            Delivered(product.stage, product.content, names, references)
            for product, names, references in zip(products, self._names, pushed, strict=True)
        )
        times = Times(self._begun, built, self._now())
        write_reports(self._options, delivered, times, self._registry.put_text, context)
        return BuildResult(delivered)

    def _write_files(self, products: Sequence[Product]) -> None:
        if (tarball := self._options.tar_path) is not None:
            content = products[0].content
            if not isinstance(content, Image):
                raise UsageError(
                    "--tar-path writes a docker-save tarball, which holds one image, and this is "
                    "an index",
                    hint="use --oci-layout-path",
                )
            # The file that a link leads to is replaced, never the link.
            write_tarball(content, tarball.resolve(), self._names[0])
            self._progress(Noted(f"wrote {tarball}"))
        if (layout := self._options.oci_layout_path) is not None:
            for product, names in zip(products, self._names, strict=True):
                self._write_layout(LayoutStore(layout), product, names)
            self._progress(Noted(f"wrote {layout}"))

    def _write_layout(
        self, store: LayoutStore, product: Product, names: Sequence[Reference]
    ) -> None:
        tags: Sequence[str | None] = layout_tags(names, product.stage, len(self._stages))
        any_name = Reference(Repository("localhost", "image"))
        for tag in dict.fromkeys(tags or (None,)):
            name = None if tag is None else replace(any_name, tag=tag)
            if isinstance(product.content, Image):
                store.put(name, product.content)
            else:
                store.put_index(name, product.content)

    def _push_all(self, products: Sequence[Product]) -> tuple[tuple[Reference, ...], ...]:
        """Push to all destinations, and return for each target those that have it now."""
        with ThreadPoolExecutor(_PUSHES, thread_name_prefix="destination") as pool:
            pushes = [
                [pool.submit(self._push, product.content, name) for name in names]
                for product, names in zip(products, self._pushes, strict=True)
            ]
            everything = [push for each in pushes for push in each]
            try:
                wait(everything)
            except BaseException:
                self._registry.cancel()  # Ctrl-C: nobody wants to wait for the others
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        _raise_first([push.exception() for push in everything])
        return tuple(tuple(name for push in each if (name := push.result())) for each in pushes)

    def _push(self, content: Image | ImageIndex, reference: Reference) -> Reference | None:
        """Push to one destination, and return it; None where its tag was left as it is."""
        registry = reference.repository.registry
        with _pushing(reference):
            for layer in _layers(content):
                offer = self._offered.get((registry, layer.descriptor.digest))
                # One that is still under way is joined below, beside all else that is sent.
                if offer is not None and offer.upload.done():
                    _raise_for(offer, reference.repository)
            try:
                self._put(reference, content)
            except RegistryError as error:
                if self._is_there(reference, content, error):
                    self._progress(Noted(f"{reference} is {content.digest} already"))
                    return reference
                ignored = self._options.push_ignore_immutable_tag_errors
                if not (ignored and isinstance(error, TagImmutable)):
                    raise
                self._progress(Noted(self._left_alone(reference, content)))
                return None
        self._progress(Noted(f"pushed {reference}@{content.digest}"))
        return reference

    def _put(self, reference: Reference, content: Image | ImageIndex) -> None:
        if isinstance(content, Image):
            self._registry.put(reference, content, mount_from=self._mount_from)
        else:
            self._registry.put_index(reference, content, mount_from=self._mount_from)

    def _is_there(
        self, reference: Reference, content: Image | ImageIndex, error: RegistryError
    ) -> bool:
        """Whether a tag that was refused has what it should have: then nothing was to be done.

        Docker Hub says no more of an immutable tag than 403, which may mean many things: it is
        looked into where the user says that tags may be immutable.
        """
        ignored = self._options.push_ignore_immutable_tag_errors
        if not (isinstance(error, TagImmutable) or (ignored and error.status in _REFUSED)):
            return False
        try:
            there = self._registry.head(reference)
        except (RegistryError, ContentError):
            return False
        return there is not None and there.digest == content.digest

    def _left_alone(self, reference: Reference, content: Image | ImageIndex) -> str:
        """Push by digest what an immutable tag does not take, and return the sentence for it."""
        named = reference.at(content.digest)
        said = f"the tag of {reference} is immutable, and was left as it is"
        try:
            self._put(named, content)
        except RegistryError:
            return said
        return f"{said}; the image is there as {named}"


def _raise_for(offer: _Offer, repository: Repository) -> None:
    """Raise what went wrong; that another repository refused it says nothing of *repository*."""
    try:
        offer.upload.result()
    except RegistryError:
        if offer.repository == repository:
            raise


def _layers(content: Image | ImageIndex) -> Iterator[Layer]:
    images = (content,) if isinstance(content, Image) else content.images
    return (layer for image in images for layer in image.layers)


def _raise_first(failures: Sequence[BaseException | None]) -> None:
    """Raise the first error, with notes of the others; a lost layer comes before all."""
    errors = [error for error in failures if error is not None]
    if not errors:
        return
    first = next((error for error in errors if isinstance(error, LostLayer)), errors[0])
    for other in errors:
        if other is not first:
            for line in (str(other), *getattr(other, "__notes__", ())):
                first.add_note(line)
    raise first


@contextmanager
def _pushing(reference: Reference) -> Iterator[None]:
    try:
        yield
    except KanikoError as error:
        error.add_note(f"while pushing {reference}")
        raise


@contextmanager
def open_delivery(
    options: OutputOptions,
    registry: Registry,
    progress: Progress,
    stages: Sequence[str] = ("",),
    *,
    now: Callable[[], datetime] = _utc_now,
) -> Iterator[Delivery]:
    """Check every destination, and yield the way out; uploads end with the block.

    Args:
        options: where everything goes.
        registry: pushes; it is cancelled if the block raises.
        progress: told of what was delivered.
        stages: the targets as the user named them; the empty name is that of the last stage.
        now: the clock for the times that are written down.

    Raises:
        UsageError: a destination is for a stage that is no target.
    """
    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="push") as uploads:
        try:
            delivery = Delivery(options, registry, uploads, progress, stages=stages, now=now)
            delivery.check()
            yield delivery
        except BaseException:
            registry.cancel()
            uploads.shutdown(wait=False, cancel_futures=True)
            raise
