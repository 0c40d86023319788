"""What ``--context`` may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.addresses.archives import BucketObject, Store, TarFile, WebFile
from kaniko_core.addresses.git import GitReference
from kaniko_core.addresses.url import shown
from kaniko_core.context.location import parse_location
from kaniko_core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/workspace", Path("/workspace")),
        ("dir:///workspace", Path("/workspace")),
        (".", Path()),
        ("tar:///a/b.tar.gz", TarFile(Path("/a/b.tar.gz"))),
        ("tar://b.tar", TarFile(Path("b.tar"))),
        ("tar://stdin", TarFile(None)),
        ("s3://bucket/a/b.tar.gz", BucketObject(Store.S3, "bucket", "a/b.tar.gz")),
        ("s3://bucket", BucketObject(Store.S3, "bucket", "context.tar.gz")),
        ("gs://bucket/", BucketObject(Store.GCS, "bucket", "context.tar.gz")),
        ("az://container/blob", BucketObject(Store.AZURE, "container", "blob")),
        (
            "https://acc0unt.blob.core.windows.net/container/a%20b.tar?sig=s",
            BucketObject(
                Store.AZURE, "container", "a b.tar", "acc0unt.blob.core.windows.net", "sig=s"
            ),
        ),
        ("https://example.com/c.tar.gz", WebFile("https://example.com/c.tar.gz")),
    ],
)
def test_forms(text: str, location: object) -> None:
    assert parse_location(text) == location


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/code.git",
        "git://example.com/code",
        "git@example.com:team/code",
        "ssh://git@example.com/code",
        "https://example.com/code.git#main:sub",
    ],
)
def test_repositories(text: str) -> None:
    assert isinstance(parse_location(text), GitReference)


def test_what_is_there_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(parse_location("github.com/team/code"), GitReference)
    Path("github.com/team/code").mkdir(parents=True)
    assert parse_location("github.com/team/code") == Path("github.com/team/code")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ftp://example.com/c.tar", "ftp:// is not supported"),
        ("tar://", "names no file"),
        ("s3:///key", "names no bucket"),
        ("s3://id:key@bucket/c.tar", "s3://bucket/c.tar has more than a bucket and a key"),
        ("gs://bucket?token=x", "gs://bucket has more than a bucket and a key"),
        ("https://account.blob.core.windows.net/container", "names no blob"),
    ],
)
def test_others_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        parse_location(text)
    assert caught.value.hint


def test_a_signature_is_not_shown() -> None:
    location = parse_location("https://account.blob.core.windows.net/c/b.tar?sv=1&sig=SECRET")
    assert isinstance(location, BucketObject)
    assert "SECRET" not in f"{location.name} {location!r}"
    assert location.url.endswith("/c/b.tar?sv=1&sig=SECRET")
    assert location.account == "account"


@pytest.mark.parametrize(
    "text", ["/home/me@work/c", "me@work", "a:b", "src/x?y", "/a:b/c", "C#/app", "./a:b@c"]
)
def test_paths_are_said_as_they_are(text: str) -> None:
    assert shown(text) == text
