"""A layer that is read twice is fetched once."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.builder.spool import SpooledLayer, spooled
from kaniko_core.errors import DigestMismatch
from kaniko_core.oci.layer import write_layer
from tests.samples import image, layer


def test_fetched_once_by_several_threads(tmp_path: Path) -> None:
    fetched: list[bytes] = []

    def source(data: bytes) -> BinaryIO:
        fetched.append(data)
        return io.BytesIO(data)

    remote = layer({"a": b"b"}, source=source)
    kept = SpooledLayer(remote, tmp_path / "0")

    def read() -> bytes:
        with kept.open() as stream:
            return stream.read()

    with ThreadPoolExecutor(4) as pool:
        results = {future.result() for future in [pool.submit(read) for _ in range(8)]}
    assert results == {remote.data}
    assert len(fetched) == 1


def test_wrong_bytes_are_not_kept(tmp_path: Path) -> None:
    lying = layer({"a": b"b"}, source=lambda data: io.BytesIO(b"x" * len(data)))
    kept = SpooledLayer(lying, tmp_path / "0")
    with pytest.raises(DigestMismatch):
        kept.open()
    assert not (tmp_path / "0").exists()


def test_local_layers_are_left_as_they_are(tmp_path: Path) -> None:
    local = write_layer([], tmp_path / "blob", docker=False)
    remote = layer({"a": b"b"})
    kept = spooled(image(local, remote), lambda: tmp_path / "0")  # type: ignore[arg-type]
    assert kept.layers[0] is local
    assert isinstance(kept.layers[1], SpooledLayer)
