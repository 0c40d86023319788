"""Attestations of real images: what other tools read of them, and whether they tell the truth."""

from __future__ import annotations

import importlib.metadata
import json
import struct
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from integration import images, readers
from integration.programs import Build
from integration.readers import Podman
from kaniko_core.attestations.attest import Wanted, attest
from kaniko_core.attestations.provenance import Built, Request, Run
from kaniko_core.attestations.sbom import state_contents
from kaniko_core.attestations.wanted import Provenance
from kaniko_core.oci.image import Image
from kaniko_core.oci.layout import LayoutStore
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_SPEC = """\
Name: {name}
Version: 1.2
Release: 3
Epoch: 4
Summary: A sample
License: MIT
Vendor: Somebody
BuildArch: noarch
%description
A sample.
%install
mkdir -p %{{buildroot}}/{name}
for number in $(seq {files}); do touch %{{buildroot}}/{name}/a-file-with-number-$number; done
%files
/{name}
"""


def in_layout(path: Path) -> Image:
    """Return the one image of a layout."""
    store = LayoutStore(path)
    [listed] = store.listed()
    found = store.load(listed.digest, Platform.host())
    assert found is not None
    return found


def contents(image: Image, scratch: Path) -> Any:
    """Return the SPDX document of *image*, which is valid, and misses nothing."""
    scratch.mkdir(exist_ok=True)
    bill = state_contents(image, names=(), version="9", created=_TIME, scratch=scratch)
    assert bill.complaints == ()
    document = json.loads(bill.statement.raw)["predicate"]
    messages = validate_full_spdx_document(JsonLikeDictParser().parse(document), "SPDX-2.3")
    assert [message.validation_message for message in messages] == []
    return document


def addresses(document: Any, kind: str) -> list[PackageURL]:
    """Return the addresses of all packages of one kind."""
    found = [
        PackageURL.from_string(reference["referenceLocator"])
        for package in document["packages"]
        for reference in package.get("externalRefs", ())
    ]
    return [url for url in found if url.type == kind]


