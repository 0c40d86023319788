"""Where images go, as users write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference
from kaniko_core.options import Destination, OutputOptions, UploadAddress
from kaniko_core.options.destinations import file_or_address
from kaniko_core.options.exports import Export, ExportKind
from kaniko_core.options.registry import client_type

APP = Reference.parse("registry.example.com/app:1")


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("registry.example.com/app:1", Destination(APP)),
        ("web=registry.example.com/app:1", Destination(APP, "web")),
        ("0=registry.example.com/app:1", Destination(APP, "0")),
        ("a.b_c-d=app", Destination(Reference.parse("app"), "a.b_c-d")),
    ],
)
def test_destination_may_name_a_stage(text: str, destination: Destination) -> None:
    assert Destination.parse(text) == destination


@pytest.mark.parametrize("text", ["=app", "web=", "web=App", "", "a=b=C"])
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Destination.parse(text)


def test_digest_cannot_be_pushed_to() -> None:
    with pytest.raises(UsageError, match="a destination has a tag"):
        Destination.parse(f"web={APP.at(Digest.of(b''))}")


@pytest.mark.parametrize("text", ["digest", "/dev/stdout", "./https:/x", "ftp://x/y"])
def test_most_are_files(text: str) -> None:
    assert file_or_address(text) == Path(text)


@pytest.mark.parametrize("text", ["https://example.com/a?signed", "HTTPS://example.com:8443/"])
def test_address_shows_its_host_and_no_more(text: str) -> None:
    address = file_or_address(text)
    assert address == UploadAddress(text)
    assert str(address) == "example.com"
    assert "signed" not in repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://example.com/",
        "https://",
        "https:///x",
        "https://[",
        "https://a/\n",
        "https://a:b/",
    ],
)
def test_what_nothing_can_be_sent_to_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        file_or_address(text)
    assert not text or text not in str(caught.value)


def test_names_need_destinations() -> None:
    for name in ("image_name_with_digest_file", "image_name_tag_with_digest_file"):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is for the names"):
            OutputOptions(no_push=True, **{name: Path("names")})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["digest_file", "metadata_file", "tar_path"])
def test_a_tar_has_standard_output_to_itself(name: str) -> None:
    to_stdout = (Export(ExportKind.TAR, None),)
    with pytest.raises(UsageError, match="and so does"):
        OutputOptions(output=to_stdout, **{name: Path("/dev/stdout")})  # type: ignore[arg-type]
    OutputOptions(output=to_stdout, **{name: Path("/dev/stderr")})  # type: ignore[arg-type]


def test_everything_that_is_written_is_known_beforehand() -> None:
    options = OutputOptions(
        destination=(Destination(APP),),
        tar_path=Path("a"),
        oci_layout_path=Path("b"),
        digest_file=Path("c"),
        image_name_with_digest_file=UploadAddress("https://example.com/"),
        image_name_tag_with_digest_file=Path("d"),
        metadata_file=Path("e"),
        builder_output=Path("f"),
    )
    assert set(options.written) == {Path(name) for name in ("a", "b", "c", "d", "e", "f/images")}


@pytest.mark.parametrize("text", ["a\nb", "\x7f", "ä"])
def test_client_type_fits_into_a_header(text: str) -> None:
    with pytest.raises(UsageError):
        client_type(text)
    assert client_type(" skaffold v2 ") == "skaffold v2"
