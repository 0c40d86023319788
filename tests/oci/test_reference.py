"""Names of images: what Docker says they mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.errors import UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference, Repository
from tests.conformance import cases

DIGEST = Digest.of(b"manifest")


@pytest.mark.parametrize(("given_", "expected"), cases("image-refs.json"))
def test_names_mean_what_docker_says(given_: dict[str, Any], expected: dict[str, Any]) -> None:
    if "error" in expected:
        with pytest.raises(UsageError):
            Reference.parse(given_["ref"])
        return
    reference = Reference.parse(given_["ref"])
    assert str(reference) == expected["string"]
    assert str(reference.with_default_tag) == expected["tag_name_only"]
    assert reference.familiar == expected["familiar"]
    assert reference.repository.registry == expected["domain"]
    assert reference.repository.path == expected["path"]
    assert reference.tag == expected.get("tag")
    assert (str(reference.digest) if reference.digest else None) == expected.get("digest")


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag"),
    [
        ("debian", "docker.io", "library/debian", None),
        ("debian:12", "docker.io", "library/debian", "12"),
        ("team/app", "docker.io", "team/app", None),
        ("docker.io/debian", "docker.io", "library/debian", None),
        ("index.docker.io/team/app", "docker.io", "team/app", None),
        ("localhost/app", "localhost", "app", None),
        ("localhost:5000/app:1", "localhost:5000", "app", "1"),
        ("registry.example.com/a/b/c:v1", "registry.example.com", "a/b/c", "v1"),
        ("[::1]:5000/app", "[::1]:5000", "app", None),
        ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", None),
    ],
)
def test_defaults_are_docker_hubs(text: str, registry: str, path: str, tag: str | None) -> None:
    assert Reference.parse(text) == Reference(Repository(registry, path), tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "app:",
        "app@",
        "app@sha256:short",
        "/app",
        "app/",
        "a//b",
        "../app",
        "registry.example.com/../app",
        "registry.example.com:port/app",
        "registry.example.com/",
        "https://registry.example.com/app",
        "app tag",
        "app\n",
        f"registry.example.com/app:1@{DIGEST}x",
        "a" * 64,
        "registry.example.com/" + "a" * 256,
        "app:" + "t" * 129,
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an image name"):
        Reference.parse(text)


def test_upper_case_is_explained() -> None:
    with pytest.raises(UsageError) as caught:
        Reference.parse("registry.example.com/Team/App")
    assert caught.value.hint == "repository names are lower-case"


def test_docker_hub_answers_under_another_name() -> None:
    assert Repository.parse("debian").host == "registry-1.docker.io"
    assert Repository.parse("quay.io/team/app").host == "quay.io"


@pytest.mark.parametrize("text", ["app:1", f"app@{DIGEST}"])
def test_repository_has_no_tag_and_no_digest(text: str) -> None:
    with pytest.raises(UsageError, match="where a repository is expected"):
        Repository.parse(text)


def test_manifest_is_asked_for_by_digest_then_tag_then_latest() -> None:
    assert Reference.parse(f"app:1@{DIGEST}").identifier == str(DIGEST)
    assert Reference.parse("app:1").identifier == "1"
    assert Reference.parse("app").identifier == "latest"


def test_default_tag_is_not_added_to_a_digest() -> None:
    reference = Reference.parse(f"app@{DIGEST}")
    assert reference.with_default_tag == reference


def test_at_a_digest_a_tag_means_nothing() -> None:
    assert Reference.parse("quay.io/app:1").at(DIGEST) == Reference.parse(f"quay.io/app@{DIGEST}")


def test_the_familiar_name_keeps_a_library_of_several_components() -> None:
    assert Reference.parse("library/a:1").familiar == "a:1"
    assert Reference.parse("docker.io/library/a/b").familiar == "library/a/b"


_COMPONENT = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+){0,2}", fullmatch=True)


@given(
    registry=st.sampled_from(["docker.io", "localhost", "host:5000", "r.example.com"]),
    path=st.lists(_COMPONENT, min_size=2, max_size=4).map("/".join),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.binary(max_size=2).map(Digest.of),
)
def test_full_names_are_read_as_they_were_written(
    registry: str, path: str, tag: str | None, digest: Digest | None
) -> None:
    reference = Reference(Repository(registry, path), tag, digest)
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
