"""What is said about the images of a build, for the steps of a pipeline that come after it.

    --digest-file                       sha256:…                       of each target
    --image-name-with-digest-file       registry/path@sha256:…         of each destination
    --image-name-tag-with-digest-file   registry/path:tag@sha256:…     of each destination
    $BUILDER_OUTPUT/images              {"name": …, "digest": …}       of each image pushed
    --metadata-file                     BuildKit's JSON

BuildKit's keys are those of ``docker buildx build --metadata-file``, and for several targets those
of ``docker buildx bake``: an object for each. ``kaniko.build.timing`` is our own, and is there
once, beside them: when the build began and everything was delivered, and how many seconds it took
to build and to deliver. So is ``kaniko.build.context``, where the context was fetched: ``uri``, and
``commit`` or ``digest``.

Source: docker buildx build, "Write build result metadata to a file"; docker buildx bake, likewise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kaniko_core.builder.written import write_text
from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.reference import Reference
from kaniko_core.options import OutputOptions, UploadAddress

_TIMING, _CONTEXT = "kaniko.build.timing", "kaniko.build.context"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a target became, and where it is now.

    Attributes:
        stage: the target as the user named it; empty for the last stage.
        names: the names that it has, be it pushed or not.
        references: the names that it was pushed to.
    """

    stage: str
    content: Image | ImageIndex
    names: tuple[Reference, ...]
    references: tuple[Reference, ...]

    @property
    def digest(self) -> Digest:
        """The digest of the manifest or index."""
        return self.content.digest


@dataclass(frozen=True, slots=True)
class Times:
    """When a build began, was built, and was delivered."""

    begun: datetime
    built: datetime
    delivered: datetime


def write_reports(
    options: OutputOptions,
    delivered: Sequence[Delivered],
    times: Times,
    send: Callable[[str, str], None],
    context: Mapping[str, str] | None = None,
) -> None:
    """Write everything that *options* ask for.

    Args:
        options: say what goes where.
        delivered: the targets, in their order.
        times: of this build.
        send: PUTs a text to an address.
        context: where the context was fetched from, and what it was.

    Raises:
        DiskError: a file cannot be written.
        RegistryError: an address does not take it.
    """
    named = [(name, each.digest) for each in delivered for name in each.names]
    # A single digest ends without a newline, as Go kaniko's does: people read the file into $().
    digests = "\n".join(str(each.digest) for each in delivered)
    texts = (
        (options.digest_file, digests),
        (
            options.image_name_with_digest_file,
            "".join(f"{name.repository}@{digest}\n" for name, digest in named),
        ),
        (
            options.image_name_tag_with_digest_file,
            "".join(f"{name}@{digest}\n" for name, digest in named),
        ),
        (options.metadata_file, json.dumps(metadata(delivered, times, context), indent=2) + "\n"),
        (options.images_file, _images(delivered)),
    )
    for place, text in texts:
        match place:
            case UploadAddress():
                send(place.url, text)
            case Path():
                with disk_errors("write", place):
                    write_text(place, text)


def _images(delivered: Sequence[Delivered]) -> str:
    lines = (
        json.dumps({"name": str(name), "digest": str(each.digest)})
        for each in delivered
        for name in each.references
    )
    return "".join(f"{line}\n" for line in lines)


def metadata(
    delivered: Sequence[Delivered], times: Times, context: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the object that ``--metadata-file`` gets."""
    found: dict[str, Any] = {_CONTEXT: dict(context)} if context else {}
    found |= {
        _TIMING: {
            "startedOn": _rfc3339(times.begun),
            "finishedOn": _rfc3339(times.delivered),
            "buildSeconds": round((times.built - times.begun).total_seconds(), 3),
            "deliverySeconds": round((times.delivered - times.built).total_seconds(), 3),
        }
    }
    if len(delivered) == 1:
        return _described(delivered[0]) | found
    return {each.stage: _described(each) for each in delivered} | found


def _described(delivered: Delivered) -> dict[str, Any]:
    content = delivered.content
    found: dict[str, Any] = {}
    annotations: dict[str, str] = {}
    if isinstance(content, Image):
        config = str(content.manifest.config.digest)
        found["containerimage.config.digest"] = config
        annotations["config.digest"] = config
        if content.config.created:
            annotations["org.opencontainers.image.created"] = content.config.created
    descriptor = content.descriptor.to_json()
    found["containerimage.descriptor"] = (
        descriptor | {"annotations": annotations} if annotations else descriptor
    )
    found["containerimage.digest"] = str(content.digest)
    if delivered.names:
        found["image.name"] = ",".join(map(str, delivered.names))
    return found


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
