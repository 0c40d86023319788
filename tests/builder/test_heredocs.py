"""Here-documents as sources of COPY and ADD."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from kaniko_core.errors import DockerfileError
from kaniko_core.oci.entry import Kind
from tests.builder.copying import NOW, OLD, Kitchen, content, kinds, parsed, state


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_body_becomes_a_file_named_by_the_word(kitchen: Kitchen) -> None:
    entries = kitchen.put(parsed("COPY <<hello.txt /d/\none\ntwo\nhello.txt"))
    assert list(entries) == ["d", "d/hello.txt"]
    entry = entries["d/hello.txt"]
    assert (entry.kind, entry.mode, entry.uid, entry.gid) == (Kind.FILE, 0o644, 0, 0)
    assert (content(entry), entry.size) == (b"one\ntwo\n", 8)


@pytest.mark.parametrize("destination", ["/name", "name"])
def test_destination_without_slash_is_the_file(kitchen: Kitchen, destination: str) -> None:
    assert list(kitchen.put(parsed(f"COPY <<EOF {destination}\nx\nEOF"))) == ["name"]


def test_destination_that_is_a_directory_takes_it_in(kitchen: Kitchen) -> None:
    (kitchen.image / "usr/d").mkdir(parents=True)
    (kitchen.image / "d").symlink_to("usr/d")
    assert list(kitchen.put(parsed("COPY <<EOF /d\nx\nEOF"))) == ["usr/d/EOF"]


def test_empty_body_is_an_empty_file(kitchen: Kitchen) -> None:
    entry = kitchen.put(parsed("COPY <<EOF /x\nEOF"))["x"]
    assert (entry.kind, entry.size, content(entry)) == (Kind.FILE, 0, b"")


BODY = """a $V "${V}" '$V' \\$V ${MISSING} ${MISSING:-none} \\\\ `$V` \\n"""


def test_variables_are_expanded_and_quotes_stay(kitchen: Kitchen) -> None:
    """The escape character is the backslash, whatever the directive says."""
    kitchen.state = state(env={"V": "v"})
    entry = kitchen.put(parsed(f"COPY <<EOF /x\n{BODY}\nEOF"))["x"]
    assert content(entry).decode() == "a v \"v\" 'v' $V  none \\ `v` n\n"


@pytest.mark.parametrize("word", ["'EOF'", '"EOF"', "E'O'F"])
def test_quoted_word_leaves_the_body_alone(kitchen: Kitchen, word: str) -> None:
    kitchen.state = state(env={"V": "v"})
    entry = kitchen.put(parsed(f"COPY <<{word} /x\n{BODY}\nEOF"))["x"]
    assert content(entry).decode() == BODY + "\n"


def test_dash_takes_leading_tabs_away(kitchen: Kitchen) -> None:
    entry = kitchen.put(parsed("COPY <<-EOF /x\n\tone\n\t\ttwo\n \tthree\n\t\n\tEOF"))["x"]
    assert content(entry) == b"one\ntwo\n \tthree\n\n"


def test_tabs_that_a_variable_brings_stay(kitchen: Kitchen) -> None:
    kitchen.state = state(env={"V": "\tv"})
    assert content(kitchen.put(parsed("COPY <<-EOF /x\n\t$V\n\tEOF"))["x"]) == b"\tv\n"


def test_wrong_substitution_is_an_error_with_its_place(kitchen: Kitchen) -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:3"):
        kitchen.put(parsed("COPY <<EOF /x\n${V:?no}\nEOF"))


def test_several_are_mixed_with_files(kitchen: Kitchen) -> None:
    kitchen.add_file("file", "f")
    entries = kitchen.put(parsed('COPY <<one file <<-"two" /d/\n1\none\n\t2\n\ttwo'))
    assert {name: content(entry) for name, entry in entries.items() if entry.size} == {
        "d/file": b"f",
        "d/one": b"1\n",
        "d/two": b"2\n",
    }


def test_heredoc_takes_the_place_of_a_file_with_its_name(kitchen: Kitchen) -> None:
    """Here-documents come after the other sources, as with BuildKit."""
    kitchen.add_file("EOF", "file")
    entries = kitchen.put(parsed("COPY <<EOF EOF /d/\nbody\nEOF"))
    assert content(entries["d/EOF"]) == b"body\n"


def test_several_need_a_directory(kitchen: Kitchen) -> None:
    with pytest.raises(DockerfileError, match="2 sources need a directory"):
        kitchen.put(parsed("COPY <<a <<b /d\n1\na\n2\nb"))
    (kitchen.image / "d").mkdir()
    assert list(kitchen.put(parsed("COPY <<a <<b /d\n1\na\n2\nb"))) == ["d/a", "d/b"]


def test_owner_and_mode_are_the_flags(kitchen: Kitchen) -> None:
    (kitchen.image / "etc").mkdir()
    (kitchen.image / "etc/passwd").write_text("app:x:7:8::/:\n")
    entries = kitchen.put(parsed("COPY --chown=app --chmod=0750 <<EOF /d/x\n1\nEOF"))
    assert [(e.uid, e.gid, e.mode) for e in entries.values()] == [(7, 8, 0o750)] * 2
    entries = kitchen.put(parsed("COPY --chmod=u+x,go= <<EOF /d/x\n1\nEOF"))
    assert (entries["d"].mode, entries["d/x"].mode) == (0o755, 0o700)


def test_time_is_that_of_the_directory_or_the_epoch(kitchen: Kitchen) -> None:
    (kitchen.image / "d").mkdir()
    os.utime(kitchen.image / "d", ns=(OLD, OLD))
    heredoc = parsed("COPY <<EOF /d/e/x\n1\nEOF")
    assert {entry.mtime_ns for entry in kitchen.put(heredoc).values()} == {OLD}
    epoch = NOW // 10**9
    assert {entry.mtime_ns for entry in kitchen.put(heredoc, epoch=epoch).values()} == {NOW}


def test_archive_in_a_body_is_not_unpacked(kitchen: Kitchen) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("member"))
    body = buffer.getvalue().rstrip(b"\0").decode()
    entries = kitchen.put(parsed(f"ADD --unpack <<'EOF' /d/\n{body}\nEOF"))
    assert kinds(entries) == {"d": Kind.DIRECTORY, "d/EOF": Kind.FILE}


def test_bytes_that_are_no_utf8_survive(kitchen: Kitchen) -> None:
    body = b"\xff\xfe".decode("utf-8", "surrogateescape")
    copy = parsed("COPY <<EOF /x\nb\nEOF")
    heredoc = type(copy.heredocs[0])(name="EOF", content=body)
    changed = type(copy)(copy.source, copy.sources, copy.destination, heredocs=(heredoc,))
    assert content(kitchen.put(changed)["x"]) == b"\xff\xfe"


@pytest.mark.parametrize("word", ["a/b", "..", "."])
def test_word_that_is_no_name_is_refused(kitchen: Kitchen, word: str) -> None:
    with pytest.raises(DockerfileError, match="is no name for a file"):
        kitchen.put(parsed(f"COPY <<{word} /d/\nx\n{word}"))


def test_link_does_not_look_at_the_image(kitchen: Kitchen) -> None:
    (kitchen.image / "real").mkdir()
    (kitchen.image / "d").symlink_to("real")
    assert list(kitchen.put(parsed("COPY --link <<EOF /d/\nx\nEOF"))) == ["d", "d/EOF"]
