from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from kaniko_core.attestations.licenses import Licenses
from kaniko_core.attestations.sbom import Bill, state_contents
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Reference
from tests.attestations.layers import made
from tests.attestations.test_packages import APK, DPKG
from tests.samples import image

NAMES = (Reference.parse("registry.example/app:1"),)
TIME = datetime(2026, 1, 2, 3, 4, 5, 999, tzinfo=UTC)
METADATA = (
    b"Name: foo\nVersion: 1\nLicense: BSD, more or less\nAuthor: A (B) <a@b.org>\n"
    b"Home-page: not an address\n\n"
)


def sample() -> Image:
    return image(
        made(("var/lib/dpkg/status", DPKG), ("etc/os-release", b"ID=debian\nVERSION_ID=12\n")),
        made(
            ("lib/apk/db/installed", APK),
            ("a/foo-1.dist-info/METADATA", METADATA),
            ("b/foo-1.dist-info/METADATA", METADATA),
            ("node_modules/\u00fc/package.json", b'{"name":"\\u00fc","version":"1 \\n2"}'),
        ),
    )


def bill(tmp_path: Path, names: tuple[Reference, ...] = NAMES, of: Image | None = None) -> Bill:
    return state_contents(of or sample(), names=names, version="9", created=TIME, scratch=tmp_path)


def document(bill: Bill) -> Any:
    return json.loads(bill.statement.raw)["predicate"]


def assert_valid(document: dict[str, Any]) -> None:
    parsed = JsonLikeDictParser().parse(document)
    messages = validate_full_spdx_document(parsed, "SPDX-2.3")
    assert [message.validation_message for message in messages] == []


@pytest.mark.parametrize("names", [NAMES, ()])
def test_document_is_valid_spdx(tmp_path: Path, names: tuple[Reference, ...]) -> None:
    assert_valid(document(bill(tmp_path, names)))


def test_empty_image_has_a_valid_document(tmp_path: Path) -> None:
    made_of_nothing = bill(tmp_path, of=image(made(("bin/app", b""))))
    assert made_of_nothing.packages == 0
    assert_valid(document(made_of_nothing))


def test_statement_is_about_the_image(tmp_path: Path) -> None:
    said = json.loads(bill(tmp_path).statement.raw)
    assert said["predicateType"] == "https://spdx.dev/Document"
    assert said["subject"] == [
        {
            "name": "pkg:docker/registry.example/app@1?platform=linux%2Famd64",
            "digest": {"sha256": sample().digest.hex},
        }
    ]


def test_document_describes_the_image_and_what_it_contains(tmp_path: Path) -> None:
    listed = document(bill(tmp_path))
    kinds = [package.get("primaryPackagePurpose") for package in listed["packages"]]
    assert kinds[:3] == ["CONTAINER", "OPERATING-SYSTEM", None]
    [described, *contained] = [
        (item["spdxElementId"], item["relationshipType"]) for item in listed["relationships"]
    ]
    assert described == ("SPDXRef-DOCUMENT", "DESCRIBES")
    assert set(contained) == {("SPDXRef-Image", "CONTAINS")}
    assert len(contained) == len(listed["packages"]) - 1


def test_packages_have_addresses_places_and_layers(tmp_path: Path) -> None:
    packages = {item["name"]: item for item in document(bill(tmp_path))["packages"]}
    assert set(packages) == {
        *("registry.example/app", "debian", "libc6", "tar", "ssl_client", "busybox", "foo", "ü")
    }
    foo = packages["foo"]
    assert foo["sourceInfo"] == (
        "acquired package info from Python package metadata: "
        "/a/foo-1.dist-info/METADATA, /b/foo-1.dist-info/METADATA"
    )
    assert foo["comment"] == f"layerID: {sample().layers[1].descriptor.digest}"
    assert foo["externalRefs"][0]["referenceLocator"] == "pkg:pypi/foo@1"
    assert "homepage" not in foo
    assert packages["libc6"]["comment"] == f"layerID: {sample().layers[0].descriptor.digest}"


def test_licenses_that_are_no_expressions_are_quoted(tmp_path: Path) -> None:
    listed = document(bill(tmp_path))
    packages = {item["name"]: item for item in listed["packages"]}
    assert packages["ssl_client"]["licenseDeclared"] == "GPL-2.0-only"
    assert packages["tar"]["licenseDeclared"] == "NOASSERTION"
    [quoted] = listed["hasExtractedLicensingInfos"]
    assert quoted["extractedText"] == "BSD, more or less"
    assert packages["foo"]["licenseDeclared"] == quoted["licenseId"]


def test_same_image_has_the_same_document_and_another_has_another(tmp_path: Path) -> None:
    assert bill(tmp_path) == bill(tmp_path)
    other = document(bill(tmp_path, of=image(made(("x", b"")))))
    assert other["documentNamespace"] != document(bill(tmp_path))["documentNamespace"]


def test_document_says_when_and_by_what_it_was_made(tmp_path: Path) -> None:
    assert document(bill(tmp_path))["creationInfo"] == {
        "created": "2026-01-02T03:04:05Z",
        "creators": ["Tool: kaniko-py-9"],
    }


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        (
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
        ),
        ("", "NOASSERTION"),
        ("x" * 600, "NOASSERTION"),
    ],
)
def test_licenses_become_expressions(text: str, expression: str) -> None:
    assert Licenses().declared(text) == expression


@pytest.mark.parametrize(
    "text",
    [
        "BSD",
        "MIT License",
        "GPLv2+ and MIT",
        "(MIT",
        "LicenseRef-scancode-public-domain",
        "MIT WITH MIT",
        "AND",
        # What the library fails on.
        "NONE and ( )",
        "( OR GPL-2.0-only ) GPL-2.0-only -",
    ],
)
def test_other_licenses_are_kept_under_a_name(text: str) -> None:
    licenses = Licenses()
    name = licenses.declared(text)
    assert name.startswith("LicenseRef-")
    assert licenses.texts == {name: text}
    assert licenses.declared(f" {text}\n") == name
