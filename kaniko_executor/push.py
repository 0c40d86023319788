"""``kaniko-executor push``: an image that was built before, from a file to registries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaniko_core.cli import console, with_options
from kaniko_core.errors import UsageError
from kaniko_core.options import LogOptions, OutputOptions, RegistryOptions

if TYPE_CHECKING:
    from kaniko_core.oci.image import Image, Layer
    from kaniko_core.oci.index import ImageIndex
    from kaniko_core.progress import Progress

SHORT = {"destination": "-d", "verbosity": "-v"}
# Nothing is built, and nothing is written but what is said about the push.
OMITTED = frozenset("no_push tar_path oci_layout_path output".split())
_SOURCE = typer.Argument(
    metavar="PATH",
    show_default=False,
    help="A docker-save tarball, or the directory of an OCI layout that holds one image or index.",
)


@with_options(short=SHORT, omit=OMITTED)
def push(
    path: Annotated[Path, _SOURCE],
    *,
    output: OutputOptions,
    registry: RegistryOptions,
    log: LogOptions,
) -> None:
    """Push an image from a docker-save tarball or an OCI layout to registries."""
    # Imported here, because --help and wrong options need none of it.
    from tempfile import TemporaryDirectory

    require_destination(output)
    with console(log) as progress, TemporaryDirectory(prefix="kaniko-push-") as scratch:
        deliver(lambda: _read(path, Path(scratch)), output, registry, progress)


def require_destination(output: OutputOptions) -> None:
    """Refuse to push nowhere, or what is not there.

    Raises:
        UsageError: there is no destination, or one is for a stage.
    """
    if not output.destination:
        raise UsageError("nowhere to push to", hint="name a --destination")
    for destination in output.destination:
        if destination.stage:
            raise UsageError(
                f"--destination {destination} names a stage, and nothing is built here",
                hint=f"write --destination={destination.reference}",
            )


def deliver(
    read: Callable[[], Image | ImageIndex],
    output: OutputOptions,
    registry: RegistryOptions,
    progress: Progress,
) -> None:
    """Push what *read* returns to all destinations, and write what was asked for about it.

    Raises:
        KanikoError: a destination cannot be served.
    """
    from kaniko_core.builder.output import Product, open_delivery
    from kaniko_core.registry.client import Registry

    with (
        Registry(registry, push=True, progress=progress) as talk,
        open_delivery(output, talk, progress) as delivery,
    ):
        delivery.deliver([Product("", read())])


def _read(path: Path, scratch: Path) -> Image | ImageIndex:
    """Return what is in *path*; layers of it may be written to *scratch* first."""
    if path.is_dir():
        return _of_layout(path)
    if not path.exists():
        raise UsageError(f"there is no {path}", hint="name a docker-save tarball or an OCI layout")
    return _of_tarball(path, scratch)


def _of_layout(path: Path) -> Image | ImageIndex:
    from kaniko_core.oci.layout import LayoutStore, tags_of

    store = LayoutStore(path)
    listed = store.listed()
    # One image may be listed under several names.
    digests = dict.fromkeys(item.digest for item in listed)
    if len(digests) != 1:
        names = ", ".join(tag for item in listed for tag in tags_of(item)[:1])
        raise UsageError(
            f"{path} holds {len(digests)} images; one can be pushed",
            hint=f"copy one of them into a layout of its own: it has {names}" if names else None,
        )
    return store.read_any(next(iter(digests)))


def _of_tarball(path: Path, scratch: Path) -> Image:
    from kaniko_core.oci.tarball import read_tarball

    try:
        image = read_tarball(path)
    except UsageError as error:
        raise UsageError(
            f"{error}; one can be pushed", hint="save the image into a tarball of its own"
        ) from None
    return _compressed(image, scratch)


def _compressed(image: Image, scratch: Path) -> Image:
    """Return *image* with compressed layers, as registries have them: docker save has none.

    The config, and with it the image's ID, stays as it is.
    """
    from kaniko_core.oci.compression import Compression
    from kaniko_core.oci.image import Image
    from kaniko_core.oci.layer import recompress

    def compressed(number: int, layer: Layer) -> Layer:
        if Compression.of_media_type(layer.descriptor.media_type) is not Compression.NONE:
            return layer
        return recompress(
            layer, scratch / str(number), compression=Compression.GZIP, level=None, docker=True
        )

    layers = tuple(compressed(number, layer) for number, layer in enumerate(image.layers))
    manifest = replace(image.manifest, layers=tuple(layer.descriptor for layer in layers))
    return Image.of(manifest.to_bytes(), image.raw_config, layers)
