"""Base images, made without our own code and kept in the world cache as OCI layouts.

    <world cache>/
    ├── busybox/           Debian's busybox-static, a symlink for each applet
    ├── busybox-arm64/     the same for another architecture than most machines have
    ├── qemu-aarch64/      Debian's emulator of that one
    ├── debian/            Debian bookworm, minbase, with ca-certificates; apt works in RUN
    ├── large/             the same with compilers and interpreters: about 50,000 entries
    └── <name>.lock        held while one of them is being made

They are pushed to a registry with skopeo.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from integration.world import Registry, world_cache

_SUITE = "bookworm"
_LARGE = "ca-certificates,build-essential,python3-dev,python3-pip,git,vim,curl,npm"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 1 << 20
_EMULATOR = "qemu-aarch64-static"
_OLD = 1_600_000_000  # seconds: a time that no test mistakes for its own

# Options of the machine's apt that the one inside the image needs to reach the same mirrors.
_APT_OPTIONS = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")


def busybox_layout() -> Path:
    """Return the layout of the busybox image, made if need be."""
    return _kept("busybox", _make_busybox)


def foreign_layout() -> Path:
    """Return the layout of a busybox image for arm64, made if need be."""
    return _kept(
        "busybox-arm64",
        lambda layout: _make_busybox(
            layout, _unpacked("busybox-static", "bin/busybox", "arm64"), "arm64"
        ),
    )


def emulator() -> Path:
    """Return a program that runs those of arm64 on this machine, fetched if need be."""

    def make(directory: Path) -> None:
        directory.mkdir()
        program = directory / "qemu"
        program.write_bytes(_unpacked("qemu-user-static", f"usr/bin/{_EMULATOR}"))
        program.chmod(0o755)

    return _kept("qemu-aarch64", make) / "qemu"


def debian_layout() -> Path:
    """Return the layout of the small Debian image, made if need be (about 25 seconds)."""
    return _kept("debian", lambda layout: _make_debian(layout, "ca-certificates"))


def large_layout() -> Path:
    """Return the layout of the large Debian image, made if need be (a few minutes)."""
    return _kept("large", lambda layout: _make_debian(layout, _LARGE))


def push(layout: Path, registry: Registry, repository: str, *, docker: bool = False) -> str:
    """Push the image of *layout* and return its reference; in Docker's media types if asked."""
    reference = f"{registry.address}/{repository}"
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"]
    if docker:
        command += ["--format", "v2s2"]
    if registry.passwords is not None:
        command += [f"--dest-creds={registry.passwords.user}:{registry.passwords.password}"]
    subprocess.run([*command, f"oci:{layout}:latest", f"docker://{reference}"], check=True)
    return reference


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the layout *name* of the world cache; only one process makes it, the others wait."""
    cache = world_cache()
    layout = cache / name
    with FileLock(cache / f"{name}.lock"):
        if not (layout / "index.json").exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as scratch:
                made = Path(scratch) / "layout"
                make(made)
                shutil.rmtree(layout, ignore_errors=True)
                made.rename(layout)
    return layout


def _unpacked(package: str, name: str, architecture: str = "") -> bytes:
    """Return a file of a Debian package, which is not installed."""
    with tempfile.TemporaryDirectory() as scratch:
        tar = Path(scratch) / "root.tar"
        options = [f"--aptopt={line}" for line in _apt_options()]
        if architecture:
            options.append(f"--architectures={architecture}")
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={package}", *options]
        subprocess.run(
            [*command, _SUITE, str(tar)], check=True, env={**os.environ, "TMPDIR": scratch}
        )
        with tarfile.open(tar) as archive:
            stream = archive.extractfile(f"./{name}")
            assert stream is not None, name
            return stream.read()


def _make_busybox(layout: Path, program: bytes = b"", architecture: str = "") -> None:
    program = program or Path("/bin/busybox").read_bytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, mode in _BUSYBOX_DIRECTORIES:
            archive.addfile(_member(name, tarfile.DIRTYPE, mode))
        member = _member("bin/busybox", tarfile.REGTYPE, 0o755)
        member.size = len(program)
        archive.addfile(member, io.BytesIO(program))
        applets = subprocess.run(
            ["/bin/busybox", "--list"], check=True, capture_output=True, text=True
        ).stdout.split()
        for applet in applets:
            if applet != "busybox":
                link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
                link.linkname = "busybox"
                archive.addfile(link)
        for name, text in _BUSYBOX_FILES.items():
            member = _member(name, tarfile.REGTYPE, 0o644)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    tar.seek(0)
    write_layout(layout, tar, {"Env": [_PATH], "Cmd": ["sh"]}, architecture)


_BUSYBOX_DIRECTORIES = (
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("var", 0o755),
)
_BUSYBOX_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    "web:x:1234:2345:web:/home:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\nweb:x:2345:\nstaff:x:50:web\n",
}


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, _OLD
    return member


def _make_debian(layout: Path, packages: str) -> None:
    """Run mmdebstrap; its options for apt stay in the image, so that apt works inside RUN."""
    tar = layout.parent / "root.tar"
    options = [f"--aptopt={line}" for line in _apt_options()]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", *options]
    subprocess.run(
        [*command, _SUITE, str(tar)], check=True, env={**os.environ, "TMPDIR": str(layout.parent)}
    )
    with tar.open("rb") as stream:
        write_layout(layout, stream, {"Env": [_PATH], "Cmd": ["bash"]})
    tar.unlink()


def _apt_options() -> list[str]:
    dump = subprocess.run(["apt-config", "dump"], check=False, capture_output=True, text=True)
    return [line for line in dump.stdout.splitlines() if line.startswith(_APT_OPTIONS)]


def write_layout(
    layout: Path,
    tar: io.BufferedIOBase | io.BytesIO,
    config: Mapping[str, object],
    architecture: str = "",
) -> None:
    """Write an OCI layout with one layer, tagged ``latest``."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    diff_id = hashlib.sha256()
    partial = blobs / "partial"
    with partial.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
        while chunk := tar.read(_CHUNK):
            diff_id.update(chunk)
            stream.write(chunk)
    with partial.open("rb") as compressed:
        digest = hashlib.file_digest(compressed, "sha256").hexdigest()
    layer = partial.rename(blobs / digest)
    raw_config = _blob(
        blobs,
        "application/vnd.oci.image.config.v1+json",
        {
            "architecture": architecture or _architecture(),
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id.hexdigest()}"]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "integration/images.py"}],
        },
    )
    manifest = _blob(
        blobs,
        "application/vnd.oci.image.manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": raw_config,
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": f"sha256:{digest}",
                    "size": layer.stat().st_size,
                }
            ],
        },
    )
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def _blob(blobs: Path, media_type: str, content: object) -> dict[str, object]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
