"""A container in which our executor builds in place, one build after another.

One container serves many tests: that builds follow each other in it and still give the images
that they give elsewhere is part of what is tested. A shell waits in it for jobs; what the tests
write below their temporary directory is there under the same name.
"""

from __future__ import annotations

import itertools
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.kaniko_images import kaniko_images
from integration.programs import Finished
from integration.readers import Podman
from integration.world import world_cache

EXECUTOR = "/kaniko/executor"

# Each line that comes through the pipe names a job's directory.
_LOOP = """
while read -r job; do
    sh "$job/script" > "$job/stdout" 2> "$job/stderr" < /dev/null
    echo $? > "$job/status.new"
    mv "$job/status.new" "$job/status"
done <> %s
"""
_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Container:
    """A running container; *jobs* is a directory that it sees too."""

    podman: Podman
    name: str
    jobs: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(
        self, *command: str | Path, env: Mapping[str, str] | None = None, check: bool = True
    ) -> Finished:
        """Run *command* to its end; a failure is an error unless *check* is False."""
        words = shlex.join(map(str, command))
        given = "".join(
            f"export {key}={shlex.quote(value)}\n" for key, value in (env or {}).items()
        )
        return self.shell(f"{given}exec {words}\n", check=check)

    def shell(self, script: str, *, check: bool = True) -> Finished:
        """Run a script of busybox's shell to its end."""
        job = self.jobs / str(next(self._numbers))
        job.mkdir()
        (job / "script").write_text(script)
        with (self.jobs / "pipe").open("r+b", buffering=0) as pipe:
            pipe.write(os.fsencode(job) + b"\n")
            self._await(job / "status")
        status = int((job / "status").read_text())
        done = Finished(
            status,
            (job / "stdout").read_text(errors="replace"),
            (job / "stderr").read_text(errors="replace"),
        )
        assert not check or status == 0, done.written
        return done

    def _await(self, path: Path) -> None:
        deadline = time.monotonic() + _SECONDS
        while not path.exists():
            assert time.monotonic() < deadline, f"{path.parent} is not done: {self.logs()}"
            time.sleep(0.01)

    def logs(self) -> str:
        """Return what the container's own shell said, and what its last job wrote."""
        last = max(self.jobs.glob("*/stderr"), key=lambda p: p.stat().st_mtime, default=None)
        return last.read_text(errors="replace") if last else ""


@contextmanager
def running_container(
    podman: Podman, directory: Path, *flags: str, visible: Path | None = None
) -> Iterator[Container]:
    """Start a container of our debug image with Docker's default rights, and end it.

    Args:
        podman: whose storage the image is put into.
        directory: for the container's jobs; the container sees it.
        flags: more for ``podman run``.
        visible: another directory that the container sees under its own name.
    """
    image = kaniko_images().load(podman, "debug")
    jobs = directory / "jobs"
    jobs.mkdir(parents=True)
    os.mkfifo(jobs / "pipe")
    shared = {jobs, visible} if visible and visible not in jobs.parents else {visible or jobs}
    name = podman(
        *("run", "--detach", "--log-driver=none", "--cgroups=disabled"),
        *("--network=host", "--entrypoint=/kaniko/busybox/sh"),
        *(f"--volume={path}:{path}" for path in shared),
        f"--volume={world_cache()}:{world_cache()}:ro",
        *flags,
        *(image, "-c", _LOOP % shlex.quote(str(jobs / "pipe"))),
    ).strip()
    try:
        yield Container(podman, name, jobs)
    finally:
        podman("rm", "--force", "--time=0", name)
