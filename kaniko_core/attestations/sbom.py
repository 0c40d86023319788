"""The bill of materials of an image: what is installed in it, as an SPDX document.

The same image gives the same document, but for the time, which is given.

Sources: SPDX 2.3; BuildKit, docs/attestations/sbom.md.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kaniko_core.attestations.inventory import Inventory, take_inventory
from kaniko_core.attestations.licenses import NO_ASSERTION, Licenses
from kaniko_core.attestations.package import Distribution, Installed
from kaniko_core.attestations.purl import image_url
from kaniko_core.attestations.statement import Statement, state
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import dump

_PREDICATE_TYPE = "https://spdx.dev/Document"
_DOCUMENT, _IMAGE, _SYSTEM = "SPDXRef-DOCUMENT", "SPDXRef-Image", "SPDXRef-OperatingSystem"
_NAMESPACES = "https://spdx.org/spdxdocs"
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9.-]+")
# What SPDX's own tools take for an address: with a host of more than one word.
_HOMEPAGE = re.compile(
    r"https?://[a-z0-9]+(?:[-.][a-z0-9]+)*\.[a-z]{2,}(?::[0-9]{1,5})?(?:[/?#][!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_LAYER = "layerID: "  # as BuildKit says which layer something is from


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill of materials as a statement.

    Attributes:
        complaints: sentences about what could not be read, and so is missing.
        packages: how many are listed.
    """

    statement: Statement
    complaints: tuple[str, ...]
    packages: int


def state_contents(
    image: Image, *, names: Sequence[Reference], version: str, created: datetime, scratch: Path
) -> Bill:
    """Return what is installed in *image*, as a statement about it.

    Args:
        image: whose layers are read.
        names: what it is called; may be empty.
        version: of this program.
        created: when the document is made.
        scratch: an empty directory of the caller's, who removes it.

    Raises:
        ContentError: a layer is damaged.
        DiskError: *scratch* cannot be written.
    """
    inventory = take_inventory(image, scratch)
    document = _document(image, names, inventory)
    # Another document has another name; nothing else tells them apart.
    number = uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(dump(document)).hexdigest())
    time = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document |= {
        "documentNamespace": f"{_NAMESPACES}/kaniko-py-{number}",
        "creationInfo": {"created": time, "creators": [f"Tool: kaniko-py-{version}"]},
    }
    statement = state(_PREDICATE_TYPE, document, image, names)
    found = len(document["packages"]) - 1
    return Bill(statement, inventory.complaints, found)


def _document(image: Image, names: Sequence[Reference], inventory: Inventory) -> dict[str, Any]:
    licenses = Licenses()
    packages = [_image_package(image, names)]
    if inventory.distribution.id:
        packages.append(_system_package(inventory.distribution))
    packages += _packages(inventory, licenses)
    related = [(_DOCUMENT, "DESCRIBES", _IMAGE)]
    related += [(_IMAGE, "CONTAINS", package["SPDXID"]) for package in packages[1:]]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": packages[0]["name"],
        "packages": packages,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in related
        ],
    }
    if licenses.texts:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": name, "name": text, "extractedText": text}
            for name, text in sorted(licenses.texts.items())
        ]
    return document


def _image_package(image: Image, names: Sequence[Reference]) -> dict[str, Any]:
    package = _package(_IMAGE, str(names[0].repository) if names else str(image.digest))
    package["versionInfo"] = str(image.digest)
    package["primaryPackagePurpose"] = "CONTAINER"
    package["checksums"] = [
        {"algorithm": image.digest.algorithm.upper(), "checksumValue": image.digest.hex}
    ]
    platform = image.config.platform
    urls = [image_url(name.at(image.digest), platform) for name in names]
    if urls:
        package["externalRefs"] = [_url_reference(url) for url in dict.fromkeys(urls)]
    return package


def _system_package(distribution: Distribution) -> dict[str, Any]:
    package = _package(_SYSTEM, distribution.id)
    if distribution.version:
        package["versionInfo"] = distribution.version
    if distribution.name:
        package["description"] = distribution.name
    package["primaryPackagePurpose"] = "OPERATING-SYSTEM"
    return package


@dataclass(slots=True)
class _Same:
    """One package, in all the places where it was found."""

    found: Installed
    paths: list[str] = field(default_factory=list)


def _packages(inventory: Inventory, licenses: Licenses) -> list[dict[str, Any]]:
    by_url: dict[str, _Same] = {}
    for found in inventory.installed:
        url = found.package.url(inventory.distribution)
        by_url.setdefault(url, _Same(found)).paths.append(found.path)
    return [_installed_package(url, same, licenses) for url, same in sorted(by_url.items())]


def _installed_package(url: str, same: _Same, licenses: Licenses) -> dict[str, Any]:
    found = same.found.package
    name = f"{found.namespace}/{found.name}" if found.namespace else found.name
    # Names may differ in nothing but what an ID cannot have.
    number = hashlib.sha256(url.encode()).hexdigest()[:12]
    identity = f"SPDXRef-Package-{found.kind}-{_NOT_IN_IDS.sub('-', found.name)}-{number}"
    package = _package(identity, name)
    package["versionInfo"] = found.version
    if found.maker:
        package["supplier"] = found.maker
    if _HOMEPAGE.fullmatch(found.homepage):
        package["homepage"] = found.homepage
    places = ", ".join(f"/{path}" for path in same.paths)
    package["sourceInfo"] = f"acquired package info from {found.source}: {places}"
    package["comment"] = f"{_LAYER}{same.found.layer}"
    package["licenseDeclared"] = licenses.declared(found.license)
    package["externalRefs"] = [_url_reference(url)]
    return package


def _package(identity: str, name: str) -> dict[str, Any]:
    return {
        "SPDXID": identity,
        "name": name,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
    }


def _url_reference(url: str) -> dict[str, str]:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": url,
    }
