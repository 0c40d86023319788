"""What the sandbox tests share."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaniko_core.sandbox.client import Mounted, Sandbox
from kaniko_core.sandbox.runner import Mount, Process
from tests.contracts.commands import Heard


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
        **how: Any,
    ) -> Heard:
        heard = Heard()
        with self.mount(*mounts, lowers=lowers) as root:
            self.sandbox.run(process(*argv, **how), root, heard)
        return heard

    def shell(self, script: str, **how: Any) -> str:
        return self.run("/bin/sh", "-c", script, **how).stdout.decode()

    def changed(self) -> list[str]:
        return sorted(str(p.relative_to(self.upper)) for p in self.upper.rglob("*"))


def process(*argv: str, **how: Any) -> Process:
    return Process(argv, env=("PATH=/bin", "HOME=/root"), **how)


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
