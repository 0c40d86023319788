"""What contexts from elsewhere have in common, in real builds."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from integration import readers
from integration.programs import Build, Finished, said
from integration.test_attested_builds import _SLSA, _statements
from integration.world import Registry
from tests.repository import COMMITTED, Repository, new_repository
from tests.web_server import WebServer

_CREATED = "2015-10-21T07:28:00Z"
_REVISION, _SOURCE = "org.opencontainers.image.revision", "org.opencontainers.image.source"
FILES = {
    "Dockerfile": "FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY . /in/\n",
    "a.txt": "a",
    "sub/Dockerfile": "FROM scratch\nCOPY . /in/\n",
    "sub/b.txt": "b",
    "sub/secret": "no",
    "sub/.dockerignore": "secret\n",
}


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "code")
    made.commit(FILES)
    return made


@pytest.fixture
def code(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/{repository.bare.name}"


def packed(files: Mapping[str, str]) -> bytes:
    """Return a tar of *files*."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text), COMMITTED
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def from_elsewhere(build: Build, location: str, *flags: str | Path, check: bool = True) -> Finished:
    """Build from *location*."""
    return build.programs.executor(
        f"--context={location}", f"--destination={build.image}", *flags, check=check
    )


def _labels(build: Build) -> dict[str, Any]:
    labels: dict[str, Any] = readers.config(build.image)["config"].get("Labels") or {}
    return labels


def test_commit_is_in_the_metadata_and_a_label_only_where_asked_for(
    build: Build, tmp_path: Path, code: str, repository: Repository
) -> None:
    file = tmp_path / "metadata.json"
    from_elsewhere(build, code, f"--metadata-file={file}")
    commit = repository.git("rev-parse", "HEAD").strip()
    told = json.loads(file.read_text())["kaniko.build.context"]
    assert told["commit"] == commit
    assert told["uri"].startswith(f"{code}#")
    assert not {_REVISION, _SOURCE} & _labels(build).keys()

    from_elsewhere(build, code, "--git=labels=true")
    assert (_labels(build)[_REVISION], _labels(build)[_SOURCE]) == (commit, code)

    from_elsewhere(build, code, "--git=labels=true", f"--label={_REVISION}=mine")
    assert _labels(build)[_REVISION] == "mine"


def test_git_directory_is_kept_where_the_build_argument_says_so(build: Build, code: str) -> None:
    from_elsewhere(build, code)
    assert ".git" not in readers.tree(build.image, "in")
    from_elsewhere(build, code, "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    assert ".git/HEAD" in readers.tree(build.image, "in")


def test_digest_of_an_archive_is_in_the_metadata(
    build: Build, tmp_path: Path, web: WebServer
) -> None:
    file, data = tmp_path / "metadata.json", packed(FILES)
    address = web.add("/c.tar", data)
    from_elsewhere(build, f"{address}?token=hidden", f"--metadata-file={file}")
    told = json.loads(file.read_text())["kaniko.build.context"]
    assert told == {"uri": address, "digest": f"sha256:{sha256(data).hexdigest()}"}


def test_provenance_tells_the_context(
    build: Build, registry: Registry, code: str, repository: Repository
) -> None:
    from_elsewhere(build, f"{code}#main", "--provenance=true")
    definition = _statements(registry, build.image)[_SLSA]["predicate"]["buildDefinition"]
    commit = repository.git("rev-parse", "HEAD").strip()
    source = definition["externalParameters"]["configSource"]
    assert source == {"uri": f"{code}#main", "digest": {"sha1": commit}, "path": "Dockerfile"}
    assert {"uri": f"{code}#main", "digest": {"sha1": commit}} in definition["resolvedDependencies"]


def test_time_of_the_context_is_the_time_of_the_build(
    build: Build, web: WebServer, code: str
) -> None:
    for location in (code, web.add("/c.tar", packed(FILES))):
        from_elsewhere(build, location, "--build-arg=SOURCE_DATE_EPOCH=context")
        assert readers.config(build.image)["created"] == _CREATED


@pytest.mark.parametrize("kind", ["git", "archive"])
def test_sub_path_is_the_context(build: Build, web: WebServer, code: str, kind: str) -> None:
    location = code if kind == "git" else web.add("/c.tar", packed(FILES))
    from_elsewhere(build, location, "--context-sub-path=sub")
    assert set(readers.tree(build.image, "in")) == {"Dockerfile", "b.txt", ".dockerignore"}


def test_dockerfile_from_elsewhere_with_patterns_beside_it(
    build: Build, tmp_path: Path, web: WebServer
) -> None:
    (tmp_path / "Other").write_text("FROM scratch\nCOPY . /in/\n")
    (tmp_path / "Other.dockerignore").write_text("sub\nDockerfile\n")
    from_elsewhere(build, web.add("/c.tar", packed(FILES)), f"--dockerfile={tmp_path}/Other")
    assert set(readers.tree(build.image, "in")) == {"a.txt"}


def test_layers_are_the_same_wherever_the_context_is_from(
    build: Build, tmp_path: Path, web: WebServer, code: str
) -> None:
    """And so a step that one of them made is cached for the others."""
    cache = (f"--cache-repo={tmp_path / 'layers'}", "--cache", "--cache-copy-layers")
    from_elsewhere(build, code, *cache)
    done = from_elsewhere(build, web.add("/c.tar", packed(FILES)), *cache)
    assert "cached" in done.stderr


def test_what_was_fetched_is_gone_afterwards(build: Build, tmp_path: Path, code: str) -> None:
    place = tmp_path / "kaniko"
    from_elsewhere(build, code, f"--kaniko-dir={place}")
    assert not [path for path in place.rglob("*") if path.name == "a.txt"]


def test_dry_run_tells_the_commit(build: Build, code: str, repository: Repository) -> None:
    done = from_elsewhere(build, code, "--dryrun")
    assert f"context {code}, commit {repository.git('rev-parse', 'HEAD').strip()}" in done.stdout


def test_dockerfile_of_this_directory_is_not_mistaken(build: Build, web: WebServer) -> None:
    here = build.programs.directory / "Dockerfile"
    here.write_text("FROM scratch\nCOPY a.txt /here\n")
    done = from_elsewhere(build, web.add("/c.tar", packed(FILES)))
    assert "the Dockerfile is that of this directory" in done.stderr
    assert "here" in readers.tree(build.image)


@pytest.mark.parametrize(
    ("files", "flags", "sentence", "hint"),
    [
        ({"b": "", "a": ""}, (), "there is no Dockerfile Dockerfile in ", "it has a, b"),
        (
            {"app-1/Dockerfile": "FROM scratch"},
            (),
            "there is no Dockerfile Dockerfile in ",
            "--context-sub-path=app-1",
        ),
        (FILES, ("--context-sub-path=no",), "has no directory no", "a.txt"),
        (FILES, ("--context-limit=1kB",), "it unpacks to more than 1000 bytes", "--context-limit"),
        ({".dockerignore": "a\n[b\n", **FILES}, (), ".dockerignore:2: ", ""),
    ],
)
def test_context_that_cannot_be_used_is_one_sentence(
    build: Build,
    web: WebServer,
    files: Mapping[str, str],
    flags: tuple[str, ...],
    sentence: str,
    hint: str,
) -> None:
    address = web.add("/c.tar", packed(files))
    done = from_elsewhere(build, f"{address}?sig=SECRET", *flags, check=False)
    assert done.status == 1
    text = said(done)
    assert sentence in text
    assert hint in done.stderr
    assert "SECRET" not in done.stderr
