from __future__ import annotations

import pytest

from kaniko_core.attestations.materials import Dependency, published
from kaniko_core.attestations.purl import image_url, package_url
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

ARM = Platform("linux", "arm", "v7")
DIGEST = Digest.of(b"something")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("alpine:3.17", "pkg:docker/alpine@3.17?platform=linux%2Farm%2Fv7"),
        ("alpine", "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7"),
        ("docker.io/o/r:1", "pkg:docker/o/r@1?platform=linux%2Farm%2Fv7"),
        ("ghcr.io/o/r/s:1", "pkg:docker/ghcr.io/o/r/s@1?platform=linux%2Farm%2Fv7"),
        (
            f"o/r@{DIGEST}",
            f"pkg:docker/o/r?digest=sha256%3A{DIGEST.hex}&platform=linux%2Farm%2Fv7",
        ),
    ],
)
def test_images_have_the_addresses_that_buildkit_gives_them(name: str, url: str) -> None:
    assert image_url(Reference.parse(name), ARM) == url


def test_addresses_of_packages_can_be_read_again() -> None:
    from packageurl import PackageURL

    url = package_url("deb", "debian", "libstdc++6", "1:12~rc+b1", {"upstream": "gcc@1:2", "x": ""})
    read = PackageURL.from_string(url)
    assert (read.name, read.version) == ("libstdc++6", "1:12~rc+b1")
    assert read.qualifiers == {"upstream": "gcc@1:2"}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://u:p@github.com/o/r.git#main:sub", "https://github.com/o/r.git#main:sub"),
        ("https://h/r.git?ref=v1&subdir=a", "https://h/r.git#v1:a"),
        ("git@github.com:o/r.git#v1", "git@github.com:o/r.git#v1"),
        ("ssh://git:secret@h/r.git", "ssh://git@h/r.git"),
        ("https://u:p@h/a.tar.gz?signature=s", "https://h/a.tar.gz"),
        ("http://u:p@proxy:3128", "http://proxy:3128"),
        ("socks5://u:p@proxy:1", "socks5://proxy:1"),
        ("u:p@proxy:3128", ""),
        ("https://[u:p@h", ""),
        ("proxy:3128", "proxy:3128"),
    ],
)
def test_addresses_are_published_without_secrets(address: str, shown: str) -> None:
    assert published(address) == shown


def test_dependencies_have_the_digest_of_their_kind() -> None:
    commit = "1" * 40
    made = [
        Dependency.image(Reference.parse("alpine"), DIGEST, ARM),
        Dependency.layout("base", DIGEST, ARM),
        Dependency.git("https://u:p@h/r.git", commit),
        Dependency.git("https://h/r.git", "2" * 64),
        Dependency.http("https://u:p@h/f?token=t", DIGEST),
    ]
    sha256 = {"sha256": DIGEST.hex}
    assert [item.to_json() for item in made] == [
        {"uri": "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7", "digest": sha256},
        {"uri": "pkg:oci/base?platform=linux%2Farm%2Fv7", "digest": sha256},
        {"uri": "https://h/r.git", "digest": {"sha1": commit}},
        {"uri": "https://h/r.git", "digest": {"sha256": "2" * 64}},
        {"uri": "https://h/f", "digest": sha256},
    ]
