"""Every line of docs/CONTEXTS.md, and those about contexts of the README, run as they stand.

They run in a network of their own, where the hosts in them exist (``contexts_town.py``); what is
replaced are directories: /workspace, and /keys.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.contexts_town import TOKEN
from integration.world import missing_tools
from tests.repository import new_repository, run_git

REPOSITORY = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MARKER = "marker"
_DOCKERFILE = f"FROM scratch\nCOPY {_MARKER} /\n"
# By what is in a line: the marker of the context that it builds from. The first that fits counts.
WHAT = {
    "services/web": "web",
    "app.Dockerfile": "workspace, app",
    "tar://": "workspace",
    "refs/pull/7": "pull",
    "$COMMIT": "main",
    "#v1.2": "v1.2",
    "branch=main": "main",
    "git@git.example.com": "main",
    "/team/private.git": "private",
    "/team/app.git": "main",
    "example.com/context.tar.gz": "web archive",
    "example.com/private.tar.gz": "private archive",
    "s3://": "s3",
    "gs://": "gs",
    "--bucket": "gs",
    "az://": "azure",
    "blob.core.windows.net": "azure",
    "--context": "workspace",
}


def lines() -> list[str]:
    """Return the lines that are tested."""
    page = (REPOSITORY / "docs" / "CONTEXTS.md").read_text()
    readme = (
        (REPOSITORY / "README.md").read_text().partition("## Contexts")[2].partition("[CONT")[0]
    )
    found = [line for block in _BLOCK.findall(page + readme) for line in block.splitlines() if line]
    return list(dict.fromkeys(found))


@dataclass
class Town:
    """The network, and where things are."""

    directory: Path
    process: subprocess.Popen[str]
    commit: str

    def run(self, command: str) -> tuple[int, str, str]:
        """Run *command* there; return its status and what it wrote."""
        assert self.process.stdin is not None and self.process.stdout is not None
        wanted = {"command": command, "environment": self.environment, "directory": str(self.work)}
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the town has ended"
        status, output, errors = json.loads(answer)
        return status, output, errors

    @property
    def work(self) -> Path:
        return self.directory / "here"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(self.directory / "home"),
            "SSL_CERT_FILE": str(self.directory / "ca.pem"),
            "KANIKO_KANIKO_DIR": str(self.directory / "kaniko"),
            "KANIKO_DIR": str(self.directory / "kaniko"),
            "COMMIT": self.commit,
            "TOKEN": TOKEN,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AZURE_STORAGE_ACCOUNT": "account",
        }


def _context(directory: Path, marker: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "Dockerfile").write_text(_DOCKERFILE)
    (directory / _MARKER).write_text(marker)
    return directory


def _archive(context: Path, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as archive:
        archive.add(context, ".")


def _workspace(directory: Path) -> None:
    context = _context(directory / "workspace", "workspace")
    _context(context / "services" / "web", "web")
    app = f"{_DOCKERFILE}LABEL app=yes\n"
    (context / "docker").mkdir()
    for place in (context / "docker" / "app.Dockerfile", directory / "here" / "app.Dockerfile"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(app)
    subprocess.run(
        ["tar", "--zstd", "-C", context, "-cf", directory / "context.tar.zst", "."], check=True
    )
    shutil.move(directory / "context.tar.zst", context)
    web = directory / "files" / "example.com"
    web.mkdir(parents=True)
    (web / "app.Dockerfile").write_text(app)


def _files(directory: Path) -> None:
    files = directory / "files"
    for marker, place in {
        "web archive": "example.com/context.tar.gz",
        "private archive": "example.com/private.tar.gz",
        "s3": "bucket.s3.us-east-1.amazonaws.com/context.tar.gz",
        "gs": "storage.googleapis.com/bucket/context.tar.gz",
        "azure": "account.blob.core.windows.net/container/context.tar.gz",
    }.items():
        _archive(_context(directory / "made" / marker.replace(" ", "-"), marker), files / place)


def _repositories(directory: Path) -> str:
    top = directory / "repositories" / "team"
    top.mkdir(parents=True)
    repository = new_repository(directory / "checkouts", top, "app")
    files = {"Dockerfile": _DOCKERFILE, "services/web/Dockerfile": _DOCKERFILE}
    repository.commit({**files, _MARKER: "v1.2", "services/web/marker": "web"})
    repository.git("tag", "v1.2")
    repository.commit({_MARKER: "pull"})
    run_git(top / "app.git", "update-ref", "refs/pull/7/head", repository.git("rev-parse", "HEAD"))
    commit = repository.commit({_MARKER: "main"})
    private = new_repository(directory / "checkouts", top, "private")
    private.commit({"Dockerfile": _DOCKERFILE, _MARKER: "private"})
    return commit


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    if missing := missing_tools("ip", "unshare", "git", "ssh", "zstd"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    directory = tmp_path_factory.mktemp("town")
    for name in ("bin", "home", "here", "keys", "registry"):
        (directory / name).mkdir()
    program = directory / "bin" / "kaniko-executor"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kaniko_executor "$@"\n')
    program.chmod(0o755)
    _workspace(directory)
    _files(directory)
    commit = _repositories(directory)
    key = directory / "keys" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    entry = f"machine example.com login ci password {TOKEN}\n"
    (directory / "keys" / "netrc").write_text(entry)
    errors = directory / "errors"
    with errors.open("w") as said:
        process = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--kill-child", "--fork"),
                *(sys.executable, "-m", "integration.contexts_town", str(directory)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=REPOSITORY,
            text=True,
        )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            process.wait()
            why = errors.read_text().strip().splitlines() or ["nothing was said"]
            pytest.skip(f"no network of its own can be made here: {why[-1]}")
        yield Town(directory, process, commit)
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait(30)


def _expected(line: str) -> str:
    return next(marker for part, marker in WHAT.items() if part in line)


@pytest.mark.parametrize("line", lines())
def test_each_line_of_the_page_does_what_it_says(town: Town, line: str, tmp_path: Path) -> None:
    if "git@" in line and not shutil.which("sshd", path="/usr/sbin:/usr/bin"):
        pytest.skip("sshd is not installed")
    shutil.rmtree(town.directory / "registry", ignore_errors=True)
    here = line.replace("/workspace", str(town.directory / "workspace"))
    here = here.replace("/keys", str(town.directory / "keys"))

    status, output, errors = town.run(here)

    assert status == 0, errors
    assert TOKEN not in output + errors
    layout = tmp_path / "layout"
    status, _, errors = town.run(
        f"skopeo copy -q docker://registry.example.com/team/app:1.0 oci:{layout}:x && "
        f"umoci unpack --image {layout}:x {tmp_path}/bundle"
    )
    assert status == 0, errors
    expected, _, app = _expected(line).partition(", ")
    assert (tmp_path / "bundle" / "rootfs" / _MARKER).read_text() == expected
    config = json.loads((tmp_path / "bundle" / "config.json").read_text())
    labels = config.get("annotations", {})
    assert ("app" in labels) is bool(app)


def test_the_page_has_a_line_for_each_kind_of_source() -> None:
    text = "\n".join(lines())
    for kind in ("dir://", "tar:///", "tar://stdin", "https://git", "git://", "git@", "s3://"):
        assert kind in text
    for kind in ("gs://", "az://", ".blob.core.windows.net/", "https://example.com/context.tar.gz"):
        assert kind in text
