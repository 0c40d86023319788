"""What growth is measured on: base images, build contexts and Dockerfiles of any size.

Images are another with layers on top, as OCI layouts that are made here, without our own code.
All content is the same in every run. Half of it is noise and half is text, so that it compresses
to about half, as programs do.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isal import igzip_threaded

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

FILES_PER_DIRECTORY = 100
_TEXT_BYTES = 200  # of each of many files, on average
_BLOCK_BYTES = 1 << 20
_OLD = 1_600_000_000  # seconds: before anything that a build writes
_WORDS = b"container image layer digest manifest registry instruction stage context ".split()
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

Members = Callable[[tarfile.TarFile], None]


class Content:
    """So many bytes, half noise and half text, that are never in memory or on disk at once."""

    def __init__(self, size: int) -> None:
        self._left = size
        chance = random.Random(size)
        half = _BLOCK_BYTES // 2
        text = b" ".join(chance.choices(_WORDS, k=half // 4))
        self._block = chance.randbytes(half) + text[:half]
        self._at = 0

    def read(self, size: int = _BLOCK_BYTES, /) -> bytes:
        """Return *size* bytes, or as many as are left."""
        wanted = min(size, self._left)
        self._left -= wanted
        pieces = []
        while wanted:
            piece = self._block[self._at : self._at + wanted]
            pieces.append(piece)
            self._at = (self._at + len(piece)) % _BLOCK_BYTES
            wanted -= len(piece)
        return b"".join(pieces)


def texts(count: int) -> Iterable[tuple[str, bytes]]:
    """Yield *count* relative names and small contents, a hundred to a directory."""
    chance = random.Random(count)
    for number in range(count):
        words = chance.choices(_WORDS, k=chance.randrange(_TEXT_BYTES // 4))
        yield (
            f"{number // FILES_PER_DIRECTORY:04}/file-{number:06}.txt",
            b"%d " % number + b" ".join(words),
        )


# --- members of layers --------------------------------------------------------------------------


def many_files(count: int) -> Members:
    """Return what adds *count* small files below ``tree``."""

    def add(archive: tarfile.TarFile) -> None:
        for number, (name, content) in enumerate(texts(count)):
            if number % FILES_PER_DIRECTORY == 0:
                directory = f"tree/{name.split('/', maxsplit=1)[0]}"
                archive.addfile(_member(directory, tarfile.DIRTYPE, 0o755))
            member = _member(f"tree/{name}", tarfile.REGTYPE, 0o644)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    return add


def one_file(size: int) -> Members:
    """Return what adds one file of *size* bytes."""

    def add(archive: tarfile.TarFile) -> None:
        member = _member("large.bin", tarfile.REGTYPE, 0o644)
        member.size = size
        archive.addfile(member, Content(size))

    return add


def numbered_file(number: int) -> Members:
    """Return what adds one small file, which no other number adds."""

    def add(archive: tarfile.TarFile) -> None:
        content = b"layer %d\n" % number
        member = _member(f"etc/layer-{number}", tarfile.REGTYPE, 0o644)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))

    return add


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, _OLD
    return member


# --- images -------------------------------------------------------------------------------------


def image(below: Path, layers: Iterable[Members], layout: Path) -> Path:
    """Write an OCI layout of the image in *below*, another, with *layers* on top; return it."""
    index = json.loads((below / "index.json").read_text())
    manifest = _read(below, index["manifests"][0]["digest"])
    config = _read(below, manifest["config"]["digest"])
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for there in manifest["layers"]:
        shutil.copy(below / "blobs" / there["digest"].replace(":", "/"), blobs)
    for members in layers:
        descriptor, diff_id = layer(members, blobs)
        manifest["layers"].append(descriptor)
        config["rootfs"]["diff_ids"].append(diff_id)
        config["history"].append({"created": "2024-01-01T00:00:00Z", "created_by": __name__})
    manifest["config"] |= _blob(blobs, config)
    index["manifests"][0] |= _blob(blobs, manifest)
    (layout / "index.json").write_text(json.dumps(index))
    shutil.copy(below / "oci-layout", layout)
    return layout


class _Hashed(io.RawIOBase):
    """Hashes what is written, and passes it on."""

    def __init__(self, below: SupportsWrite[bytes]) -> None:
        super().__init__()
        self.hash = hashlib.sha256()
        self._below = below

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.hash.update(data)
        self._below.write(data)
        return len(data)


def layer(members: Members, blobs: Path) -> tuple[dict[str, object], str]:
    """Write a layer among *blobs*; return its descriptor and its diff ID."""
    partial = blobs / "partial"
    # isal has no types.
    packer = igzip_threaded.open(partial, "wb", compresslevel=1, threads=1)  # type: ignore[no-untyped-call]
    with packer as packed:
        plain = _Hashed(packed)
        with tarfile.open(fileobj=plain, mode="w|", bufsize=_BLOCK_BYTES) as archive:
            archive.copybufsize = _BLOCK_BYTES  # type: ignore[attr-defined]
            members(archive)
    with partial.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    blob = partial.rename(blobs / digest)
    descriptor = {
        "mediaType": _LAYER_TYPE,
        "digest": f"sha256:{digest}",
        "size": blob.stat().st_size,
    }
    return descriptor, f"sha256:{plain.hash.hexdigest()}"


def _read(layout: Path, digest: str) -> dict[str, Any]:
    value = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
    assert isinstance(value, dict)
    return value


def _blob(blobs: Path, content: object) -> dict[str, object]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


# --- build contexts -----------------------------------------------------------------------------


def copied_files(context: Path, count: int) -> None:
    """Write a context that copies *count* small files."""
    for number, (name, content) in enumerate(texts(count)):
        path = context / "tree" / name
        if number % FILES_PER_DIRECTORY == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(content)
    dockerfile(context, ["FROM ${BASE}", "COPY tree /tree"])


def copied_bytes(context: Path, size: int) -> None:
    """Write a context that copies one file of *size* bytes."""
    with (context / "large.bin").open("wb") as file:
        content = Content(size)
        while block := content.read(_BLOCK_BYTES):
            file.write(block)
    dockerfile(context, ["FROM ${BASE}", "COPY large.bin /large.bin"])


def made_files(context: Path, count: int) -> None:
    """Write a context whose RUN makes *count* small files, a hundred to a directory."""
    directories = count // FILES_PER_DIRECTORY
    script = (
        f"mkdir /made && cd /made && i=0 && while [ $i -lt {directories} ]; do mkdir $i; j=0; "
        f"while [ $j -lt {FILES_PER_DIRECTORY} ]; do echo file $i $j > $i/$j; j=$((j+1)); done; "
        "i=$((i+1)); done"
    )
    dockerfile(context, ["FROM ${BASE}", f"RUN {script}"])


def one_run(context: Path, _: int) -> None:
    """Write a context that looks at every file of its base, for a single RUN."""
    dockerfile(context, ["FROM ${BASE}", "RUN echo one > /one"])


def runs(context: Path, count: int) -> None:
    """Write a context with *count* RUNs of one file each."""
    dockerfile(context, ["FROM ${BASE}", *(f"RUN echo {n} > /file-{n}" for n in range(count))])


def stages(context: Path, count: int) -> None:
    """Write a context with *count* stages of one RUN each, and one that copies from all."""
    lines: list[str] = []
    for number in range(count):
        lines += [f"FROM ${{BASE}} AS stage-{number}", f"RUN echo {number} > /made"]
    copies = (f"COPY --from=stage-{n} /made /file-{n}" for n in range(count))
    dockerfile(context, [*lines, "FROM ${BASE}", *copies])


def chained_stages(context: Path, count: int) -> None:
    """Write a context with *count* stages of one RUN each, every one on top of the one before."""
    lines: list[str] = []
    for number in range(count):
        below = f"stage-{number - 1}" if number else "${BASE}"
        lines += [f"FROM {below} AS stage-{number}", f"RUN echo {number} > /file-{number}"]
    dockerfile(context, lines)


def mixed_steps(context: Path, count: int) -> None:
    """Write a context with *count* steps that make layers: one of five is a RUN, the rest COPY."""
    lines = ["FROM ${BASE}"]
    for number in range(count):
        if number % 5 == 0:
            lines.append(f"RUN echo {number} > /made-{number}")
        else:
            (context / f"file-{number}").write_text(f"{number}\n")
            lines.append(f"COPY file-{number} /copied/")
    dockerfile(context, lines)


def dockerfile(context: Path, lines: Iterable[str]) -> None:
    """Write a Dockerfile whose base is the argument ``BASE``."""
    (context / "Dockerfile").write_text("\n".join(("ARG BASE", *lines, "")))
