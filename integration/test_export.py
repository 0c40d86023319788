"""The files of built images as a directory or a tar, as BuildKit's ``--output`` writes them."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, Finished, Programs, finished, said
from integration.readers import Node
from integration.rebuilds import Rebuild
from integration.world import Registry

# What RUN leaves of every kind, in several layers.
_DOCKERFILE = """\
FROM {base} AS base
RUN mkdir -m 750 /made && echo old > /made/file && echo gone > /made/gone \\
 && ln -s /made/file /made/link && chown 5:6 /made/file && mkfifo -m 622 /made/pipe
RUN rm /made/gone && echo newer > /made/file && chmod 4711 /made/file && rm -r /home \\
 && touch -d '2001-02-03 04:05:06' /made/dated && ln /made/dated /made/same
"""


def _tree(root: Path) -> dict[str, Node]:
    return {str(path.relative_to(root)): Node.at(path) for path in sorted(root.rglob("*"))}


def _as_ours(tree: dict[str, Node]) -> dict[str, Node]:
    """Return *tree* as it is where everything belongs to root."""
    bits = stat.S_ISUID | stat.S_ISGID
    return {
        name: replace(
            node,
            uid=0,
            gid=0,
            mode=node.mode & ~bits if node.kind != "d" and (node.uid or node.gid) else node.mode,
        )
        for name, node in tree.items()
    }


def _without_times_of_links(tree: dict[str, Node]) -> dict[str, Node]:
    # umoci does not set them.
    return {
        name: replace(node, mtime=0) if node.kind == "l" else node for name, node in tree.items()
    }


def _executor_bytes(programs: Programs, *arguments: str | Path) -> tuple[bytes, str]:
    """Run the executor, and return the bytes of its stdout."""
    with programs.start_executor(*arguments) as process:
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr.decode()
    return stdout, stderr.decode()


@pytest.fixture
def export(
    make_rebuild: Callable[..., Rebuild], tmp_path: Path, mode: str
) -> Callable[..., Finished]:
    """Build a Dockerfile with flags, in a sandbox and in place."""
    rebuild = make_rebuild(None, mode)

    def build(dockerfile: str, *flags: str | Path, check: bool = True) -> Finished:
        rebuild.fill({"Dockerfile": dockerfile})
        return rebuild.execute(f"--context={rebuild.context}", *flags, check=check, env={})

    return build


def test_files_are_those_of_the_image(
    export: Callable[..., Finished], busybox: str, destination: str, tmp_path: Path
) -> None:
    out, tar = tmp_path / "out", tmp_path / "out.tar"
    export(
        _DOCKERFILE.format(base=busybox),
        *(f"--destination={destination}", f"--output={out}", f"--output=type=tar,dest={tar}"),
    )

    with readers.unpacked(destination) as root:
        expected = _without_times_of_links(_tree(root))
    assert _without_times_of_links(_tree(out)) == _as_ours(expected)
    assert (out / "made/dated").stat().st_ino == (out / "made/same").stat().st_ino
    assert "home" not in expected
    with tempfile.TemporaryDirectory() as scratch:
        readers.output_of("tar", "-C", scratch, "--numeric-owner", "-xpf", tar)
        assert _without_times_of_links(_tree(Path(scratch))) == expected


def test_output_alone_is_enough_and_nothing_is_pushed(
    build: Build, busybox: str, registry: Registry, tmp_path: Path
) -> None:
    registry.forget()
    out = tmp_path / "out"
    build.fill(
        {"Dockerfile": f"FROM {busybox} AS b\nRUN echo x > /x\nFROM scratch\nCOPY --from=b /x /x\n"}
    )
    build.programs.executor(f"--context={build.context}", "-o", out)

    assert [path.name for path in out.iterdir()] == ["x"]
    assert not [r for r in registry.requests() if r.method in ("POST", "PUT", "PATCH")]
    assert build.programs.leftovers() == []


def test_tar_streams_to_standard_output(build: Build, busybox: str, tmp_path: Path) -> None:
    """Nothing else is written there; two builds of the same files give the same bytes."""
    build.fill({"Dockerfile": f"FROM {busybox} AS b\nRUN echo x > /x && chown 7:8 /x\n"})
    arguments = (f"--context={build.context}", "--output=-", f"--cache-repo=dir:{tmp_path / 'l'}")
    first, _ = _executor_bytes(build.programs, *arguments, "--cache")
    second, log = _executor_bytes(build.programs, *arguments, "--cache")

    assert second == first
    assert "cached" in log.lower()
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        x = archive.getmember("x")
        assert (x.uid, x.gid) == (7, 8)
        assert "bin/busybox" in archive.getnames()


def test_source_date_epoch_is_the_time_of_all_files(build: Build, busybox: str) -> None:
    """BuildKit's docs/build-repro.md: of those of the base image, too."""
    build.fill({"Dockerfile": f"FROM {busybox}\nCOPY Dockerfile /\n"})
    tar, _ = _executor_bytes(
        build.programs,
        *(f"--context={build.context}", "-o", "-", "--build-arg=SOURCE_DATE_EPOCH=1000000000"),
    )
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert {member.mtime for member in archive} == {1_000_000_000}


