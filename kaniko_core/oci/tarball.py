"""Docker-save tarballs, both ways.

    sha256:<config>     the image config
    <layer>.tar.gz      each layer once, compressed as it is
    …
    manifest.json       [{"Config": …, "RepoTags": […], "Layers": […]}]

All sizes are known from the descriptors before a byte of a layer is there, and so is the place
of everything in the tarball. Layers are therefore written where they belong, several at once,
straight from where they come from.

The media types and the manifest are not in the tarball. :func:`read_image` has them from its
caller and gives the image its true digest; :func:`read_tarball` makes a new manifest.

Sources: moby's image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format", and what
Go kaniko writes (plain ustar headers, mode 0644, owner 0, time 0).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from kaniko_core.errors import ContentError, UsageError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.atomic import replacing
from kaniko_core.oci.compression import Compression
from kaniko_core.oci.digest import Digest, read_verified
from kaniko_core.oci.image import Image, Layer
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import Descriptor, ImageConfig, Manifest, MediaType, dump

_BLOCK = 512
# Two zero blocks end a tar; tar(1) and Go pad no further.
_END = 2 * _BLOCK
_CHUNK = 1 << 20
_AT_ONCE = 4
# A config or a manifest.json beyond this is none (bytes).
_LARGEST_JSON = 32 << 20
_SUFFIXES = {Compression.NONE: ".tar", Compression.GZIP: ".tar.gz", Compression.ZSTD: ".tar.zst"}


def write_tarball(image: Image, path: Path, names: Sequence[Reference]) -> None:
    """Write *image* to *path* so that ``docker load`` gives it *names*; replaces atomically.

    Args:
        image: what; its layers are read, verified, and keep their compressed bytes.
        path: where to, in a directory that exists.
        names: RepoTags; one with a digest gives no name.

    Raises:
        DiskError: the disk refused.
        DigestMismatch: a layer is not what its descriptor says.
    """
    with disk_errors("write the image tarball", path), replacing(path) as stream:
        write_image(image, stream, names)


def write_image(image: Image, stream: BinaryIO, names: Sequence[Reference]) -> None:
    """Write the tarball of *image* into the empty file *stream*; see :func:`write_tarball`.

    Raises:
        OSError: the disk refused.
        DigestMismatch: a layer is not what its descriptor says.
    """
    members, size = _arrange(image, names)
    # What nobody writes to reads as zeros: the padding, and the two blocks of the end.
    os.ftruncate(stream.fileno(), size)
    for member in members:
        _write_at(stream.fileno(), member.header, member.offset - len(member.header))
    stop = threading.Event()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="layer") as pool:
        tasks = [pool.submit(_fill, stream.fileno(), m, stop) for m in members]
        try:
            # One failure is enough to give up, however long the others would take.
            for task in wait(tasks, return_when=FIRST_EXCEPTION).done:
                task.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of a tarball to be written: *offset* is where its content begins."""

    header: bytes
    offset: int
    content: bytes | Layer


def _arrange(image: Image, names: Sequence[Reference]) -> tuple[list[_Member], int]:
    layers = {_layer_name(layer.descriptor): layer for layer in image.layers}
    description = [
        {
            "Config": str(image.manifest.config.digest),
            # Go kaniko writes null for an image without names, and its readers expect it.
            "RepoTags": [str(n.with_default_tag) for n in names if n.digest is None] or None,
            "Layers": [_layer_name(layer.descriptor) for layer in image.layers],
        }
    ]
    files: list[tuple[str, int, bytes | Layer]] = [
        (str(image.manifest.config.digest), len(image.raw_config), image.raw_config),
        *((name, layer.descriptor.size, layer) for name, layer in layers.items()),
    ]
    listing = dump(description)
    files.append(("manifest.json", len(listing), listing))
    members = []
    position = 0
    for name, size, content in files:
        header = _header(name, size)
        members.append(_Member(header, position + len(header), content))
        position += len(header) + size + -size % _BLOCK
    return members, position + _END


