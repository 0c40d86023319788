"""What a Dockerfile, a repository or a cache must not be able to do, whatever it holds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from integration.programs import Build, Programs, finished, said
from tests.web_server import running_web

_SECONDS = 20.0  # less than any timeout of a transfer


def test_link_that_a_command_left_in_a_cache_leads_no_mount_out_of_the_root(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    secret = tmp_path / "secret"
    secret.write_text("value")
    done = build(
        f"""
        FROM {busybox}
        RUN --mount=type=cache,target=/c mkdir /c/in; ln -s {outside} /c/out; ln -s /c/in/f /c/link
        RUN --mount=type=cache,target=/c --mount=type=secret,id=s,target=/c/link \\
            wc -c < /c/in/f
        RUN --mount=type=cache,target=/c --mount=type=secret,id=s,target=/c/out true
        """,
        f"--secret=id=s,src={secret}",
        check=False,
    )

    said(done, "cannot be made at /c/out")
    assert "5" in done.written.split()
    assert not os.path.lexists(outside)
    assert build.programs.leftovers() == []


def test_place_that_is_no_directory_is_told_by_its_whole_name(build: Build, busybox: str) -> None:
    done = build(
        f"""
        FROM {busybox}
        RUN --mount=type=cache,target=/c ln -s /nowhere /c/x
        RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/x/y true
        """,
        check=False,
    )
    said(done, "cannot be made at /c/x")


def test_privileged_command_finds_nothing_of_the_builders_environment(
    build: Build, busybox: str
) -> None:
    look = "RUN --security=insecure cat /proc/*/environ | tr '\\0' ' '"
    build.fill({"Dockerfile": f"FROM {busybox}\n{look}\n"})
    done = build.programs.executor(
        *build.arguments, "--allow=security.insecure", env={"HUSH": "builders-own"}
    )
    assert "PATH=" in done.written
    assert "builders-own" not in done.written


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM scratch\nADD http://{}/file /\n",
        "FROM scratch\nADD https://{}/file /\n",
        "FROM {}/base:1\n",
    ],
)
def test_silent_server_does_not_keep_a_build_from_ending(
    programs: Programs, tmp_path: Path, dockerfile: str, number: signal.Signals
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        (context / "Dockerfile").write_text(dockerfile.format(address))
        process = programs.start_executor(f"--context={context}", "--no-push")
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            begun = time.monotonic()
            os.killpg(process.pid, number)
            done = finished(process, check=False)

    assert time.monotonic() - begun < _SECONDS
    assert done.status == 128 + number
    said(done, "interrupted")
    assert programs.leftovers() == []


def test_large_file_of_a_repository_is_not_held_in_memory(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it by git, which gets 300 MB here to fetch 400."""
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    repositories = tmp_path / "repositories"
    work = repositories / "work"
    work.mkdir(parents=True)
    with (work / "large").open("wb") as file:
        file.truncate(400 << 20)
    _git(work, "init", "--quiet")
    _git(work, "-c", "core.bigFileThreshold=1m", "add", "large")
    _git(work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
    _git(repositories, "clone", "--quiet", "--bare", "work", "large.git")
    small = tmp_path / "small"
    small.mkdir()
    real = shutil.which("git")
    (small / "git").write_text(f'#!/bin/sh\nulimit -v 300000\nexec {real} "$@"\n')
    (small / "git").chmod(0o755)
    with running_web(repositories=repositories) as web:
        build.fill({"Dockerfile": f"FROM scratch\nADD {web.address}/git/large.git /\n"})
        build.programs.executor(*build.arguments, env={"PATH": f"{small}:{os.environ['PATH']}"})


def _git(directory: Path, *arguments: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    subprocess.run(["git", *arguments], cwd=directory, check=True, env=environment)
