"""Small images for tests, whose layers are bytes in memory."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from kaniko_core.oci.digest import Digest, VerifyingReader
from kaniko_core.oci.image import Image, compose
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, ImageConfig, Manifest, MediaType

AMD64 = Platform("linux", "amd64")


@dataclass(frozen=True)
class BytesLayer:
    """A layer in memory; *source* stands in for the network where a test wants it to fail."""

    descriptor: Descriptor
    diff_id: Digest
    data: bytes = field(repr=False)
    source: Callable[[bytes], BinaryIO] = field(default=io.BytesIO, repr=False)

    def open(self) -> BinaryIO:
        return VerifyingReader(  # type: ignore[return-value]
            self.source(self.data), self.descriptor.digest, self.descriptor.size, "layer"
        )


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def attestation(about: Image) -> Image:
    """Make what BuildKit lists beside an image: an artifact, whose config is empty."""
    data = b'{"_type": "https://in-toto.io/Statement/v1"}'
    statement = Descriptor("application/vnd.in-toto+json", Digest.of(data), len(data))
    manifest = Manifest(
        MediaType.OCI_MANIFEST,
        Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2),
        (statement,),
        extra={
            "artifactType": "application/vnd.docker.attestation.manifest.v1+json",
            "subject": about.descriptor.to_json(),
        },
    )
    blobs = (BytesLayer(statement, statement.digest, data),)
    return Image(manifest.to_bytes(), b"{}", blobs)


def layer(
    files: dict[str, bytes],
    *,
    media_type: str = MediaType.OCI_LAYER_GZIP,
    source: Callable[[bytes], BinaryIO] = io.BytesIO,
) -> BytesLayer:
    tar = tar_of(files)
    data = gzip.compress(tar, mtime=0) if media_type.endswith("gzip") else tar
    return BytesLayer(
        Descriptor(media_type, Digest.of(data), len(data)), Digest.of(tar), data, source
    )


def image(
    *layers: BytesLayer,
    docker: bool = False,
    platform: Platform = AMD64,
    created: str = "2024-01-01T00:00:00Z",
) -> Image:
    layers = layers or (layer({"etc/motd": b"hello"}), layer({"bin/tool": noise(100_000)}))
    return compose(ImageConfig(platform, created=created), layers, docker=docker)


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes that do not compress, the same in each run."""
    return random.Random(seed).randbytes(size)