def _layer_name(descriptor: Descriptor) -> str:
    return descriptor.digest.hex + _SUFFIXES[Compression.of_media_type(descriptor.media_type)]


def _header(name: str, size: int) -> bytes:
    import tarfile

    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    # Plain ustar as long as the fields hold it; PAX records only beyond 8 GiB.
    return info.tobuf(tarfile.PAX_FORMAT)


def _fill(descriptor: int, member: _Member, stop: threading.Event) -> None:
    if isinstance(member.content, bytes):
        _write_at(descriptor, member.content, member.offset)
        return
    layer, done = member.content, 0
    with layer.open() as source:
        while not stop.is_set() and (chunk := source.read(_CHUNK)):
            if done + len(chunk) > layer.descriptor.size:
                raise ContentError(f"layer {layer.descriptor.digest} is longer than it should be")
            _write_at(descriptor, chunk, member.offset + done)
            done += len(chunk)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@dataclass(frozen=True, slots=True)
class _Contents:
    """Where things are in a tarball, and the objects of its manifest.json."""

    path: Path
    files: Mapping[str, tuple[int, int]]
    images: tuple[Mapping[str, Any], ...]

    def read(self, name: str) -> bytes:
        """Return a small file's bytes."""
        offset, size = self.place(name)
        if size > _LARGEST_JSON:
            raise ContentError(f"{name} in {self.path} is {size} bytes long, too long to be true")
        with self.path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def place(self, name: str) -> tuple[int, int]:
        """Return offset and size of a file, in bytes."""
        try:
            return self.files[name]
        except KeyError:
            raise ContentError(
                f"{self.path} has no {name}, which its manifest.json names"
            ) from None


def read_image(path: Path, raw_manifest: bytes) -> Image:
    """Return the image of *raw_manifest*, whose config and layers are in the tarball *path*.

    Reads headers, the config and ``manifest.json`` only: milliseconds, whatever the size. The
    layers are slices of the tarball, verified when they are read.

    Raises:
        ContentError: the tarball is damaged, or not of this image.
        OSError: it cannot be read.
    """
    manifest = Manifest.parse(raw_manifest)
    contents = _scan(path)
    if len(contents.images) != 1:
        raise ContentError(f"{path} holds {len(contents.images)} images instead of one")
    config_name, layer_names = _names(contents.images[0], path)
    raw_config = read_verified(
        contents.read(config_name), manifest.config.digest, f"the image config in {path}"
    )
    diff_ids = ImageConfig.parse(raw_config).diff_ids
    if not len(layer_names) == len(manifest.layers) == len(diff_ids):
        raise ContentError(
            f"{path} has {len(layer_names)} layers, its manifest {len(manifest.layers)} "
            f"and its config {len(diff_ids)}"
        )
    layers = []
    for name, descriptor, diff_id in zip(layer_names, manifest.layers, diff_ids, strict=True):
        offset, size = contents.place(name)
        if size != descriptor.size:
            raise ContentError(
                f"{name} in {path} has {size} bytes instead of the {descriptor.size} "
                "that the manifest promises"
            )
        layers.append(FileLayer(path, descriptor, diff_id, offset))
    return Image.of(raw_manifest, raw_config, tuple(layers))


def read_tarball(path: Path, name: Reference | None = None) -> Image:
    """Return an image of a docker-save tarball, with a new manifest of Docker's media types.

    Understands what this module, Go kaniko, ``docker save``, podman and skopeo write. Compressed
    layers are read once, to learn their digests.

    Args:
        path: the tarball; it must stay where it is while the image is used.
        name: which image, by its RepoTags; None where there is one only.

    Raises:
        UsageError: there is no image of that name, or more than one and no name.
        ContentError: the tarball is damaged.
        DiskError: it cannot be read.
    """
    with disk_errors("read the image tarball", path):
        contents = _scan(path)
        config_name, layer_names = _names(_choose(contents, name), path)
        raw_config = contents.read(config_name)
        diff_ids = ImageConfig.parse(raw_config).diff_ids
        if len(diff_ids) != len(layer_names):
            raise ContentError(
                f"{path} has {len(layer_names)} layers, and its config lists {len(diff_ids)}"
            )
        layers = tuple(
            FileLayer(path, _describe(contents, layer, diff_id), diff_id, contents.place(layer)[0])
            for layer, diff_id in zip(layer_names, diff_ids, strict=True)
        )
    config = Descriptor(MediaType.DOCKER_CONFIG, Digest.of(raw_config), len(raw_config))
    manifest = Manifest(MediaType.DOCKER_MANIFEST, config, tuple(la.descriptor for la in layers))
    return Image.of(manifest.to_bytes(), raw_config, layers)


