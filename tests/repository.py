"""Real git repositories for tests, made by the system's git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# When every commit is made: 2015-10-21 07:28:00 UTC.
COMMITTED = 1445412480


@dataclass(frozen=True)
class Repository:
    """A repository that is served bare, and the checkout that pushes to it."""

    checkout: Path
    bare: Path

    def git(self, *arguments: str) -> str:
        """Run git in the checkout and return what it says."""
        return run_git(self.checkout, *arguments)

    def commit(self, files: Mapping[str, str | None], message: str = "a change") -> str:
        """Write *files* (None removes one), commit and push everything; return the commit."""
        for name, text in files.items():
            path = self.checkout / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.push()
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        """Push all branches and tags."""
        self.git("push", "--quiet", "--force", str(self.bare), "--all")
        self.git("push", "--quiet", "--force", str(self.bare), "--tags")


def run_git(directory: Path, *arguments: str) -> str:
    """Run git with no configuration but an identity."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_AUTHOR_DATE": f"{COMMITTED} +0000",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
        "GIT_COMMITTER_DATE": f"{COMMITTED} +0000",
        "GIT_ALLOW_PROTOCOL": "file:http",
    }
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def new_repository(
    directory: Path, served: Path, name: str, *, branch: str = "main", object_format: str = "sha1"
) -> Repository:
    """Make an empty repository *name*, served below *served*."""
    checkout, bare = directory / f"{name}.checkout", served / f"{name}.git"
    checkout.mkdir(parents=True)
    bare.mkdir(parents=True)
    form = f"--object-format={object_format}"
    run_git(bare, "init", "--quiet", "--bare", form, "--initial-branch", branch)
    run_git(checkout, "init", "--quiet", form, "--initial-branch", branch)
    return Repository(checkout, bare)
