"""Where the image goes, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kaniko_core.errors import UsageError
from kaniko_core.oci.reference import Reference
from kaniko_core.options.flag import Flag
from kaniko_core.values import key_value


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """Where the image goes, and what is said about it."""

    destination: Annotated[
        tuple[Reference, ...],
        Flag("Where to push the image; repeatable.", parse=Reference.parse, metavar="IMAGE"),
    ] = ()
    no_push: Annotated[bool, Flag("Build, but do not push.")] = False
    tar_path: Annotated[
        Path | None,
        Flag("Write the image as a docker-save tarball.", aliases=("--tarPath",), metavar="FILE"),
    ] = None
    oci_layout_path: Annotated[
        Path | None, Flag("Write the image as an OCI image layout.", metavar="DIRECTORY")
    ] = None
    digest_file: Annotated[
        Path | None, Flag("Write the image's digest to this file.", metavar="FILE")
    ] = None
    label: Annotated[
        tuple[tuple[str, str], ...],
        Flag("Label of the image; repeatable.", parse=key_value, metavar="KEY=VALUE"),
    ] = ()

    def __post_init__(self) -> None:
        for reference in self.destination:
            if reference.digest is not None:
                raise UsageError(
                    f"{reference} names a digest; a destination has a tag",
                    hint=f"push to {reference.repository}:TAG",
                )

    def require_destination(self) -> None:
        """Refuse to build for nobody; ``--check`` and ``--dryrun`` build nothing.

        Raises:
            UsageError: the image would go nowhere, and not on purpose.
        """
        if not self.destination and not self.no_push:
            raise UsageError(
                "nowhere to push the image to", hint="name a --destination, or use --no-push"
            )