def _scan(path: Path) -> _Contents:
    files: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    # Imported here, because most images are read from elsewhere.
    import tarfile

    try:
        # Opened by name, tarfile would fail on the directory of an entry in the other form.
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                name = _normal(member.name)
                if member.isreg():
                    files[name] = (member.offset_data, member.size)
                elif member.issym():
                    # Old `docker save` has a repeated layer as a link to the first.
                    links[name] = _normal(f"{PurePosixPath(name).parent}/{member.linkname}")
                elif member.islnk():
                    links[name] = _normal(member.linkname)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ContentError(f"{path} is not a whole tarball: {error}") from error
    files |= {name: files[target] for name, target in links.items() if target in files}
    contents = _Contents(path, files, ())
    if "manifest.json" not in files:
        raise ContentError(f"{path} is not a whole image tarball: it has no manifest.json")
    return _Contents(path, files, _images(contents.read("manifest.json"), path))


def _normal(name: str) -> str:
    return os.path.normpath(name).lstrip("/")


def _images(raw: bytes, path: Path) -> tuple[Mapping[str, Any], ...]:
    try:
        images = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"manifest.json in {path} is not JSON: {error}") from error
    if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
        raise ContentError(f"manifest.json in {path} is not a list of images")
    return tuple(images)


def _names(image: Mapping[str, Any], path: Path) -> tuple[str, tuple[str, ...]]:
    config, layers = image.get("Config"), image.get("Layers") or []
    if not isinstance(config, str) or not all(isinstance(layer, str) for layer in layers):
        raise ContentError(f"manifest.json in {path} does not say where config and layers are")
    return _normal(config), tuple(_normal(layer) for layer in layers)


def _choose(contents: _Contents, name: Reference | None) -> Mapping[str, Any]:
    if name is None:
        if len(contents.images) != 1:
            raise UsageError(
                f"{contents.path} holds {len(contents.images)} images",
                hint=f"say which: {', '.join(_all_names(contents)) or 'none of them has a name'}",
            )
        return contents.images[0]
    for image in contents.images:
        if name.with_default_tag in map(_reference, image.get("RepoTags") or ()):
            return image
    raise UsageError(
        f"{contents.path} has no image named {name}",
        hint=f"it has {', '.join(_all_names(contents)) or 'only images without names'}",
    )


def _all_names(contents: _Contents) -> Iterator[str]:
    for image in contents.images:
        yield from map(str, image.get("RepoTags") or ())


def _reference(text: object) -> Reference | None:
    try:
        return Reference.parse(str(text)).with_default_tag
    except UsageError:
        return None


_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}


def _describe(contents: _Contents, name: str, diff_id: Digest) -> Descriptor:
    """Return a layer's descriptor, by its first bytes and, if it is compressed, all of them."""
    offset, size = contents.place(name)
    with contents.path.open("rb") as stream:
        stream.seek(offset)
        first = stream.read(min(4, size))
        compression = next(
            (kind for magic, kind in _MAGIC.items() if first.startswith(magic)), Compression.NONE
        )
        media_type = compression.layer_media_type(docker=True)
        if compression is Compression.NONE:
            return Descriptor(media_type, diff_id, size)
        state = hashlib.sha256(first)
        remaining = size - len(first)
        while remaining and (chunk := stream.read(min(_CHUNK, remaining))):
            state.update(chunk)
            remaining -= len(chunk)
    return Descriptor(media_type, Digest("sha256", state.hexdigest()), size)
