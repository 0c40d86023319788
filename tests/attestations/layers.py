"""Layers for tests of what is found in them: members in an order, links and whiteouts too."""

from __future__ import annotations

import gzip
import io
import tarfile

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.spec import Descriptor, MediaType
from tests.samples import BytesLayer

# A member: its content, or what makes it.
Member = bytes | tarfile.TarInfo


def made(*members: tuple[str, Member]) -> BytesLayer:
    """Return a layer of *members*, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo()
            info.name = name
            content = member if isinstance(member, bytes) else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    tar_bytes = buffer.getvalue()
    data = gzip.compress(tar_bytes, mtime=0)
    descriptor = Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(data), len(data))
    return BytesLayer(descriptor, Digest.of(tar_bytes), data)


def link(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def symlink(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def directory() -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = tarfile.DIRTYPE
    return info


def hole(size: int) -> tarfile.TarInfo:
    """A sparse file of that many bytes, all of them a hole."""
    info = tarfile.TarInfo()
    info.pax_headers = {"GNU.sparse.map": f"{size},0", "GNU.sparse.size": str(size)}
    return info
