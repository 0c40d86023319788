from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaniko_core.attestations.attest import Wanted, attest
from kaniko_core.attestations.provenance import Built, Request, Run
from kaniko_core.attestations.wanted import Provenance
from kaniko_core.errors import DiskError
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.platform import Platform
from kaniko_core.progress import Noted, Warned
from tests.attestations.layers import made
from tests.samples import image

ARM = Platform("linux", "arm64")
BROKEN = made(("node_modules/foo/package.json", b"{"))


def attested(
    tmp_path: Path, wanted: Wanted, *images: Image, run: Run | None = None, heard: Any = None
) -> ImageIndex:
    return attest(
        [Built(one) for one in images],
        wanted,
        request=Request(dockerfile="Dockerfile"),
        run=run or Run(version="9"),
        scratch=tmp_path,
        progress=heard.append if heard is not None else lambda event: None,
    )


def statements(index: ImageIndex) -> list[Any]:
    return [
        json.loads(layer.open().read())
        for item, manifest in zip(index.images, index.index.manifests, strict=True)
        if manifest.annotations
        for layer in item.layers
    ]


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (Wanted(Provenance(), sbom=True), ["spdx.dev/Document", "slsa.dev/provenance/v1"]),
        (Wanted(Provenance()), ["slsa.dev/provenance/v1"]),
        (Wanted(sbom=True), ["spdx.dev/Document"]),
    ],
)
def test_attests_what_is_wanted_of_each_platform(
    tmp_path: Path, wanted: Wanted, kinds: list[str]
) -> None:
    one, two = image(), image(made(("arm", b"")), platform=ARM)
    said = statements(attested(tmp_path, wanted, one, two))
    assert [item["predicateType"] for item in said] == [f"https://{kind}" for kind in kinds] * 2
    about = [item["subject"][0]["digest"]["sha256"] for item in said]
    assert about == [one.digest.hex] * len(kinds) + [two.digest.hex] * len(kinds)


def test_nothing_is_wanted_by_default() -> None:
    assert not Wanted()
    assert Wanted(sbom=True)
    assert Wanted(Provenance())


def test_docker_types_become_ocis(tmp_path: Path) -> None:
    given = image(docker=True)
    made_of = attested(tmp_path, Wanted(Provenance()), given)
    listed = made_of.images[0]
    assert not listed.is_docker
    assert listed.raw_config == given.raw_config
    assert statements(made_of)[0]["subject"][0]["digest"]["sha256"] == listed.digest.hex


def test_without_times_the_bill_has_the_images_own(tmp_path: Path) -> None:
    def created(of: Image, run: Run) -> str:
        [said] = statements(attested(tmp_path, Wanted(sbom=True), of, run=run))
        return str(said["predicate"]["creationInfo"]["created"])

    quiet = Run(version="9")
    assert created(image(created="2024-05-06T07:08:09Z"), quiet) == "2024-05-06T07:08:09Z"
    assert created(image(created=""), quiet) == "1970-01-01T00:00:00Z"
    assert created(image(created="lately"), quiet) == "1970-01-01T00:00:00Z"
    now = Run(version="9", finished=datetime(2026, 1, 1, tzinfo=UTC))
    assert created(image(), now) == "2026-01-01T00:00:00Z"


def test_annotations_are_where_they_were_asked_for(tmp_path: Path) -> None:
    made_of = attest(
        [Built(image(), annotations={"a": "b"})],
        Wanted(Provenance()),
        request=Request(dockerfile="Dockerfile"),
        run=Run(version="9"),
        scratch=tmp_path,
        annotations={"c": "d"},
    )
    assert made_of.index.annotations == {"c": "d"}
    assert made_of.index.manifests[0].annotations == {"a": "b"}


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    heard: list[Any] = []
    attested(tmp_path, Wanted(sbom=True), image(BROKEN), heard=heard)
    assert heard == [
        Warned(
            "the SBOM is incomplete: /node_modules/foo/package.json does not tell all that is "
            "installed: it is not JSON"
        ),
        Noted("the SBOM of linux/amd64 lists 0 packages"),
    ]


def test_nothing_is_left_in_the_scratch_directory(tmp_path: Path) -> None:
    database = made(("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0 no more"))
    attested(tmp_path, Wanted(sbom=True), image(database))
    assert list(tmp_path.iterdir()) == []


def test_scratch_directory_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot make a directory in"):
        attested(tmp_path / "missing", Wanted(sbom=True), image())
