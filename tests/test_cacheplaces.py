"""What --export-cache and --import-cache say, in the words of BuildKit's client."""

from __future__ import annotations

import pytest

from kaniko_core.cacheplaces import CacheExport, CacheImport, cache_export, cache_import
from kaniko_core.errors import UsageError
from kaniko_core.oci.reference import Reference

APP = CacheImport(Reference.parse("registry.example.com/team/app:1"))


@pytest.mark.parametrize("text", ["type=inline", "TYPE=inline", "type=inline,mode=min"])
def test_inline_is_exported(text: str) -> None:
    assert cache_export(text) is CacheExport.INLINE


@pytest.mark.parametrize(
    "text",
    [
        "type=registry,ref=registry.example.com/team/app:1",
        "type=inline,ref=registry.example.com/team/app:1",
        "ref=registry.example.com/team/app:1,type=inline",
        '"type=inline","ref=registry.example.com/team/app:1"',
        "registry.example.com/team/app:1",
    ],
)
def test_image_is_imported_from(text: str) -> None:
    assert cache_import(text) == APP


@pytest.mark.parametrize("text", ["type=inline", "type=registry"])
def test_first_destination_is_imported_from_where_no_image_is_named(text: str) -> None:
    assert cache_import(text) == CacheImport(None)


@pytest.mark.parametrize("kind", ["registry", "local", "gha", "s3", "azblob", "Inline", "x"])
def test_other_kinds_are_not_exported(kind: str) -> None:
    with pytest.raises(UsageError, match=f"type={kind}, only with type=inline"):
        cache_export(f"type={kind},ref=a/b")


@pytest.mark.parametrize("kind", ["local", "gha", "s3", "azblob", "Registry", "x"])
def test_other_kinds_are_not_imported(kind: str) -> None:
    with pytest.raises(UsageError, match=f"type={kind}, only with type=inline or type=registry"):
        cache_import(f"type={kind},src=a")


def test_local_kind_has_a_hint_to_what_is_near_to_it() -> None:
    with pytest.raises(UsageError) as caught:
        cache_import("type=local,src=/cache")
    assert caught.value.hint == "--cache-repo takes a directory, too"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--export-cache: '' has no key and value"),
        ("inline", "--export-cache: 'inline' has no key and value"),
        ("=inline", "--export-cache: '=inline' has no key and value"),
        ("mode=min", "--export-cache: 'mode=min' has no type"),
        ("type=", "--export-cache: 'type=' has no type"),
        ("type=inline,type=inline", "--export-cache: type is given twice"),
        ("type=inline,mode=max", "an inline cache cannot have mode=max"),
        ("type=inline,mode=medium", "the mode of an inline cache can only be min"),
        ("type=inline,ref=a/b", "an inline cache has no ref"),
        ("type=inline,b=1,a=2", "--export-cache: a, b is not known here"),
        ('type="inline"', "has a quote inside a field"),
    ],
)
def test_export_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cache_export(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not an image name"),
        ("Not An Image", "is not an image name"),
        ("type=inline,ref=", "'' is not an image name"),
        ("type=registry,ref=a/b:::", "is not an image name"),
        ("ref=a/b", "--import-cache: 'ref=a/b' has no type"),
        ("type=registry,ref=a/b,ref=c", "--import-cache: ref is given twice"),
        ("type=registry,ref=a/b,mode=max", "--import-cache: mode is not known here"),
        ("a/b,c/d", "--import-cache: 'a/b' has no key and value"),
    ],
)
def test_import_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cache_import(text)
    assert message in str(caught.value)
