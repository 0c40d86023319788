"""Everything that is to be attested about the images of one build, attached to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from kaniko_core.attestations.provenance import Built, Request, Run, state_provenance
from kaniko_core.attestations.sbom import state_contents
from kaniko_core.attestations.statement import Statement
from kaniko_core.attestations.storage import attach
from kaniko_core.attestations.wanted import Provenance
from kaniko_core.errors import disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image, with_oci_types
from kaniko_core.oci.index import ImageIndex, Listed
from kaniko_core.oci.reference import Reference
from kaniko_core.progress import Noted, Progress, Warned, silent

_NOTHING: Mapping[str, str] = MappingProxyType({})
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be attested; nothing by default."""

    provenance: Provenance | None = None
    sbom: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to attest."""
        return self.provenance is not None or self.sbom


def attest(
    images: Sequence[Built],
    wanted: Wanted,
    *,
    request: Request,
    run: Run,
    names: Sequence[Reference] = (),
    scratch: Path,
    annotations: Mapping[str, str] = _NOTHING,
    progress: Progress = silent,
) -> ImageIndex:
    """Return an index of *images*, and of what is attested about each.

    Images with Docker's media types get OCI's, as BuildKit does it: config and layers are the
    same, the digest is another.

    Args:
        images: one for each platform.
        wanted: what to attest.
        request: what the user asked for; for provenance.
        run: of this program. Without times, a bill of materials has the image's own.
        names: what the images will be called.
        scratch: a directory to put files into for a while.
        annotations: of the index.
        progress: is told how many packages were found, and what could not be read.

    Raises:
        ContentError: a layer is damaged.
        DiskError: *scratch* cannot be written.
    """
    attested: list[tuple[Listed, Sequence[Statement]]] = []
    for given in images:
        built = replace(given, image=with_oci_types(given.image))
        statements: list[Statement] = []
        if wanted.sbom:
            statements.append(_contents(built.image, names, run, scratch, progress))
        if wanted.provenance is not None:
            statements.append(
                state_provenance(
                    built, names=names, wanted=wanted.provenance, request=request, run=run
                )
            )
        attested.append((Listed(built.image, built.platform, built.annotations), statements))
    return attach(attested, annotations=annotations)


def _contents(
    image: Image, names: Sequence[Reference], run: Run, scratch: Path, progress: Progress
) -> Statement:
    with disk_errors("make a directory in", scratch):
        directory = TemporaryDirectory(dir=scratch, prefix="sbom-")
    with directory as inside:
        bill = state_contents(
            image,
            names=names,
            version=run.version,
            created=run.finished or _time_of(image),
            scratch=Path(inside),
        )
    for complaint in bill.complaints:
        progress(Warned(f"the SBOM is incomplete: {complaint}"))
    progress(Noted(f"the SBOM of {image.config.platform} lists {bill.packages} packages"))
    return bill.statement


def _time_of(image: Image) -> datetime:
    """Return when *image* was made, as its config says; of what is no time, 1970."""
    try:
        made = datetime.fromisoformat(image.config.created or "")
    except ValueError:
        return _BEGINNING
    return made if made.tzinfo is not None else made.replace(tzinfo=UTC)
