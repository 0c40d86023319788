"""Digests, and the reader that does not end on wrong bytes."""

from __future__ import annotations

import hashlib
import io

import pytest

from kaniko_core.errors import DigestMismatch, UsageError
from kaniko_core.oci.digest import Digest, VerifyingReader, read_verified

DATA = b"some bytes of a layer" * 1000
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())


def reader(
    data: bytes = DATA, *, digest: Digest = DIGEST, size: int | None = len(DATA)
) -> VerifyingReader:
    return VerifyingReader(io.BytesIO(data), digest, size, "layer")


class Counting(io.BytesIO):
    """Counts how many bytes were asked for."""

    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size > 0
        self.asked += size
        return super().read(size)


@pytest.mark.parametrize("text", [f"sha256:{'a' * 64}", f"sha512:{'0' * 128}"])
def test_digests_are_written_as_they_were_read(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        f"sha256:{'a' * 63}",
        f"sha256:{'a' * 65}",
        f"sha256:{'A' * 64}",
        f"sha256:{'g' * 64}",
        f"sha512:{'a' * 64}",
        f"md5:{'a' * 32}",
        f"sha256:{'a' * 64}\n",
        f"sha256:{'a' * 64}/../..",
        f" sha256:{'a' * 64}",
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a digest") as caught:
        Digest.parse(text)
    assert caught.value.hint


def test_digest_of_bytes_is_their_sha256() -> None:
    assert Digest.of(DATA) == DIGEST
    assert Digest.of(memoryview(DATA)) == DIGEST


def test_short_form_is_what_people_know() -> None:
    assert DIGEST.short == DIGEST.hex[:12]


@pytest.mark.parametrize("size", [len(DATA), None])
def test_right_bytes_pass(size: int | None) -> None:
    assert reader(size=size).read() == DATA


@pytest.mark.parametrize("chunk", [1, 7, 4096, 10**6])
def test_right_bytes_pass_in_chunks_of_any_size(chunk: int) -> None:
    stream = reader()
    assert b"".join(iter(lambda: stream.read(chunk), b"")) == DATA


def test_reading_into_a_buffer_is_checked_too() -> None:
    buffered = io.BufferedReader(reader(DATA[:-1] + b"!"))
    with pytest.raises(DigestMismatch, match="has the digest"):
        buffered.read()


@pytest.mark.parametrize(
    ("data", "size", "words"),
    [
        (DATA[:-1], len(DATA), "instead of the promised"),
        (DATA + b"!", len(DATA), "longer than the promised"),
        (DATA[:-1] + b"!", len(DATA), "has the digest"),
        (DATA[:-1], None, "has the digest"),
        (b"", len(DATA), "has 0 bytes"),
    ],
)
def test_wrong_bytes_do_not_end(data: bytes, size: int | None, words: str) -> None:
    with pytest.raises(DigestMismatch, match=f"layer .*{words}"):
        reader(data, size=size).read()


def test_endless_content_is_not_read_beyond_its_promised_size() -> None:
    source = Counting(bytes(10**6))
    with pytest.raises(DigestMismatch):
        VerifyingReader(source, DIGEST, 1000, "layer").read()
    assert source.asked <= 1001


def test_empty_content_has_a_digest_too() -> None:
    assert reader(b"", digest=Digest.of(b""), size=0).read() == b""


def test_asking_for_nothing_proves_nothing() -> None:
    stream = reader(b"wrong")
    assert stream.read(0) == b""


def test_sha512_is_verified_as_such() -> None:
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())
    assert reader(digest=digest).read() == DATA
    with pytest.raises(DigestMismatch, match="sha512:"):
        reader(DATA[:-1] + b"!", digest=digest).read()


def test_source_is_closed_with_its_reader() -> None:
    source = io.BytesIO(DATA)
    with VerifyingReader(source, DIGEST, None, "layer"):
        pass
    assert source.closed


def test_bytes_in_memory_are_verified() -> None:
    assert read_verified(DATA, DIGEST, "manifest") == DATA
    with pytest.raises(DigestMismatch, match="manifest has the digest"):
        read_verified(b"other", DIGEST, "manifest")
