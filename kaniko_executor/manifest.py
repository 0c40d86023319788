"""``kaniko-executor manifest``: one name for images that were built apart, on several machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kaniko_core.cli import console, with_options
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Reference
from kaniko_core.options import Flag, LogOptions, OutputOptions, RegistryOptions
from kaniko_core.values import key_value
from kaniko_executor.push import OMITTED, SHORT, deliver, require_destination

if TYPE_CHECKING:
    from kaniko_core.oci.joining import Part
    from kaniko_core.registry.client import Registry

# The images were pushed just now: they are read as they are pushed, and from no mirror.
_OF_PULLS = frozenset(
    "insecure_pull skip_tls_verify_pull image_download_retry image_fs_extract_retry "
    "registry_map registry_mirror skip_default_registry_fallback".split()
)
_AT_ONCE = 4  # images that are looked up
_INDEX = "index"
_IMAGES = typer.Argument(
    metavar="IMAGE...",
    show_default=False,
    help="The images to join, by tag or digest; of an index, all its images.",
)


def index_annotation(text: str) -> tuple[str, str]:
    """Read ``[index:]KEY=VALUE``; raise :class:`UsageError` where it is none."""
    key, value = key_value(text)
    kind, colon, name = key.partition(":")
    if not colon:
        return key, value
    if kind != _INDEX or not name:
        raise UsageError(
            f"{text!r} is no annotation of an index",
            hint="write KEY=VALUE, or index:KEY=VALUE",
        )
    return name, value


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexOptions:
    """What is said about the index."""

    annotation: Annotated[
        tuple[tuple[str, str], ...],
        Flag(
            "Annotation of the index; repeatable.",
            parse=index_annotation,
            metavar="[index:]KEY=VALUE",
        ),
    ] = ()


@with_options(short=SHORT, omit=OMITTED | _OF_PULLS)
def manifest(
    images: Annotated[list[str], _IMAGES],
    *,
    index: IndexOptions,
    output: OutputOptions,
    registry: RegistryOptions,
    log: LogOptions,
) -> None:
    """Join images for several platforms, which were pushed before, into one index."""
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core.oci.joining import join
    from kaniko_core.registry.client import Registry

    require_destination(output)
    references = [Reference.parse(text).with_default_tag for text in images]
    with console(log) as progress, Registry(registry, push=True, progress=progress) as talk:
        deliver(
            lambda: join(_parts(talk, references), dict(index.annotation)),
            output,
            registry,
            progress,
        )


def _parts(registry: Registry, references: list[Reference]) -> list[Part]:
    """Return the images and indexes of these names, all looked up side by side."""
    from concurrent.futures import ThreadPoolExecutor

    from kaniko_core.oci.joining import Part
    from kaniko_core.registry.failures import no_image

    def found(reference: Reference) -> Part:
        content = registry.read(reference)
        if content is None:
            raise no_image(reference)
        return Part(reference.familiar, content)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="manifest") as pool:
        try:
            return list(pool.map(found, references))
        except BaseException:
            registry.cancel()
            raise
