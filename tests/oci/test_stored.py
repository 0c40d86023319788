"""Noise is stored, everything else compressed; either way it is what it was."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.oci.compression import BLOCK_SIZE, Compression, compressed
from kaniko_core.oci.stored import is_noise, stored

NOISE = random.Random(8).randbytes(BLOCK_SIZE)


def deflated(block: bytes) -> bytes:
    stream = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(block) + stream.flush(zlib.Z_FULL_FLUSH)


@given(st.integers(0, 200_000))
def test_what_is_stored_can_be_inflated(size: int) -> None:
    found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored(NOISE[:size]))
    assert found == NOISE[:size]


def test_storing_costs_next_to_nothing() -> None:
    assert len(stored(NOISE)) < BLOCK_SIZE + 100


@pytest.mark.parametrize("size", [BLOCK_SIZE, BLOCK_SIZE // 2, BLOCK_SIZE - 1])
def test_noise_is_recognised(size: int) -> None:
    assert is_noise(NOISE[:size], deflated)


def test_a_header_between_noise_is_noise_too() -> None:
    assert is_noise(bytes(1024) + NOISE[1024:], deflated)


@pytest.mark.parametrize(
    "block",
    [
        bytes(BLOCK_SIZE),
        NOISE[: BLOCK_SIZE // 2] + bytes(BLOCK_SIZE // 2),
        NOISE[: 30 << 10] * 35,
        NOISE[: 400 << 10] + b"some text " * 20_000 + NOISE[600 << 10 :],
        NOISE[: BLOCK_SIZE // 2].hex().encode(),
        NOISE[:1000],
        b"",
    ],
    ids=["zeros", "half", "repeated", "text inside", "hex", "small", "nothing"],
)
def test_what_may_shrink_is_no_noise(block: bytes) -> None:
    assert not is_noise(block, deflated)


@pytest.mark.parametrize("level", [None, 1, 3, 9])
def test_noise_and_text_side_by_side_are_read_by_anyone(level: int | None) -> None:
    data = NOISE + b"some text " * 200_000 + NOISE + NOISE[:5000]
    packed = b"".join(compressed([data], Compression.GZIP, level))
    assert zlib.decompress(packed, zlib.MAX_WBITS | 16) == data
    assert len(packed) < 2 * BLOCK_SIZE + 100_000
    assert packed == b"".join(compressed([data[:700], data[700:]], Compression.GZIP, level))
