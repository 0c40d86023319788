"""OCI image layout directories: several images, each blob once, named by its digest.

    oci-layout             {"imageLayoutVersion": "1.0.0"}
    index.json             the images, by name
    blobs/sha256/<hex>     manifests, configs and layers

Blobs appear whole or not at all, before ``index.json`` names them.

Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from kaniko_core.errors import ContentError, disk_errors
from kaniko_core.oci.atomic import make_directory, replacing
from kaniko_core.oci.digest import Digest, read_verified
from kaniko_core.oci.image import Image, Layer, listed_artifact, with_oci_types
from kaniko_core.oci.index import ImageIndex, index_with_oci_types
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import DEFAULT_TAG, Reference, Repository
from kaniko_core.oci.spec import Descriptor, Index, Manifest, MediaType, dump

_NAME = "org.opencontainers.image.ref.name"
# containerd and BuildKit put the whole reference here, and only the tag in the other.
_FULL_NAME = "io.containerd.image.name"
_CHUNK = 1 << 20
_AT_ONCE = 4


class LayoutStore:
    """An :class:`~kaniko_core.oci.image.ImageStore` in a directory; made by the first put.

    Images are named by tag, as ``skopeo copy oci:directory:tag`` and umoci do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        """Return the image of that name or digest for *platform*, or None.

        Raises:
            ContentError: the layout is damaged.
            DiskError: it cannot be read.
        """
        with disk_errors("read the OCI layout", self._path):
            found = next(
                (item for item in self._index().manifests if _is_named(item, reference)), None
            )
            return None if found is None else self.load(found.digest, platform)

    def listed(self) -> tuple[Descriptor, ...]:
        """Return what the layout lists, in its order: images, and indexes of them.

        Raises:
            ContentError: there is no layout, or it is damaged.
            DiskError: it cannot be read.
        """
        with disk_errors("read the OCI layout", self._path):
            if not (self._path / "index.json").exists():
                raise ContentError(f"{self._path} is not an OCI layout: it has no index.json")
            return self._index().manifests

    def load(self, digest: Digest, platform: Platform) -> Image | None:
        """Return the image *digest*, or the one for *platform* in the index *digest*.

        None where the index has none for it.

        Raises:
            ContentError: a blob is missing, or not what its digest says.
            DiskError: it cannot be read.
        """
        with disk_errors("read the OCI layout", self._path):
            index = _as_index(self._read(digest, None))
            if index is None:
                return self.read(digest)
            found = index.select(platform)
            # An index may list others: each names what it lists by digest, so this ends.
            return None if found is None else self.load(found.digest, platform)

    def read(self, digest: Digest) -> Image:
        """Return the image whose manifest has *digest*; its layers are read when opened.

        Raises:
            ContentError: a blob is missing, or not what its digest says.
            OSError: it cannot be read.
        """
        raw_manifest = self._read(digest, None)
        manifest = Manifest.parse(raw_manifest)
        raw_config = self._read(manifest.config.digest, manifest.config.size)
        image = Image(raw_manifest, raw_config, ())
        if len(image.config.diff_ids) != len(manifest.layers):
            raise ContentError(f"the config and the manifest {digest} differ in their layers")
        layers = tuple(
            FileLayer(self._present(layer), layer, diff_id)
            for layer, diff_id in zip(manifest.layers, image.config.diff_ids, strict=True)
        )
        return Image.of(raw_manifest, raw_config, layers)

    def read_any(self, digest: Digest) -> Image | ImageIndex:
        """Return the image *digest*, or the index *digest* with all the images that it lists.

        Raises:
            ContentError: a blob is missing, or not what its digest says.
            DiskError: it cannot be read.
        """
        with disk_errors("read the OCI layout", self._path):
            raw = self._read(digest, None)
            index = _as_index(raw)
            if index is None:
                return self.read(digest)
            return ImageIndex.of(raw, [self._listed(item.digest) for item in index.manifests])

    def _listed(self, digest: Digest) -> Image:
        artifact = listed_artifact(
            self._read(digest, None),
            lambda layer: FileLayer(self._present(layer), layer, layer.digest),
        )
        return artifact or self.read(digest)

    def put(
        self,
        reference: Reference | None,
        image: Image,
        *,
        mount_from: tuple[Repository, ...] = (),
    ) -> None:
        """Store *image* under the tag of *reference*; what had that name before loses it.

        A layout is OCI's, and its readers (skopeo, umoci) accept no other media types: an image
        with Docker's is stored with OCI's. Config and layers are the same, the digest is not.

        Args:
            reference: names the image; None gives it no name.
            image: what; blobs that are there already are not read.
            mount_from: not used here.

        Raises:
            DiskError: the disk refused.
            DigestMismatch: a layer is not what its descriptor says.
        """
        image = with_oci_types(image)
        entry = replace(image.descriptor, platform=image.config.platform)
        with disk_errors("write the OCI layout", self._path):
            self._write((image,))
            with self._locked():
                self._list(_named(entry, reference))

    def put_index(self, reference: Reference | None, index: ImageIndex) -> None:
        """Store *index*, and all images that it lists, under the tag of *reference*.

        All of them have OCI's media types then, as in :meth:`put`.

        Raises:
            DiskError: the disk refused.
            DigestMismatch: a layer is not what its descriptor says.
        """
        index = index_with_oci_types(index)
        with disk_errors("write the OCI layout", self._path):
            self._write(index.images)
            self._write_blob(index.digest, index.raw)
            with self._locked():
                self._list(_named(index.descriptor, reference))

    def _write(self, images: Sequence[Image]) -> None:
        """Write all blobs of *images*, their manifests after what these name."""
        make_directory(self._path)
        unique = {layer.descriptor.digest: layer for image in images for layer in image.layers}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="blob") as pool:
            # The list is what raises a failure of one of them.
            list(pool.map(self._write_layer, unique.values()))
        for image in images:
            self._write_blob(image.manifest.config.digest, image.raw_config)
            self._write_blob(image.digest, image.raw_manifest)

    def _list(self, entry: Descriptor) -> None:
        """Add *entry* to ``index.json``, in the place of an older one of its name."""
        marker = self._path / "oci-layout"
        if not marker.exists():
            with replacing(marker) as stream:
                stream.write(dump({"imageLayoutVersion": "1.0.0"}))
        index = self._index()
        others = [
            item
            for item in index.manifests
            if item.annotations.get(_NAME) != entry.annotations.get(_NAME)
        ]
        with replacing(self._path / "index.json") as stream:
            stream.write(replace(index, manifests=(*others, entry)).to_bytes())

    def _index(self) -> Index:
        try:
            return Index.parse((self._path / "index.json").read_bytes())
        except FileNotFoundError:
            return Index(MediaType.OCI_INDEX, ())

    def _blob(self, digest: Digest) -> Path:
        return self._path / "blobs" / digest.algorithm / digest.hex

    def _read(self, digest: Digest, size: int | None) -> bytes:
        try:
            raw = self._blob(digest).read_bytes()
        except FileNotFoundError:
            raise ContentError(f"{self._path} has no blob {digest}") from None
        if size is not None and len(raw) != size:
            raise ContentError(f"{digest} in {self._path} has {len(raw)} bytes instead of {size}")
        return read_verified(raw, digest, f"{digest} in {self._path}")

    def _present(self, layer: Descriptor) -> Path:
        path = self._blob(layer.digest)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise ContentError(f"{self._path} has no layer {layer.digest}") from None
        if size != layer.size:
            raise ContentError(
                f"layer {layer.digest} in {self._path} has {size} bytes instead of {layer.size}"
            )
        return path

    def _write_layer(self, layer: Layer) -> None:
        path = self._blob(layer.descriptor.digest)
        if path.exists() and path.stat().st_size == layer.descriptor.size:
            return
        make_directory(path.parent)
        with layer.open() as source, replacing(path) as target:
            shutil.copyfileobj(source, target, _CHUNK)

    def _write_blob(self, digest: Digest, data: bytes) -> None:
        path = self._blob(digest)
        make_directory(path.parent)
        with replacing(path) as target:
            target.write(data)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing ``index.json`` between our reading and writing it."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _named(descriptor: Descriptor, reference: Reference | None) -> Descriptor:
    name = {} if reference is None else {_NAME: reference.tag or DEFAULT_TAG}
    return replace(descriptor, annotations=name)


def tags_of(item: Descriptor) -> tuple[str, ...]:
    """Return the names that a layout lists *item* under: a tag, a whole reference, both."""
    names = (item.annotations.get(_NAME), item.annotations.get(_FULL_NAME))
    return tuple(name for name in names if name)


def _as_index(raw: bytes) -> Index | None:
    """Return *raw* as an index; None where it is anything else."""
    with suppress(ContentError):
        return Index.parse(raw)
    return None


def _is_named(item: Descriptor, reference: Reference) -> bool:
    if reference.digest is not None:
        return item.digest == reference.digest
    wanted = reference.with_default_tag
    return str(wanted) in tags_of(item) or item.annotations.get(_NAME) == wanted.tag
