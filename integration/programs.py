"""kaniko-executor and kaniko-warmer as their users start them: processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.world import REPOSITORY

_SECONDS = 600.0
# Not KANIKO_…: our programs warn of such variables that they do not know.
_MARK = "TEST_MARK"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left: its exit status and all that it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def written(self) -> str:
        """Everything that it wrote."""
        return self.stdout + self.stderr


@dataclass(frozen=True, slots=True)
class Programs:
    """Starts our programs with every directory that they may write below *directory*."""

    directory: Path

    @property
    def work(self) -> Path:
        """The executor's ``--kaniko-dir``."""
        return self.directory / "kaniko"

    @property
    def temporary(self) -> Path:
        """The programs' ``TMPDIR``."""
        return self.directory / "tmp"

    def executor(
        self, *arguments: str | Path, check: bool = True, env: Mapping[str, str] | None = None
    ) -> Finished:
        """Run kaniko-executor to its end; a failure is an error unless *check* is False."""
        return finished(self.start_executor(*arguments, env=env), check=check)

    def warmer(
        self, *arguments: str | Path, check: bool = True, env: Mapping[str, str] | None = None
    ) -> Finished:
        """Run kaniko-warmer to its end; a failure is an error unless *check* is False."""
        return finished(self.start("kaniko_warmer", *arguments, env=env), check=check)

    def start_executor(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start kaniko-executor over plain HTTP and return its process."""
        self.work.mkdir(parents=True, exist_ok=True)
        flags = ("--insecure", "--insecure-pull", f"--kaniko-dir={self.work}")
        return self.start("kaniko_executor", *arguments, *flags, env=env)

    def start(
        self,
        module: str,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m MODULE ARGUMENTS``, after *prefix* such as ``unshare --mount``."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            # CI may run us with signals ignored, which a shell at a terminal never does.
            [
                "env",
                "--default-signal",
                *prefix,
                sys.executable,
                "-m",
                module,
                *map(str, arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.environment(env or {}),
            # As a shell does, so that Ctrl-C can be sent to the whole group.
            start_new_session=True,
        )

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of our programs, and *more*."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error::ResourceWarning",
            "HOME": str(self.directory),
            "TMPDIR": str(self.temporary),
            _MARK: str(self.directory),
            **more,
        }

    def leftovers(self) -> list[str]:
        """List processes, mounts and temporary files that a program left behind."""
        return [
            *(f"process {line}" for line in self.processes()),
            *(f"mount {line}" for line in self._mounts()),
            *(f"file {path}" for top in (self.work, self.temporary) for path in _files(top)),
        ]

    def processes(self, *also: str) -> list[str]:
        """List running processes that our programs started, or whose command line has *also*."""
        found = []
        mark = f"{_MARK}={self.directory}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                marked = mark in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # ended meanwhile
            line = command.replace(b"\0", b" ").decode(errors="replace")
            # The sandbox server has no environment; its arguments name a directory below ours.
            ours = marked or str(self.directory) in line
            if command and (ours or any(word in line for word in also)):
                found.append(f"{entry.name}: {line}")
        return found

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(self.directory) in line]


def _files(top: Path) -> list[Path]:
    return sorted(top.rglob("*")) if top.exists() else []


def finished(process: subprocess.Popen[bytes], *, check: bool = True) -> Finished:
    """Wait for *process*; what it wrote is part of the error if it fails."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=_SECONDS)
        except BaseException:
            process.kill()
            raise
    result = Finished(
        process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace")
    )
    if check and result.status != 0:
        raise AssertionError(f"exit status {result.status}:\n{result.written}")
    return result


def said(done: Finished, *words: str) -> str:
    """Check that a program failed with one sentence that has *words*, and return it."""
    assert done.status != 0, done.written
    assert "Traceback" not in done.written, done.written
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(sentences) == 1, done.written
    at = done.stderr.index(sentences[0])
    for word in words:
        assert word in done.stderr[at:], f"{word!r} is not in:\n{done.stderr[at:]}"
    return sentences[0]


@dataclass(frozen=True, slots=True)
class Build:
    """Builds Dockerfiles of a test in one context; the image is pushed to one destination."""

    programs: Programs
    context: Path
    image: str

    def __call__(
        self,
        dockerfile: str,
        *flags: str | Path,
        files: Mapping[str, str | bytes] | None = None,
        check: bool = True,
    ) -> Finished:
        """Write the Dockerfile and *files* into the context, build, and push to ``image``."""
        self.fill({"Dockerfile": dockerfile, **(files or {})})
        return self.programs.executor(*self.arguments, *flags, check=check)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The flags that every build of this context has."""
        return (f"--context={self.context}", f"--destination={self.image}")

    def fill(self, files: Mapping[str, str | bytes]) -> None:
        """Write *files* below the context; a name that ends in ``/`` is a directory."""
        for name, content in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            elif isinstance(content, str):
                path.write_text(content)
            else:
                path.write_bytes(content)
