"""What tests that run commands share."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Heard:
    """An output that remembers."""

    stdout: bytes = b""
    stderr: bytes = b""
    pieces: list[tuple[bytes, bool]] = field(default_factory=list)

    def __call__(self, data: bytes, is_stderr: bool, /) -> None:
        self.pieces.append((data, is_stderr))
        if is_stderr:
            self.stderr += data
        else:
            self.stdout += data


def busybox_root(root: Path) -> None:
    """Make the directory *root* a root with nothing but busybox in /bin."""
    program = shutil.which("busybox")
    assert program is not None
    root.chmod(0o755)
    (root / "bin").mkdir()
    shutil.copy(program, root / "bin/busybox")
    for name in subprocess.run([program, "--list"], check=True, capture_output=True).stdout.split():
        link = root / "bin" / name.decode()
        if not link.exists():
            link.symlink_to("busybox")


def processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(int(entry.name))
    return found


def children_of(pid: int) -> list[int]:
    """Return the children of process *pid*, zombies too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_bytes()
            except OSError:
                continue
            if int(status.rpartition(b")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
