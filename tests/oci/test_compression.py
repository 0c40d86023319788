"""Compression: any reader takes what we write; what others write comes whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.errors import ContentError, DigestMismatch
from kaniko_core.oci.compression import (
    BLOCK_SIZE,
    Compression,
    compressed,
    decompressed,
    decompressed_unbuffered,
)
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.spec import MediaType

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def text(size: int) -> bytes:
    """Return bytes that compress, but not to nothing."""
    chosen = random.Random(size)
    words = [chosen.randbytes(6).hex().encode() for _ in range(500)]
    data = b" ".join(chosen.choice(words) for _ in range(size // 13 + 1))
    return data[:size]


def packed(data: bytes, compression: Compression, level: int | None = None) -> bytes:
    return b"".join(compressed([data], compression, level))


def unpacked(data: bytes) -> bytes:
    with decompressed(io.BytesIO(data)) as stream:
        return stream.read()


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with ISA-L, and as on a machine that has no wheel of it."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", text(BLOCK_SIZE), text(BLOCK_SIZE + 1), text(3 * BLOCK_SIZE + 77)],
    ids=["empty", "one byte", "a block", "a block and a byte", "blocks"],
)
@pytest.mark.usefixtures("library")
def test_gzip_is_one_member_that_other_readers_take(data: bytes) -> None:
    blob = packed(data, Compression.GZIP)
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(blob) == data
    assert reader.eof
    assert reader.unused_data == b""
    assert unpacked(blob) == data


@pytest.mark.parametrize("level", [None, -1, 0, 1, 2, 3, 6, 9, 12])
@pytest.mark.usefixtures("library")
def test_every_gzip_level_gives_the_data_back(level: int | None) -> None:
    data = text(300_000)
    assert gzip.decompress(packed(data, Compression.GZIP, level)) == data


@pytest.mark.parametrize("level", [None, -1, 1, 3, 19, 22])
def test_every_zstd_level_gives_the_data_back(level: int | None) -> None:
    data = text(300_000)
    assert zstd.decompress(packed(data, Compression.ZSTD, level)) == data


def test_gzip_says_nothing_of_time_or_name() -> None:
    header = packed(b"data", Compression.GZIP)[:10]
    assert header == b"\x1f\x8b\x08" + bytes(6) + b"\xff"


@pytest.mark.parametrize("compression", list(Compression))
def test_output_does_not_depend_on_how_the_input_is_cut(compression: Compression) -> None:
    data = text(2 * BLOCK_SIZE + 5)
    pieces = [data[i : i + 70_001] for i in range(0, len(data), 70_001)]
    assert b"".join(compressed(pieces, compression)) == packed(data, compression)


def test_output_does_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    data = text(5 * BLOCK_SIZE)
    several = packed(data, Compression.GZIP)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert packed(data, Compression.GZIP) == several


def test_closing_early_ends_the_threads() -> None:
    before = threading.active_count()
    pieces = compressed((text(BLOCK_SIZE) for _ in range(20)), Compression.GZIP)
    assert isinstance(pieces, Iterator)
    next(pieces)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_of_the_input_comes_through() -> None:
    def failing() -> Iterator[bytes]:
        yield text(BLOCK_SIZE)
        raise ContentError("changed while it was read")

    with pytest.raises(ContentError, match="changed"):
        list(compressed(failing(), Compression.GZIP))


@pytest.mark.parametrize("name", PACKERS)
def test_formats_are_known_by_their_content(name: str) -> None:
    data = text(200_000)
    assert unpacked(PACKERS[name](data)) == data


@pytest.mark.parametrize("name", [*PACKERS, "plain"])
@pytest.mark.parametrize("read", [decompressed, decompressed_unbuffered])
def test_reads_may_have_any_size(name: str, read: Callable[[io.BytesIO], BinaryIO]) -> None:
    data = text(3 << 20)
    blob = PACKERS[name](data) if name in PACKERS else data
    with read(io.BytesIO(blob)) as stream:
        assert stream.read(0) == b""
        pieces = [stream.read(5), stream.read(100_000), stream.read(2 << 20)]
        assert all(pieces)
        assert b"".join([*pieces, stream.read()]) == data
        assert stream.read(1) == b""


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f", b"\x1f\x8b", text(100_000)])
def test_anything_else_is_plain(data: bytes) -> None:
    assert unpacked(data) == data


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.usefixtures("library")
def test_members_follow_each_other_and_padding_is_ignored(name: str) -> None:
    one, two = text(5000), text(70_000)
    blob = PACKERS[name](one) + PACKERS[name](two) + PACKERS[name](b"") + bytes(1024)
    assert unpacked(blob) == one + two


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.usefixtures("library")
def test_every_truncation_is_noticed(name: str) -> None:
    blob = PACKERS[name](text(3000))
    for length in range(6, len(blob), 41):
        with pytest.raises(ContentError, match=rf"the {name} data ends too early"):
            unpacked(blob[:length])


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.usefixtures("library")
def test_damage_is_noticed(name: str) -> None:
    blob = bytearray(PACKERS[name](text(30_000)))
    if name == "zstd":  # its frames have a checksum only if one was asked for
        options = {zstd.CompressionParameter.checksum_flag: 1}
        blob = bytearray(zstd.compress(text(30_000), options=options))
    blob[len(blob) // 2] ^= 0x10
    with pytest.raises(ContentError):
        unpacked(bytes(blob))


@pytest.mark.usefixtures("library")
def test_a_wrong_crc_is_noticed() -> None:
    blob = bytearray(gzip.compress(text(3000)))
    blob[-6] ^= 1
    with pytest.raises(ContentError, match="gzip data is damaged"):
        unpacked(bytes(blob))


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.usefixtures("library")
def test_garbage_after_the_end_is_refused(name: str) -> None:
    with pytest.raises(ContentError):
        unpacked(PACKERS[name](text(3000)) + b"garbage that is no member")


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.usefixtures("library")
def test_a_small_input_cannot_fill_the_memory(name: str) -> None:
    bomb = PACKERS[name](bytes(40 << 20))
    stream = decompressed_unbuffered(io.BytesIO(bomb))
    total = 0
    while chunk := stream.read(1 << 30):
        assert len(chunk) <= BLOCK_SIZE
        total += len(chunk)
    assert total == 40 << 20


def test_the_source_is_read_to_its_end() -> None:
    """A verifying source checks at its end; nobody may stop before."""
    blob = gzip.compress(b"content") + bytes(700_000)
    source = VerifyingReader(io.BytesIO(blob), Digest.of(b"other"), len(blob), "layer")
    with pytest.raises(DigestMismatch), decompressed(source) as stream:  # type: ignore[arg-type]
        stream.read()


def test_the_source_is_closed_with_the_stream() -> None:
    for blob in (b"plain", gzip.compress(b"packed")):
        source = io.BytesIO(blob)
        stream = decompressed_unbuffered(source)
        stream.close()
        stream.close()
        assert source.closed


@given(st.binary(max_size=5000), st.sampled_from(list(Compression)))
def test_what_is_compressed_comes_back(data: bytes, compression: Compression) -> None:
    if compression is not Compression.NONE:
        assert unpacked(packed(data, compression)) == data


@pytest.mark.parametrize(
    ("compression", "docker", "media_type"),
    [
        (Compression.NONE, False, MediaType.OCI_LAYER),
        (Compression.GZIP, False, MediaType.OCI_LAYER_GZIP),
        (Compression.ZSTD, False, MediaType.OCI_LAYER_ZSTD),
        (Compression.NONE, True, MediaType.DOCKER_LAYER),
        (Compression.GZIP, True, MediaType.DOCKER_LAYER_GZIP),
        (Compression.ZSTD, True, MediaType.OCI_LAYER_ZSTD),
    ],
)
def test_media_types(compression: Compression, docker: bool, media_type: str) -> None:
    assert compression.layer_media_type(docker) == media_type
    assert Compression.of_media_type(media_type) is compression


def test_foreign_layers_are_gzip() -> None:
    foreign = Compression.of_media_type(MediaType.DOCKER_FOREIGN_LAYER)
    assert foreign is Compression.GZIP
