"""Layers of a cache behave as layers do, but for what they raise."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.errors import DigestMismatch
from kaniko_core.oci.layer import FileLayer, open_tar
from kaniko_core.steps.step import LostLayer
from kaniko_core.steps.watched import watched
from tests.steps.made import KEY, packed


def test_it_reads_as_the_layer_does(tmp_path: Path) -> None:
    layer = packed(tmp_path)
    data = layer.path.read_bytes()
    ours = watched(KEY, layer, "the place", lambda: False)
    assert (ours.descriptor, ours.diff_id) == (layer.descriptor, layer.diff_id)
    with ours.open() as stream:
        assert stream.readable()
        assert stream.read(5) == data[:5]
        assert stream.read() == data[5:]
        assert stream.read(1) == b""
    with ours.open() as stream, io.BytesIO() as copy:
        raw = stream
        assert isinstance(raw, io.RawIOBase)
        with io.BufferedReader(raw) as buffered:
            copy.write(buffered.read())
        assert copy.getvalue() == data
    with open_tar(ours) as tar, open_tar(layer) as other:
        assert tar.read() == other.read()


def test_file_that_is_damaged_is_lost_before_it_is_used(tmp_path: Path) -> None:
    layer = packed(tmp_path)
    layer.path.write_bytes(bytes(layer.descriptor.size))
    with pytest.raises(LostLayer, match="the place") as caught:
        watched(KEY, layer, "the place", lambda: False).open()
    assert caught.value.key == KEY
    assert isinstance(caught.value.__cause__, DigestMismatch)


def test_file_that_is_damaged_later_is_lost_too(tmp_path: Path) -> None:
    """It is checked once, not each time; but nobody gets wrong bytes."""
    layer = packed(tmp_path)
    ours = watched(KEY, layer, "the place", lambda: False)
    ours.open().close()
    layer.path.write_bytes(bytes(layer.descriptor.size))
    with ours.open() as stream, pytest.raises(LostLayer):
        stream.read()


def test_file_that_is_gone_is_lost(tmp_path: Path) -> None:
    layer: FileLayer = replace(packed(tmp_path), path=tmp_path / "gone")
    with pytest.raises(LostLayer, match="gone"):
        watched(KEY, layer, "the place", lambda: False).open()