def attested(build: Build, tmp_path: Path, dockerfile: str, name: str) -> Path:
    """Build *dockerfile*, attest the image, and return a layout of it named ``latest``."""
    plain, layout = tmp_path / "plain", tmp_path / "attested"
    build(dockerfile, "--no-push", "--oci-layout-path", plain)
    index = attest(
        [Built(in_layout(plain))],
        Wanted(Provenance(), sbom=True),
        request=Request(dockerfile="Dockerfile", text=dockerfile.encode()),
        run=Run(version="9", started=_TIME, finished=_TIME),
        names=[Reference.parse(name)],
        scratch=tmp_path,
    )
    LayoutStore(layout).put_index(None, index)
    listed = json.loads((layout / "index.json").read_text())
    listed["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "index.json").write_text(json.dumps(listed))
    return layout


def test_attested_image_is_what_skopeo_inspects_and_podman_runs(
    build: Build, debian: str, podman: Podman, tmp_path: Path
) -> None:
    dockerfile = f"FROM {debian}\nRUN echo word > /word\nCMD cat /word\n"
    layout = attested(build, tmp_path, dockerfile, build.image)
    readers.output_of(
        *("skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false"),
        *(f"oci:{layout}:latest", f"docker://{build.image}"),
    )

    listed = readers.manifest(build.image)["manifests"]
    image, about = listed
    assert about["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert about["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    name = build.image.removesuffix(":latest")
    statements = blobs_of(f"{name}@{about['digest']}", tmp_path / "blobs")
    assert [statement["predicateType"] for statement in statements] == [
        *("https://spdx.dev/Document", "https://slsa.dev/provenance/v1")
    ]
    for statement in statements:
        [subject] = statement["subject"]
        assert f"sha256:{subject['digest']['sha256']}" == image["digest"]
        assert PackageURL.from_string(subject["name"]).version == "latest"
    assert readers.config(build.image)["config"]["Cmd"]
    assert podman.run(build.image) == "word\n"


def blobs_of(image: str, scratch: Path) -> list[Any]:
    """Return the statements of an attestation manifest, as skopeo fetches and verifies them."""
    manifest = readers.manifest(image)
    readers.output_of(
        *("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{image}"),
        f"dir:{scratch}",
    )
    for layer in manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.in-toto+json"
    files = [scratch / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    statements = [json.loads(file.read_text()) for file in files]
    assert [layer["annotations"]["in-toto.io/predicate-type"] for layer in manifest["layers"]] == [
        statement["predicateType"] for statement in statements
    ]
    return statements


def test_layout_of_an_attested_image_can_be_unpacked(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    layout = attested(build, tmp_path, f"FROM {busybox}\nRUN echo x > /word\n", "app:1")
    assert readers.tree(f"oci:{layout}:latest")["word"].kind == "-"


def test_bill_lists_what_dpkg_lists(tmp_path: Path) -> None:
    image = in_layout(images.debian_layout())
    with readers.unpacked(f"oci:{images.debian_layout()}") as root:
        listed = readers.output_of(
            *("dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show"),
            "--showformat=${db:Status-Status} ${Package} ${Version} ${Architecture}\n",
        )
    expected = sorted(
        tuple(line.split()[1:]) for line in listed.splitlines() if line.startswith("installed ")
    )
    found = addresses(contents(image, tmp_path / "scratch"), "deb")
    assert len(found) > 50
    assert sorted((url.name, url.version, url.qualifiers["arch"]) for url in found) == expected
    assert {(url.namespace, url.qualifiers["distro"]) for url in found} == {("debian", "debian-12")}


def test_bill_follows_what_a_build_installs_and_removes(
    build: Build, debian: str, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    build(
        f"FROM {debian}\n"
        "RUN mkdir -p /app/node_modules/left /gone/node_modules/right \\\n"
        ' && echo \'{"name": "left", "version": "1"}\' > /app/node_modules/left/package.json \\\n'
        ' && echo \'{"name": "right", "version": "1"}\' > /gone/node_modules/right/package.json\n'
        "RUN rm -r /gone && dpkg --purge --force-all tzdata\n",
        *("--no-push", "--oci-layout-path", layout),
    )
    before = addresses(contents(in_layout(images.debian_layout()), tmp_path / "a"), "deb")
    document = contents(in_layout(layout), tmp_path / "b")
    after = {url.name for url in addresses(document, "deb")}
    assert {url.name for url in before} - after == {"tzdata"}
    assert [url.name for url in addresses(document, "npm")] == ["left"]


def test_bill_lists_the_python_distributions_that_pip_installed(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    layout, site = tmp_path / "layout", Path(sysconfig.get_path("purelib"))
    build.context.mkdir(exist_ok=True)
    for information in site.glob("*-info"):
        copied = build.context / "site" / information.name
        copied.mkdir(parents=True)
        for file in ("METADATA", "PKG-INFO", "RECORD"):
            if (information / file).exists():
                (copied / file).write_bytes((information / file).read_bytes())
    build(f"FROM {busybox}\nCOPY site /venv\n", "--no-push", "--oci-layout-path", layout)

    expected = [
        (PackageURL("pypi", None, found.metadata["Name"]).name, found.version)
        for found in importlib.metadata.distributions(path=[str(build.context / "site")])
    ]
    assert len(expected) > 20
    found = addresses(contents(in_layout(layout), tmp_path / "scratch"), "pypi")
    assert Counter((url.name, url.version) for url in found) == Counter(set(expected))


def test_bill_lists_what_rpm_installed(build: Build, busybox: str, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    packages = [rpm(tmp_path, name, files) for name, files in (("small", 1), ("large", 2000))]
    database = build.context / "rpm"
    quiet = ("--justdb", "--nodeps", "--nosignature", "--ignorearch")
    readers.output_of("rpm", f"--dbpath={database}", *quiet, "--install", *packages)
    readers.output_of("rpm", f"--dbpath={database}", *quiet[:2], "--erase", "small")
    readers.output_of("rpm", f"--dbpath={database}", *quiet, "--install", packages[0])
    build(
        f"FROM {busybox}\nCOPY rpm /usr/lib/sysimage/rpm\n",
        *("--no-push", "--oci-layout-path", layout),
    )
    expected = queried(database)
    assert len(expected) == 2
    assert rpms(layout, tmp_path) == expected


def test_bill_lists_what_rpm_lists_of_an_old_database(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    """RHEL 8 and Amazon Linux 2 have Berkeley DB's; today's rpm can only read it."""
    import sqlite3

    layout, made = tmp_path / "layout", tmp_path / "made"
    packages = [rpm(tmp_path, name, files) for name, files in (("small", 1), ("large", 2000))]
    quiet = ("--justdb", "--nodeps", "--nosignature", "--ignorearch")
    readers.output_of("rpm", f"--dbpath={made}", *quiet, "--install", *packages)
    with closing(sqlite3.connect(made / "rpmdb.sqlite")) as opened:
        headers = [header for (header,) in opened.execute("SELECT blob FROM Packages")]
    old = build.context / "rpm"
    old.mkdir()
    load(old / "Packages", headers)
    build(
        f"FROM {busybox}\nCOPY rpm /var/lib/rpm\n",
        *("--no-push", "--oci-layout-path", layout),
    )
    expected = queried(old, "--define=_db_backend bdb_ro")
    assert len(expected) == 2
    assert rpms(layout, tmp_path) == expected


def rpm(directory: Path, name: str, files: int) -> Path:
    """Make a package of that many empty files, and return its path."""
    spec = directory / f"{name}.spec"
    spec.write_text(_SPEC.format(name=name, files=files))
    top = directory / "rpmbuild"
    readers.output_of("rpmbuild", "--quiet", f"--define=_topdir {top}", "-bb", spec)
    [made] = top.glob(f"RPMS/noarch/{name}-*.rpm")
    return made


def queried(database: Path, *flags: str) -> list[tuple[str, ...]]:
    """Return the packages that rpm itself finds in *database*."""
    shown = "--queryformat=%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{EPOCH} %{SOURCERPM}\n"
    told = readers.output_of("rpm", f"--dbpath={database}", *flags, "--query", "--all", shown)
    return sorted(tuple(line.split()) for line in told.splitlines())


def rpms(layout: Path, tmp_path: Path) -> list[tuple[str, ...]]:
    """Return the packages that the bill of a layout's image lists."""
    found = addresses(contents(in_layout(layout), tmp_path / "scratch"), "rpm")
    keys = ("arch", "epoch", "upstream")
    return sorted((url.name, str(url.version), *(url.qualifiers[k] for k in keys)) for url in found)


def load(path: Path, headers: Sequence[bytes]) -> None:
    """Make a Berkeley DB hash as rpm had it: numbered headers, and the highest number under 0."""
    values = [struct.pack("<I", len(headers)), *headers]
    pairs = "".join(
        f" {struct.pack('<I', number).hex()}\n {value.hex()}\n"
        for number, value in enumerate(values)
    )
    text = f"VERSION=3\nformat=bytevalue\ntype=hash\nHEADER=END\n{pairs}DATA=END\n"
    subprocess.run(["db5.3_load", str(path)], input=text.encode(), check=True)


def test_two_bills_of_one_image_are_equal(tmp_path: Path) -> None:
    image = in_layout(images.debian_layout())
    assert contents(image, tmp_path / "a") == contents(image, tmp_path / "b")


# --- by the executor itself ---------------------------------------------------------------


def attestations(image: str, scratch: Path) -> dict[str, Any]:
    """Return the predicates of the one attestation manifest of *image*, by the kind of each."""
    [about] = [
        item
        for item in readers.manifest(image)["manifests"]
        if item.get("annotations", {}).get("vnd.docker.reference.type") == "attestation-manifest"
    ]
    name = image.rpartition(":")[0]
    said = blobs_of(f"{name}@{about['digest']}", scratch)
    return {item["predicateType"].rpartition("/")[2]: item["predicate"] for item in said}


def test_executor_attests_what_it_pushes(
    build: Build, debian: str, podman: Podman, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    build(
        f"FROM {debian} AS app\nARG VERSION\n"
        "RUN --mount=type=secret,id=key test $(cat /run/secrets/key) = hunter2\n"
        "RUN echo $VERSION > /word\nCMD cat /word\n",
        *("--provenance=mode=max,builder-id=https://ci.example/7", "--sbom", "--target=app"),
        *("--build-arg=VERSION=3", f"--secret=id=key,src={secret}"),
    )

    said = attestations(build.image, tmp_path / "blobs")
    definition = said["v1"]["buildDefinition"]
    base = readers.digest(debian).removeprefix("sha256:")
    assert [item["digest"] for item in definition["resolvedDependencies"]] == [{"sha256": base}]
    request = definition["externalParameters"]["request"]
    assert request["args"]["target"] == "app"
    assert request["args"]["build-arg:VERSION"] == "3"
    assert request["secrets"] == [{"id": "key"}]
    details = said["v1"]["runDetails"]
    assert details["builder"]["id"] == "https://ci.example/7"
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]
    assert len(addresses(said["Document"], "deb")) > 50
    assert "hunter2" not in json.dumps(said)
    assert podman.run(build.image) == "3\n"


def test_least_provenance_tells_no_value(build: Build, busybox: str, tmp_path: Path) -> None:
    build(
        f"FROM {busybox}\nARG TOKEN\nRUN true\n",
        *("--provenance=mode=min", "--build-arg=TOKEN=hunter2"),
    )
    said = attestations(build.image, tmp_path / "blobs")
    assert list(said) == ["v1"]
    assert "hunter2" not in json.dumps(said)
    assert "TOKEN" in json.dumps(said)


def test_reproducible_builds_are_attested_with_the_same_bytes(build: Build, busybox: str) -> None:
    def built() -> str:
        build(
            f"FROM {busybox}\nRUN echo x > /word\n",
            *("--provenance=true", "--sbom", "--reproducible"),
        )
        return readers.digest(build.image)

    assert built() == built()


def test_nothing_is_attested_by_default(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN true\n", "--provenance=false", "--sbom=false")
    assert "layers" in readers.manifest(build.image)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--provenance=much"], "--provenance: 'much' says nothing about provenance"),
        (["--provenance=version=v9"], "--provenance: version=v9 is not known"),
        (["--sbom", "--image-format=docker"], "--sbom does not go with --image-format=docker"),
        (["--sbom", "--tar-path=image.tar"], "--tar-path writes a docker-save tarball"),
    ],
)
def test_what_cannot_be_attested_is_refused_before_the_build(
    build: Build, busybox: str, flags: list[str], sentence: str
) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN echo this was run\n"})
    ended = build.programs.executor(
        *("--context", build.context, "--destination", build.image, *flags), check=False
    )
    assert ended.status != 0
    assert sentence in ended.stderr
    assert "this was run" not in ended.written
    assert "Traceback" not in ended.written
