"""From the images of all platforms to what is delivered: one image, or an index of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from kaniko_core.builder.cached.known import Known
from kaniko_core.builder.output import Product
from kaniko_core.builder.recipients import names_of
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.options import AnnotationPlace, BuildOptions, ImageOptions, OutputOptions
from kaniko_core.progress import Progress
from kaniko_core.version import VERSION

# What only an index has room for.
_OF_AN_INDEX = frozenset({AnnotationPlace.INDEX, AnnotationPlace.MANIFEST_DESCRIPTOR})


def makes_index(build: BuildOptions, image: ImageOptions) -> bool:
    """Whether an index is made, and not a single image."""
    return len(build.platforms) > 1 or image.attests


def check_products(build: BuildOptions, image: ImageOptions, output: OutputOptions) -> None:
    """Find out what could not be made, before anything is.

    Raises:
        UsageError: options that do not go together.
    """
    names_of(output, build.targets)
    several = len(build.platforms) > 1
    index = makes_index(build, image)
    if index and output.tar_path is not None:
        what = "images for several platforms are" if several else "an image with attestations is"
        raise UsageError(
            f"--tar-path writes a docker-save tarball, which holds one image, and {what} built",
            hint="use --oci-layout-path, or push it to a --destination",
        )
    if output.tar_path is not None and not image.is_docker(base=True):
        raise UsageError(
            f"--tar-path does not go with {_oci_because(image)}: a docker-save tarball has "
            "Docker's format",
            hint="use --oci-layout-path, or push the image to a --destination",
        )
    of_index = next((item for item in image.annotation if item.place in _OF_AN_INDEX), None)
    if of_index is not None and not index:
        raise UsageError(
            f"--annotation {of_index.place.value}:{of_index.key} is one of an index, and a single "
            "image is built",
            hint="leave the kind out to annotate the image's manifest",
        )
    if several and build.materialize:
        raise UsageError(
            "--materialize leaves the files of one image in /, and several platforms are built",
            hint="name one platform",
        )


def _oci_because(image: ImageOptions) -> str:
    if image.image_format is not None:
        return f"--image-format={image.image_format.value}"
    return "--annotation" if image.annotation else "--compression=zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What is made of finished images.

    Attributes:
        known: for each platform, what was built.
        output: where it goes, and under which names.
        scratch: a directory to put files into for a while.
        started: when the build began.
    """

    known: Sequence[Known]
    output: OutputOptions
    scratch: Path
    started: datetime
    progress: Progress

    def products(self, made: Sequence[Sequence[Image]]) -> tuple[Product, ...]:
        """Return what the targets became.

        Args:
            made: for each platform, the images of all targets.
        """
        stages = self.known[0].build.targets
        names = names_of(self.output, stages)
        return tuple(
            Product(stage, self._content(images, stage, called))
            for stage, images, called in zip(stages, zip(*made, strict=True), names, strict=True)
        )

    def _content(
        self, images: Sequence[Image], stage: str, names: Sequence[Reference]
    ) -> Image | ImageIndex:
        build, options = self.known[0].build, self.known[0].image
        if not makes_index(build, options):
            return images[0]
        listed = [
            _listed(image, platform, options)
            for image, platform in zip(images, build.platforms, strict=True)
        ]
        annotations = {
            a.key: a.value for a in options.annotation if a.place is AnnotationPlace.INDEX
        }
        if options.attests:
            return self._attested(listed, stage, names, annotations)
        docker = all(image.is_docker for image in images)
        return list_images(listed, docker=docker, annotations=annotations)

    def _attested(
        self,
        listed: Sequence[Listed],
        stage: str,
        names: Sequence[Reference],
        annotations: Mapping[str, str],
    ) -> ImageIndex:
        # Imported here, because few builds attest anything.
        from kaniko_core.attestations.attest import Wanted, attest
        from kaniko_core.builder.attesting import built, request_of, run_of

        first = self.known[0]
        return attest(
            [
                replace(
                    built(known, item.image), platform=item.platform, annotations=item.annotations
                )
                for known, item in zip(self.known, listed, strict=True)
            ],
            Wanted(first.image.provenance, first.image.sbom),
            request=request_of(first, stage),
            run=run_of(first, VERSION, self.started),
            names=names,
            scratch=self.scratch,
            annotations=annotations,
            progress=self.progress,
        )

    def export(self, images: Sequence[Image]) -> None:
        """Write the files of the first target's *images*, one for each platform, as is wanted.

        Raises:
            LostLayer: a layer came from a cache, and is none; nothing was written.
            DiskError: the disk refused.
        """
        if not self.output.output:
            return
        from kaniko_core.builder.export.writing import export

        first = self.known[0]
        export(
            self.output.output,
            images,
            spool=self.scratch,
            progress=self.progress,
            platforms=first.build.platforms,
            epoch=first.project.epoch,
        )


def _listed(image: Image, wanted: Platform | None, options: ImageOptions) -> Listed:
    """Return *image* as it was *wanted*, as BuildKit lists it: its base may be for another."""
    own = image.config.platform
    platform = (
        own if wanted is None else replace(wanted, os_version=wanted.os_version or own.os_version)
    )
    notes = options.annotations_of(AnnotationPlace.MANIFEST_DESCRIPTOR, platform)
    return Listed(image, platform, notes)
