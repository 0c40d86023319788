"""What ``--build-context`` names mean, and what they stand in for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.addresses.archives import WebFile
from kaniko_core.addresses.git import parse_git_reference
from kaniko_core.context.named import (
    ArchiveContext,
    GitContext,
    ImageContext,
    LayoutContext,
    LocalContext,
    NamedContext,
    NamedContexts,
    parse_named,
)
from kaniko_core.errors import UsageError
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
DIGEST = f"sha256:{'a' * 64}"


def image(name: str) -> ImageContext:
    return ImageContext(Reference.parse(name))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("../docs", LocalContext(Path("../docs"))),
        ("/srv/a:b", LocalContext(Path("/srv/a:b"))),
        ("dir:///srv", LocalContext(Path("/srv"))),
        ("httpdocs", LocalContext(Path("httpdocs"))),
        ("docker-image://debian", image("debian:latest")),
        ("docker-image://host:5000/a/b:1", image("host:5000/a/b:1")),
        (f"docker-image://debian@{DIGEST}", image(f"debian@{DIGEST}")),
        ("docker-image://scratch", ImageContext(None)),
        ("oci-layout://images", LayoutContext(Path("images"), "")),
        ("oci-layout:///srv/images:v1", LayoutContext(Path("/srv/images"), "v1")),
        (f"oci-layout://./images@{DIGEST}", LayoutContext(Path("./images"), DIGEST)),
        (f"oci-layout://images:v1@{DIGEST}", LayoutContext(Path("images"), DIGEST)),
        ("https://example.com/a.tar.gz", ArchiveContext(WebFile("https://example.com/a.tar.gz"))),
        ("HTTP://example.com/a", ArchiveContext(WebFile("HTTP://example.com/a"))),
    ],
)
def test_value_says_of_which_kind_it_is(value: str, expected: NamedContext) -> None:
    assert parse_named("x", value) == expected


@pytest.mark.parametrize(
    "address",
    [
        "git://example.com/a",
        "ssh://git@example.com/a",
        "git@example.com:a/b.git#main:docs",
        "someone@example.com:a",
        "github.com/moby/buildkit",
        "https://example.com/a.git",
        "https://example.com/a.git#v1:docs",
        "https://example.com/a.git?ref=v1&subdir=docs",
    ],
)
def test_git_repositories_are_known_by_their_address(address: str) -> None:
    reference = parse_git_reference(address)
    assert reference is not None
    assert parse_named("x", address) == GitContext(reference)


@pytest.mark.parametrize(
    "address",
    ["https://example.com/a.git/file", "https://example.com/a?x=.git", "./github.com/a", "a/git@b"],
)
def test_other_addresses_are_none_of_git(address: str) -> None:
    assert not isinstance(parse_named("x", address), GitContext)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("target:base", "target of docker buildx bake"),
        ("ftp://host/x", "ftp:// is not supported"),
        ("s3:///x", "names no bucket"),
        ("tar://", "names no file"),
        ("docker-image://UP/CASE", "is not an image name"),
        ("oci-layout://", "is not an image in an OCI layout"),
        ("oci-layout://images:", "is not an image in an OCI layout"),
        ("oci-layout://images@sha256:1", "is not a digest"),
        ("dir://", "names nothing"),
    ],
)
def test_value_that_cannot_be_used_names_the_context(value: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=f"the build context x: .*{complaint}") as caught:
        parse_named("x", value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("base", "base"),
        ("Base", "bAsE"),
        ("alpine", "alpine:latest"),
        ("docker.io/library/alpine:latest", "alpine"),
        ("alpine:3.19", "docker.io/alpine:3.19"),
        ("host:5000/a", "host:5000/a:latest"),
    ],
)
def test_spellings_of_one_name_are_one_name(name: str, asked: str) -> None:
    contexts = NamedContexts.parse([(name, "docs")])
    assert contexts.find(asked, AMD64) == LocalContext(Path("docs"))


def test_other_names_stand_for_nothing() -> None:
    contexts = NamedContexts.parse([("alpine:3.19", "docs")])
    for name in ("alpine", "alpine:3.20", "example.com/alpine:3.19", "not a name", "", "$x"):
        assert contexts.find(name, AMD64) is None


def test_context_for_the_platform_comes_first() -> None:
    contexts = NamedContexts.parse([("a::linux/aarch64", "arm"), ("a", "any")])
    assert contexts.find("a", ARM64) == LocalContext(Path("arm"))
    assert contexts.find("a", AMD64) == LocalContext(Path("any"))
    only = NamedContexts.parse([("a::linux/arm64", "arm")])
    assert only.find("a", AMD64) is None


def test_later_value_of_a_name_counts() -> None:
    contexts = NamedContexts.parse([("a", "one"), ("a:latest", "two")])
    assert contexts.find("a", AMD64) == LocalContext(Path("two"))


def test_names_are_there_or_not() -> None:
    assert not NamedContexts()
    assert not NamedContexts.parse([])
    assert NamedContexts.parse([("a", "b")])
    assert NamedContexts().find("a", AMD64) is None


@pytest.mark.parametrize("name", ["not a name", "-a", "a::", "a::no-such-os"])
def test_name_that_can_be_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        NamedContexts.parse([(name, "docs")])
