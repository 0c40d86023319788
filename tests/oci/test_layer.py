"""Layers as files: one pass to write, every promise checked when read, nothing left behind."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pytest

from kaniko_core.errors import ContentError, DigestMismatch, DiskError
from kaniko_core.oci.archive import Entry, Kind, read_entries, tar_stream
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.layer import FileLayer, open_tar, recompress, write_layer
from kaniko_core.oci.spec import Descriptor, MediaType

CONTENT = os.urandom(3 << 20)
CHANGED = ContentError("changed while it was read")


def entries() -> list[Entry]:
    return [
        Entry(b"dir", Kind.DIRECTORY, 0o755),
        Entry(
            b"dir/file", Kind.FILE, 0o644, size=len(CONTENT), content=lambda: io.BytesIO(CONTENT)
        ),
        Entry(b"link", Kind.SYMLINK, 0o777, link=b"dir/file"),
    ]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("compression", list(Compression))
def test_a_layer_is_what_its_descriptor_says(compression: Compression, tmp_path: Path) -> None:
    layer = write_layer(entries(), tmp_path / "blob", compression=compression, docker=False)
    blob = (tmp_path / "blob").read_bytes()
    plain = b"".join(tar_stream(entries()))
    assert layer.descriptor == Descriptor(
        compression.layer_media_type(False), Digest.of(blob), len(blob)
    )
    assert layer.diff_id == Digest.of(plain)
    with layer.open() as stream:
        assert stream.read() == blob
    with open_tar(layer) as stream:
        assert stream.read() == plain


def test_docker_media_types_on_request(tmp_path: Path) -> None:
    layer = write_layer([], tmp_path / "blob", docker=True)
    assert layer.descriptor.media_type == MediaType.DOCKER_LAYER_GZIP


def test_the_same_entries_give_the_same_layer(tmp_path: Path) -> None:
    one = write_layer(entries(), tmp_path / "one", docker=False)
    two = write_layer(entries(), tmp_path / "two", docker=False)
    assert one.descriptor == two.descriptor


def test_progress_ends_with_the_size_of_the_tar(tmp_path: Path) -> None:
    done: list[int] = []
    write_layer(entries(), tmp_path / "blob", docker=False, moved=done.append)
    assert done == sorted(done)
    assert done[-1] == sum(len(chunk) for chunk in tar_stream(entries()))


@pytest.mark.parametrize("compression", list(Compression))
def test_a_failure_leaves_nothing(compression: Compression, tmp_path: Path) -> None:
    def failing() -> Iterator[Entry]:
        yield from entries()
        raise CHANGED

    with pytest.raises(ContentError, match="changed"):
        write_layer(failing(), tmp_path / "blob", compression=compression, docker=False)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot write the layer"):
        write_layer(entries(), tmp_path / "no/blob", docker=False)


def in_file(
    blob: bytes, path: Path, *, offset: int = 0, diff_id: Digest | None = None
) -> FileLayer:
    path.write_bytes(b"x" * offset + blob + b"what follows")
    descriptor = Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(blob), len(blob))
    return FileLayer(path, descriptor, diff_id or Digest.of(gzip.decompress(blob)), offset)


@pytest.mark.parametrize("offset", [0, 1, 512, 100_000])
def test_a_layer_may_lie_in_a_larger_file(offset: int, tmp_path: Path) -> None:
    layer = in_file(gzip.compress(b"content"), tmp_path / "f", offset=offset)
    with open_tar(layer) as stream:
        assert stream.read() == b"content"
    with layer.open() as stream:
        assert gzip.decompress(stream.read()) == b"content"


def test_a_layer_can_be_opened_several_times_at_once(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(CONTENT), tmp_path / "f")
    with open_tar(layer) as one, open_tar(layer) as two:
        one.read(1000)
        assert two.read() == CONTENT


def test_multi_member_layers_are_read_whole(tmp_path: Path) -> None:
    blob = gzip.compress(b"one") + gzip.compress(b"two") + bytes(512)
    layer = in_file(blob, tmp_path / "f", diff_id=Digest.of(b"onetwo"))
    with open_tar(layer) as stream:
        assert stream.read() == b"onetwo"


def test_a_changed_blob_is_noticed(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(CONTENT), tmp_path / "f")
    for wrong in (b"other", gzip.compress(CONTENT, 1)):
        descriptor = replace(layer.descriptor, digest=Digest.of(wrong))
        with pytest.raises(DigestMismatch), open_tar(replace(layer, descriptor=descriptor)) as tar:
            tar.read()


def test_a_shortened_blob_is_noticed(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(CONTENT), tmp_path / "f")
    os.truncate(layer.path, layer.descriptor.size - 1)
    with pytest.raises(DigestMismatch), open_tar(layer) as stream:
        stream.read()


def test_a_wrong_diff_id_is_noticed(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(b"content"), tmp_path / "f", diff_id=Digest.of(b"other"))
    with open_tar(layer) as stream, pytest.raises(DigestMismatch, match="the tar of layer"):
        stream.read()


def test_the_diff_id_is_checked_after_the_last_entry(tmp_path: Path) -> None:
    blob = gzip.compress(b"".join(tar_stream(entries())))
    layer = in_file(blob, tmp_path / "f", diff_id=Digest.of(b"other"))
    with open_tar(layer) as stream, pytest.raises(DigestMismatch):
        for _, content in read_entries(stream):
            content.read()


def test_damaged_compression_is_noticed(tmp_path: Path) -> None:
    blob = bytearray(gzip.compress(CONTENT))
    blob[len(blob) // 2] ^= 0xFF
    layer = in_file(bytes(blob), tmp_path / "f", diff_id=Digest.of(CONTENT))
    with open_tar(layer) as stream, pytest.raises(ContentError):
        stream.read()


def test_a_missing_blob_is_a_sentence(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(b""), tmp_path / "f")
    layer.path.unlink()
    with pytest.raises(DiskError, match="cannot read"):
        layer.open()
    with open_tar(layer) as stream, pytest.raises(DiskError, match="cannot read"):
        stream.read()


@dataclass
class _Watched:
    """A layer that knows whether its stream was closed."""

    descriptor: Descriptor
    diff_id: Digest
    stream: BinaryIO

    def open(self) -> BinaryIO:
        return self.stream


def watched(size: int) -> _Watched:
    blob = bytes(size)
    digest = Digest.of(blob)
    stream = VerifyingReader(io.BytesIO(blob), digest, size, "layer")
    return _Watched(Descriptor(MediaType.OCI_LAYER, digest, size), digest, stream)  # type: ignore[arg-type]


@pytest.mark.parametrize("read", [0, 1, 5 << 20])
def test_closing_early_ends_the_thread_and_closes_the_layer(read: int) -> None:
    layer = watched(40 << 20)
    stream = open_tar(layer)
    stream.read(read)
    stream.close()
    stream.close()
    assert layer.stream.closed


def test_forgetting_the_stream_closes_it() -> None:
    layer = watched(40 << 20)
    stream = open_tar(layer)
    stream.read(1)
    del stream
    gc.collect()
    assert layer.stream.closed


def test_a_buffer_may_be_put_on_top(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(CONTENT), tmp_path / "f")
    with io.BufferedReader(open_tar(layer)) as stream:  # type: ignore[type-var]
        assert stream.read(10) == CONTENT[:10]
        assert stream.read() == CONTENT[10:]


def test_reading_ahead_is_bounded() -> None:
    """A slow consumer must not let the layer pile up in memory."""
    layer = watched(64 << 20)
    with open_tar(layer) as stream:
        stream.read(1)
        threading.Event().wait(0.1)
        source = layer.stream._source  # type: ignore[attr-defined]
        assert source.tell() < 16 << 20


def test_reads_may_have_any_size(tmp_path: Path) -> None:
    layer = in_file(gzip.compress(CONTENT), tmp_path / "f")
    state = hashlib.sha256()
    sizes = iter([1, 0, 100, 1 << 22, 7] * 100_000)
    with open_tar(layer) as stream:
        for size in sizes:
            chunk = stream.read(size)
            assert len(chunk) <= size
            if size and not chunk:
                break
            state.update(chunk)
    assert state.hexdigest() == hashlib.sha256(CONTENT).hexdigest()


def test_the_contents_of_a_layer_do_not_tell_the_time(tmp_path: Path) -> None:
    def contents(name: str, seconds: int, *, mode: int = 0o644) -> Digest | None:
        made = [
            # More headers than one chunk of the tar holds, and one that is larger than a block.
            *(
                Entry(b"d%04d" % n, Kind.DIRECTORY, 0o755, mtime_ns=seconds * 10**9 * n)
                for n in range(3000)
            ),
            Entry("é".encode() * 90, Kind.DIRECTORY, 0o755, mtime_ns=seconds * 10**9),
            replace(entries()[1], mtime_ns=seconds * 10**9, mode=mode),
        ]
        layer = write_layer(made, tmp_path / name, docker=False, contents=True)
        assert layer.diff_id == Digest.of(b"".join(tar_stream(made)))
        return layer.contents

    first = contents("a", 1_000_000)
    assert first is not None
    assert contents("b", 2_000_000) == first
    assert contents("c", 1_000_000, mode=0o600) != first


def test_contents_are_found_out_only_where_they_are_wanted(tmp_path: Path) -> None:
    assert write_layer(entries(), tmp_path / "blob", docker=False).contents is None


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_layer_compressed_anew_is_the_same_tar(compression: Compression, tmp_path: Path) -> None:
    layer = write_layer(entries(), tmp_path / "blob", docker=True)
    other = recompress(layer, tmp_path / "other", compression=compression, level=None, docker=False)

    assert other.diff_id == layer.diff_id
    assert other.descriptor.media_type == compression.layer_media_type(docker=False)
    with open_tar(other) as stream:
        assert stream.read() == b"".join(tar_stream(entries()))
    again = recompress(
        other, tmp_path / "again", compression=Compression.GZIP, level=None, docker=True
    )
    assert again.descriptor == layer.descriptor


def test_a_damaged_layer_is_not_compressed_anew(tmp_path: Path) -> None:
    layer = write_layer(entries(), tmp_path / "blob", docker=False)
    layer.path.write_bytes(layer.path.read_bytes()[:-1] + b"x")
    with pytest.raises(ContentError):
        recompress(layer, tmp_path / "o", compression=Compression.ZSTD, level=None, docker=False)
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]
