"""Where the image goes, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.options.destinations import Destination, UploadAddress, file_or_address
from kaniko_core.options.exports import Export
from kaniko_core.options.flag import Flag

# In the directory that BUILDER_OUTPUT names.
_IMAGES = "images"
_STANDARD_OUTPUT = tuple(map(Path, ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """Where the image goes, and what is said about it."""

    destination: Annotated[
        tuple[Destination, ...],
        Flag(
            "Where to push the image; with STAGE=, that of another --target than the first; "
            "repeatable.",
            parse=Destination.parse,
            metavar="[STAGE=]IMAGE",
        ),
    ] = ()
    no_push: Annotated[bool, Flag("Build, but do not push.")] = False
    tar_path: Annotated[
        Path | None,
        Flag("Write the image as a docker-save tarball.", aliases=("--tarPath",), metavar="FILE"),
    ] = None
    oci_layout_path: Annotated[
        Path | None, Flag("Write the image as an OCI image layout.", metavar="DIRECTORY")
    ] = None
    output: Annotated[
        tuple[Export, ...],
        Flag(
            "Write the files of the image: type=local,dest=DIRECTORY (or the directory alone), "
            "or type=tar,dest=FILE (or - for standard output); repeatable.",
            parse=Export.parse,
            metavar="DIRECTORY|-|KEY=VALUE,...",
        ),
    ] = ()
    digest_file: Annotated[
        Path | UploadAddress | None,
        Flag(
            "Write the image's digest to this file, or PUT it to this https:// address; a line "
            "for each --target if there are several.",
            parse=file_or_address,
            metavar="FILE|URL",
        ),
    ] = None
    image_name_with_digest_file: Annotated[
        Path | UploadAddress | None,
        Flag(
            "Write REPOSITORY@DIGEST of each destination to this file, or PUT it to this address.",
            parse=file_or_address,
            metavar="FILE|URL",
        ),
    ] = None
    image_name_tag_with_digest_file: Annotated[
        Path | UploadAddress | None,
        Flag(
            "Write REPOSITORY:TAG@DIGEST of each destination to this file, or PUT it to this "
            "address.",
            parse=file_or_address,
            metavar="FILE|URL",
        ),
    ] = None
    metadata_file: Annotated[
        Path | None,
        Flag(
            "Write digests, descriptor, names and times to this file, as JSON like BuildKit's.",
            metavar="FILE",
        ),
    ] = None
    push_ignore_immutable_tag_errors: Annotated[
        bool, Flag("Leave a tag as it is that the registry does not let change, and succeed.")
    ] = False
    skip_push_permission_check: Annotated[
        bool, Flag("Do not ask the registries beforehand whether they can be pushed to.")
    ] = False
    builder_output: Annotated[
        Path | None,
        Flag(
            "Write a JSON line with name and digest of each pushed image to the file images in "
            "this directory.",
            metavar="DIRECTORY",
            hidden=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        for name in ("image_name_with_digest_file", "image_name_tag_with_digest_file"):
            if getattr(self, name) is not None and not self.destination:
                raise UsageError(
                    f"--{name.replace('_', '-')} is for the names of destinations, and there is "
                    "none",
                    hint="name a --destination, or write the digest alone with --digest-file",
                )
        if self.takes_stdout and (same := [at for at in self.written if at in _STANDARD_OUTPUT]):
            raise UsageError(
                f"a tar goes to standard output, and so does what is to be written to {same[0]}",
                hint="write the tar to a file: --output type=tar,dest=FILE",
            )

    @property
    def images_file(self) -> Path | None:
        """The file in the directory that BUILDER_OUTPUT names; None where nothing is pushed."""
        if self.builder_output is None or self.no_push:
            return None
        return self.builder_output / _IMAGES

    @property
    def reports(self) -> tuple[Path | UploadAddress, ...]:
        """Where something is said about what was made."""
        named = (
            *(self.digest_file, self.image_name_with_digest_file),
            *(self.image_name_tag_with_digest_file, self.metadata_file, self.images_file),
        )
        return tuple(place for place in named if place is not None)

    @property
    def takes_stdout(self) -> bool:
        """Whether a tar goes to standard output, and nothing else may."""
        return any(export.dest is None for export in self.output)

    @property
    def written(self) -> tuple[Path, ...]:
        """The files and directories that are written."""
        exported = (export.dest for export in self.output)
        named = (self.tar_path, self.oci_layout_path, *exported, *self.reports)
        return tuple(path for path in named if isinstance(path, Path))

    def require_destination(self) -> None:
        """Refuse to build for nobody; ``--check`` and ``--dryrun`` build nothing.

        Raises:
            UsageError: the image would go nowhere, and not on purpose.
        """
        if not self.destination and not self.no_push and not self.output:
            raise UsageError(
                "nowhere to push the image to",
                hint="name a --destination or an --output, or use --no-push",
            )
