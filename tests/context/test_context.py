"""Where the context, the Dockerfile and the ignore file are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaniko_core.context import BuildContext, open_context
from kaniko_core.errors import ContextError, UsageError


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A context with a Dockerfile; the current directory is another, and empty."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_bytes(b"FROM scratch\n")
    return directory


def test_a_context_without_ignore_file_ignores_nothing(context: Path) -> None:
    found, source = open_context(str(context))
    assert found.directory == context
    assert not found.ignore.ignored("Dockerfile")
    assert source.data == b"FROM scratch\n"
    assert source.path == str(context / "Dockerfile")
    assert not BuildContext(context).ignore.has_exclusions


def test_dir_is_the_one_scheme(context: Path) -> None:
    assert open_context(f"dir://{context}")[0].directory == context
    for scheme in ("git", "s3", "gs", "https", "tar"):
        with pytest.raises(UsageError, match=f"{scheme}:// is not supported yet"):
            open_context(f"{scheme}://{context}")


def test_sub_path_is_the_context(context: Path) -> None:
    below = context / "services" / "web"
    below.mkdir(parents=True)
    (below / "Dockerfile").write_bytes(b"FROM web\n")
    (below / ".dockerignore").write_text("secret\n")
    found, source = open_context(str(context), "/services/web/")
    assert found.directory == below
    assert found.ignore.ignored("secret")
    assert source.data == b"FROM web\n"


def test_sub_path_stays_in_the_context(context: Path) -> None:
    with pytest.raises(UsageError, match="does not stay in the build context"):
        open_context(str(context), "a/../..")


def test_a_missing_context_says_how_to_name_it(context: Path) -> None:
    with pytest.raises(ContextError, match="does not exist") as caught:
        open_context(str(context / "no"))
    assert "--context" in (caught.value.hint or "")
    with pytest.raises(ContextError, match="is not a directory"):
        open_context(str(context / "Dockerfile"))


def test_a_name_that_cannot_be_one_is_refused(context: Path) -> None:
    with pytest.raises(ContextError, match="cannot read the build context"):
        open_context(str(context / ("x" * 300)))
    with pytest.raises(ContextError, match="cannot read the Dockerfile"):
        open_context(str(context), dockerfile="Docker\0file")


def test_dockerfile_here_comes_before_that_in_the_context(context: Path) -> None:
    Path("Dockerfile").write_bytes(b"FROM here\n")
    _, source = open_context(str(context))
    assert source.data == b"FROM here\n"
    assert source.path == "Dockerfile"


def test_a_missing_dockerfile_suggests_one_that_is_there(context: Path) -> None:
    with pytest.raises(ContextError, match="there is no Dockerfile dockerfile") as caught:
        open_context(str(context), dockerfile="dockerfile")
    assert f"there is {context / 'Dockerfile'}" in (caught.value.hint or "")
    with pytest.raises(ContextError) as caught:
        open_context(str(context), dockerfile="no/such/file")
    assert "--dockerfile" in (caught.value.hint or "")


def test_a_dockerfile_from_the_network_is_refused(context: Path) -> None:
    with pytest.raises(UsageError, match="https:// is not supported yet"):
        open_context(str(context), dockerfile="https://example.com/Dockerfile")


def test_a_directory_is_no_dockerfile(context: Path) -> None:
    (context / "sub").mkdir()
    with pytest.raises(ContextError, match="Is a directory"):
        open_context(str(context), dockerfile="sub")


def test_a_file_that_is_far_too_large_is_not_read(context: Path) -> None:
    with (context / "disk.img").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ContextError, match="larger than 16 MiB"):
        open_context(str(context), dockerfile="disk.img")


def test_the_dockerfile_may_come_through_a_pipe(context: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"FROM pipe\n")
    os.close(writing)
    _, source = open_context(str(context), dockerfile=f"/dev/fd/{reading}")
    os.close(reading)
    assert source.data == b"FROM pipe\n"


def test_an_ignore_file_beside_the_dockerfile_comes_first(context: Path) -> None:
    (context / ".dockerignore").write_text("general\n")
    (context / "Dockerfile.dockerignore").write_text("special\n")
    ignore = open_context(str(context))[0].ignore
    assert ignore.ignored("special")
    assert not ignore.ignored("general")


def test_a_wrong_pattern_names_its_file(context: Path) -> None:
    (context / ".dockerignore").write_text("ok\n!\n")
    with pytest.raises(ContextError, match=r"\.dockerignore: '!' alone is no pattern"):
        open_context(str(context))


def test_an_ignore_file_that_cannot_be_read_is_an_error(context: Path) -> None:
    (context / ".dockerignore").mkdir()
    with pytest.raises(ContextError, match="cannot read the patterns in"):
        open_context(str(context))


def test_patterns_may_be_no_utf8(context: Path) -> None:
    (context / ".dockerignore").write_bytes(b"caf\xe9\n")
    assert open_context(str(context))[0].ignore.ignored("caf\udce9")
