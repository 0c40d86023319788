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
from kaniko_core.oci.reference import Reference
from kaniko_core.progress import silent
from kaniko_core.registry.client import Registry
from kaniko_core.registry.download import Downloads
from tests.samples import image, layer

REFERENCE = Reference.parse("registry.example/base:1")


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


def test_only_remote_layers_are_spooled(tmp_path: Path) -> None:
    local = write_layer([], tmp_path / "blob", docker=False)
    far = layer({"a": b"b"})
    with Registry() as registry:
        downloads = Downloads(registry._session, silent)
        remote = downloads.layer(REFERENCE, far.descriptor, far.diff_id)
        built = image(local, remote)  # type: ignore[arg-type]
        kept = spooled(built, lambda: tmp_path / "0")
    assert kept.layers[0] is local
    assert isinstance(kept.layers[1], SpooledLayer)
    assert kept.digest == built.digest
