"""Chunks put together on their way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kaniko_core.errors import RegistryError
from kaniko_core.remote.web.bodies import batched


def test_small_chunks_come_together_and_nothing_is_lost() -> None:
    chunks = [bytes([number % 256]) * 1000 for number in range(2000)]
    batches = list(batched(iter(chunks)))
    assert b"".join(batches) == b"".join(chunks)
    assert len(batches) < len(chunks) / 10


def test_what_came_before_an_error_counts() -> None:
    def broken() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise RegistryError("it broke off")

    batches = batched(broken())
    assert next(batches) == b"ab"
    with pytest.raises(RegistryError, match="broke off"):
        next(batches)


def test_nothing_is_nothing() -> None:
    assert list(batched(iter(()))) == []
