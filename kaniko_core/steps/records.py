"""Small named documents in a directory."""

from __future__ import annotations

from pathlib import Path

from kaniko_core.errors import disk_errors
from kaniko_core.oci.atomic import make_directory, replacing


def read_record(directory: Path, name: str) -> bytes | None:
    """Return what is kept as *name*, or None; raise DiskError where it cannot be read."""
    with disk_errors("read from the cache", directory):
        try:
            return (directory / name).read_bytes()
        except FileNotFoundError:
            return None


def write_record(directory: Path, name: str, data: bytes) -> None:
    """Keep *data* as *name*, unless the same is there; raise DiskError where that cannot be."""
    if read_record(directory, name) == data:
        return
    with disk_errors("write to the cache", directory):
        make_directory(directory)
        with replacing(directory / name) as file:
            file.write(data)