def test_a_plan_does_not_get_into_the_tar(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    process = build.programs.start_executor(
        *(f"--context={build.context}", "--output=-"), env={"KANIKO_PRINT_PLAN": "1"}
    )
    with process:
        tar, log = process.communicate(timeout=300)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert archive.getnames() == ["Dockerfile"]
    assert b"stage-0" in log


def test_a_reader_that_has_had_enough_ends_the_build_quietly(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN head -c 5000000 /dev/urandom > /big\n"})
    process = build.programs.start_executor(f"--context={build.context}", "--output=-")
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    with process:
        assert process.stderr is not None
        log = process.stderr.read().decode()
    assert process.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in log
    assert build.programs.leftovers() == []


def test_terminal_gets_no_tar(build: Build, tmp_path: Path) -> None:
    """It is refused before anything is built."""
    build.fill({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "kaniko_executor", f"--context={build.context}", "-o", "-"),
            f"--kaniko-dir={tmp_path / 'kaniko'}",
        ],
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=build.programs.environment({}),
    )
    os.close(terminal)
    with process:
        assert process.stderr is not None
        log = process.stderr.read().decode()
    os.close(controller)
    assert process.returncode != 0
    assert "error: a tar is not written to a terminal\n" in log
    assert "COPY" not in log


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may write to."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        path = Path(scratch)
        path.chmod(0o777)
        yield path


def test_takes_no_privilege(build: Build, open_directory: Path) -> None:
    context = open_directory / "context"
    context.mkdir()
    (context / "tool").write_text("#!/bin/sh\n")
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY --chown=5:6 --chmod=4755 tool /bin/tool\n"
    )
    done = finished(
        build.programs.start(
            "kaniko_executor",
            *(f"--context={context}", f"--kaniko-dir={open_directory}", "-o", "out"),
            prefix=(
                *("env", "-C", str(open_directory), f"TMPDIR={open_directory}", "HOME=/"),
                f"XDG_RUNTIME_DIR={open_directory}",
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            ),
        )
    )

    tool = (open_directory / "out/bin/tool").stat()
    assert (tool.st_uid, stat.S_IMODE(tool.st_mode)) == (65534, 0o755)
    assert (open_directory / "out/bin/tool").read_text() == "#!/bin/sh\n"
    assert "no set-user-ID or set-group-ID bit: bin/tool" in done.stderr


def test_a_failed_build_leaves_no_tar(build: Build, busybox: str, tmp_path: Path) -> None:
    tar = tmp_path / "out.tar"
    build.fill({"Dockerfile": f"FROM {busybox}\nRUN false\n"})
    done = build.programs.executor(
        *(f"--context={build.context}", f"--output=type=tar,dest={tar}"), check=False
    )
    said(done, "the command `false` ended")
    assert not tar.exists()


def test_outputs_of_images_have_flags_of_their_own(build: Build) -> None:
    build.fill({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    done = build.programs.executor(
        *(f"--context={build.context}", "--output=type=registry,name=r.io/a:1"), check=False
    )
    said(done, "--output: type=registry is no output of files", "--destination=r.io/a:1")


def test_each_platform_has_its_own_directory(build: Build, tmp_path: Path) -> None:
    build.fill({"Dockerfile": "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /f\n"})
    build.fill({"amd64": "one", "arm64": "two"})
    out = tmp_path / "out"
    build.programs.executor(
        *(f"--context={build.context}", f"--output={out}", "--platform=linux/amd64,linux/arm64")
    )
    assert {str(p.relative_to(out)): p.read_text() for p in out.rglob("f")} == {
        "linux_amd64/f": "one",
        "linux_arm64/f": "two",
    }
