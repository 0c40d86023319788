"""Where the context, the Dockerfile and the ignore file are found."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from kaniko_core.context import BuildContext, DockerfileSource, open_context, open_named
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


def test_dir_is_a_directory(context: Path) -> None:
    assert open_context(f"dir://{context}")[0].directory == context


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


def test_dockerfile_of_an_unknown_scheme_is_refused(context: Path) -> None:
    with pytest.raises(UsageError, match="s3:// is not supported"):
        open_context(str(context), dockerfile="s3://bucket/Dockerfile")


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


def test_dockerfile_outside_the_context_brings_its_own_patterns(
    context: Path, tmp_path: Path
) -> None:
    """They are looked for beside the file that was named, not beside what a link leads to."""
    (context / ".dockerignore").write_text("general\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real").write_bytes(b"FROM elsewhere\n")
    (elsewhere / "real.dockerignore").write_text("of-the-target\n")
    (elsewhere / "link").symlink_to("real")
    assert open_context(str(context), dockerfile=str(elsewhere / "link"))[0].ignore.ignored(
        "general"
    )
    (elsewhere / "link.dockerignore").write_text("special\n")
    found, source = open_context(str(context), dockerfile=str(elsewhere / "link"))
    assert source.data == b"FROM elsewhere\n"
    assert [found.ignore.ignored(name) for name in ("special", "general", "of-the-target")] == [
        True,
        False,
        False,
    ]


def test_empty_patterns_of_the_dockerfile_still_come_first(context: Path) -> None:
    (context / ".dockerignore").write_text("general\n")
    (context / "Dockerfile.dockerignore").touch()
    assert not open_context(str(context))[0].ignore.ignored("general")


def test_dockerfile_and_patterns_may_be_left_out_and_are_used(context: Path) -> None:
    (context / ".dockerignore").write_text("*\n")
    found, source = open_context(str(context))
    assert source.data == b"FROM scratch\n"
    assert found.ignore.ignored("Dockerfile")
    assert found.ignore.ignored(".dockerignore")


def test_dockerfile_from_stdin_has_the_patterns_of_the_context(
    context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that happens to be called stdin, here or there, has nothing to do with it."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"FROM stdin\n")))
    (context / ".dockerignore").write_text("general\n")
    for name in ("stdin", "-"):
        Path(f"{name}.dockerignore").write_text("special\n")
    found, source = open_context(str(context), dockerfile="-")
    assert source == DockerfileSource("stdin", b"FROM stdin\n")
    assert found.ignore.ignored("general")


def test_stdin_that_is_closed_is_a_sentence(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ContextError, match="from stdin: it is closed"):
        open_context(str(context), dockerfile="-")


def test_stdin_without_end_is_not_read_to_it(
    context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/zero").open() as endless:
        monkeypatch.setattr(sys, "stdin", endless)
        with pytest.raises(ContextError, match="Dockerfile from stdin: it is larger than 16 MiB"):
            open_context(str(context), dockerfile="-")


def test_dockerfile_that_was_fetched_has_the_patterns_of_the_context(context: Path) -> None:
    (context / ".dockerignore").write_text("general\n")
    (context / "Dockerfile.dockerignore").write_text("special\n")
    fetched = DockerfileSource("https://example.com/Dockerfile", b"FROM far\n")
    found, source = open_context(str(context), dockerfile=fetched)
    assert source is fetched
    assert found.ignore.ignored("general")


def test_dockerfile_may_be_spelled_in_lower_case(context: Path) -> None:
    """Docker has always taken it, where there is none of the usual name."""
    Path("dockerfile").write_bytes(b"FROM lower\n")
    assert open_context(str(context))[1].data == b"FROM scratch\n"
    (context / "Dockerfile").unlink()
    assert open_context(str(context))[1] == DockerfileSource("dockerfile", b"FROM lower\n")
    with pytest.raises(ContextError, match="there is no Dockerfile Other"):
        open_context(str(context), dockerfile="Other")


def test_named_directory_has_patterns_of_its_own(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("secret\n")
    found = open_named("docs", tmp_path)
    assert found.directory == tmp_path
    assert found.ignore.ignored("secret")


def test_named_directory_that_is_missing_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(
        ContextError, match=r"the directory of the build context docs .*/no does not exist"
    ) as caught:
        open_named("docs", tmp_path / "no")
    assert "--build-context docs=DIRECTORY" in (caught.value.hint or "")
    (tmp_path / "file").touch()
    with pytest.raises(ContextError, match="is not a directory"):
        open_named("docs", tmp_path / "file")


def test_a_wrong_pattern_names_its_file(context: Path) -> None:
    (context / ".dockerignore").write_text("ok\n!\n")
    with pytest.raises(ContextError, match=r"/\.dockerignore:2: '!' alone is no pattern"):
        open_context(str(context))


def test_a_wrong_pattern_names_the_first_such_line_of_the_file_that_counts(context: Path) -> None:
    (context / ".dockerignore").write_text("!\n")
    (context / "Dockerfile.dockerignore").write_text("# !\n\n!ok\n[z-a]\n!\n")
    with pytest.raises(ContextError, match=r"/Dockerfile\.dockerignore:4: '\[z-a\]'"):
        open_context(str(context))


def test_an_ignore_file_that_cannot_be_read_is_an_error(context: Path) -> None:
    (context / ".dockerignore").mkdir()
    with pytest.raises(ContextError, match="cannot read the patterns in"):
        open_context(str(context))


def test_patterns_may_be_no_utf8(context: Path) -> None:
    (context / ".dockerignore").write_bytes(b"caf\xe9\n")
    assert open_context(str(context))[0].ignore.ignored("caf\udce9")
