"""What the sandbox tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kaniko_core.sandbox.client import Mounted, Sandbox
from kaniko_core.sandbox.runner import Mount, Process


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


@dataclass
class Workshop:
    """Runs commands, each in a mount of its own with a fresh upper directory."""

    sandbox: Sandbox
    directory: Path
    lowers: list[Path]
    upper: Path = Path()

    def mount(self, *mounts: Mount, lowers: list[Path] | None = None) -> Mounted:
        place = self.directory / str(len(list(self.directory.iterdir())))
        self.upper = place / "upper"
        for part in ("upper", "work"):
            (place / part).mkdir(parents=True)
        below = self.lowers if lowers is None else lowers
        return self.sandbox.mounted(below, upper=self.upper, work=place / "work", mounts=mounts)

    def run(
        self,
        *argv: str,
        mounts: tuple[Mount, ...] = (),
        lowers: list[Path] | None = None,
        **how: object,
    ) -> Heard:
        heard = Heard()
        with self.mount(*mounts, lowers=lowers) as root:
            self.sandbox.run(process(*argv, **how), root, heard)
        return heard

    def shell(self, script: str, **how: object) -> str:
        return self.run("/bin/sh", "-c", script, **how).stdout.decode()

    def changed(self) -> list[str]:
        return sorted(str(p.relative_to(self.upper)) for p in self.upper.rglob("*"))


def process(*argv: str, **how: object) -> Process:
    return Process(argv, env=("PATH=/bin", "HOME=/root"), **how)  # type: ignore[arg-type]


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


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class UserNamespace:
    """Commands for a new user namespace whose ids this process, as root, maps."""

    def __init__(self, table: str) -> None:
        self._table = table

    def __enter__(self) -> list[str]:
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--mount", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        for kind in ("uid", "gid"):
            Path(f"/proc/{self._holder.pid}/{kind}_map").write_text(self._table)
        return [
            "nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--setuid=0",
            "--setgid=0", "--",
        ]  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()
