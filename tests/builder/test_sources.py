"""What a source of COPY and ADD may be, besides files of the context."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from kaniko_core.builder.source import (
    CopySource,
    FetchedFile,
    FetchedTree,
    LocalWord,
)
from kaniko_core.errors import ContentError, DockerfileError
from kaniko_core.oci.entry import Kind
from kaniko_core.rootfs.tree import Rootfs
from tests.builder.copying import NOW, Kitchen, content, kinds, parsed


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


@pytest.fixture
def fetched(tmp_path: Path) -> FetchedFile:
    path = tmp_path / "blob"
    path.write_text("fetched")
    return FetchedFile(path, "file.txt", mtime_ns=NOW)


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("member"))
    return gzip.compress(buffer.getvalue())


class TestFetchedFile:
    def test_goes_into_a_directory_by_its_name(
        self, kitchen: Kitchen, fetched: FetchedFile
    ) -> None:
        entries = kitchen.put(parsed("ADD https://x/y /d/"), sources=[fetched])
        entry = entries["d/file.txt"]
        assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0o600, 0, 0, NOW)
        assert content(entry) == b"fetched"

    def test_becomes_a_destination_without_slash(
        self, kitchen: Kitchen, fetched: FetchedFile
    ) -> None:
        assert list(kitchen.put(parsed("ADD https://x/y /d"), sources=[fetched])) == ["d"]
        (kitchen.image / "d").mkdir()
        assert list(kitchen.put(parsed("ADD https://x/y /d"), sources=[fetched])) == ["d/file.txt"]

    def test_obeys_the_flags(self, kitchen: Kitchen, fetched: FetchedFile) -> None:
        add = parsed("ADD --chown=5:6 --chmod=u+x,g=r https://x/y /d/")
        entry = kitchen.put(add, sources=[fetched])["d/file.txt"]
        assert (entry.mode, entry.uid, entry.gid) == (0o740, 5, 6)

    def test_is_unpacked_only_when_asked_for(self, kitchen: Kitchen, tmp_path: Path) -> None:
        path = tmp_path / "blob"
        path.write_bytes(_archive())
        add = parsed("ADD https://x/y /d/")
        assert list(kitchen.put(add, sources=[FetchedFile(path, "a.tgz")])) == ["d", "d/a.tgz"]
        asked = FetchedFile(path, "a.tgz", unpack=True)
        assert list(kitchen.put(add, sources=[asked])) == ["d", "d/member"]
        path.write_text("no archive")
        assert list(kitchen.put(add, sources=[asked])) == ["d", "d/a.tgz"]

    def test_that_is_a_damaged_archive_is_named(self, kitchen: Kitchen, tmp_path: Path) -> None:
        path = tmp_path / "blob"
        path.write_bytes(_archive()[:-20])
        with pytest.raises(ContentError, match=r'cannot unpack "a\.tgz"'):
            kitchen.put(
                parsed("ADD https://x/y /d/"), sources=[FetchedFile(path, "a.tgz", unpack=True)]
            )

    def test_may_be_empty(self, kitchen: Kitchen, tmp_path: Path) -> None:
        (tmp_path / "blob").write_text("")
        fetched = FetchedFile(tmp_path / "blob", "empty")
        entry = kitchen.put(parsed("ADD https://x/y /"), sources=[fetched])["empty"]
        assert (entry.size, entry.content) == (0, None)

    def test_is_never_excluded(self, kitchen: Kitchen, fetched: FetchedFile) -> None:
        add = parsed("ADD --exclude=*.txt https://x/file.txt /d/")
        assert list(kitchen.put(add, sources=[fetched])) == ["d", "d/file.txt"]

    def test_takes_the_place_of_no_directory(self, kitchen: Kitchen, fetched: FetchedFile) -> None:
        (kitchen.image / "d/file.txt").mkdir(parents=True)
        with pytest.raises(DockerfileError, match=r"Dockerfile:3: /d/file\.txt is a directory"):
            kitchen.put(parsed("ADD https://x/y /d/"), sources=[fetched])


class TestFetchedTree:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "tree"
        (root / "sub").mkdir(parents=True)
        root.chmod(0o750)
        (root / "sub/run").write_text("run")
        (root / "sub/run").chmod(0o755)
        (root / ".git").mkdir()
        (root / "link").symlink_to("sub")
        return root

    def test_gives_its_contents_with_their_modes(self, kitchen: Kitchen, tree: Path) -> None:
        kitchen.ignore = ("**",)  # .dockerignore is the context's own
        with Rootfs(tree) as root:
            source = CopySource(root, "the repository", keep_owners=False)
            entries = kitchen.put(parsed("ADD https://x/y.git /d"), sources=[FetchedTree(source)])
        assert kinds(entries) == {
            "d": Kind.DIRECTORY,
            "d/.git": Kind.DIRECTORY,
            "d/link": Kind.SYMLINK,
            "d/sub": Kind.DIRECTORY,
            "d/sub/run": Kind.FILE,
        }
        assert (entries["d"].mode, entries["d/sub/run"].mode) == (0o750, 0o755)
        assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}

    def test_goes_into_a_directory_that_exists(self, kitchen: Kitchen, tree: Path) -> None:
        (kitchen.image / "d").mkdir()
        with Rootfs(tree) as root:
            source = CopySource(root, "the repository", keep_owners=False)
            entries = kitchen.put(
                parsed("ADD --exclude=.git --exclude=link --chmod=700 https://x/y.git /d/"),
                sources=[FetchedTree(source)],
            )
        assert {name: entry.mode for name, entry in entries.items()} == {
            "d/sub": 0o700,
            "d/sub/run": 0o700,
        }


def test_sources_of_all_kinds_may_come_together(
    kitchen: Kitchen, fetched: FetchedFile, tmp_path: Path
) -> None:
    kitchen.add_file("local", "l")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/inner").write_text("i")
    with Rootfs(tmp_path / "tree") as root:
        entries = kitchen.put(
            parsed("ADD local https://x/f https://x/y.git <<EOF /d/\nbody\nEOF"),
            sources=[LocalWord("local"), fetched, FetchedTree(CopySource(root, "the repository"))],
        )
        found = {name: content(e) for name, e in entries.items() if e.kind is Kind.FILE}
    assert found == {
        "d/EOF": b"body\n",
        "d/file.txt": b"fetched",
        "d/inner": b"i",
        "d/local": b"l",
    }


def test_several_fetched_need_a_directory(kitchen: Kitchen, fetched: FetchedFile) -> None:
    with pytest.raises(DockerfileError, match="2 sources need a directory"):
        kitchen.put(parsed("ADD https://x/f https://x/g /d"), sources=[fetched, fetched])


@pytest.mark.parametrize(
    "word",
    [
        "http://example.com/x",
        "https://example.com/x",
        "https://example.com/x.git",
        "git@example.com:x/y.git",
        "ssh://git@example.com/x",
        "git://example.com/x",
    ],
)
def test_copy_fetches_nothing(kitchen: Kitchen, word: str) -> None:
    with pytest.raises(DockerfileError, match="COPY does not fetch") as caught:
        kitchen.copy(word, "/d/")
    assert caught.value.hint == "ADD fetches URLs and git repositories"


@pytest.mark.parametrize("word", ["github.com/owner/name", "./git@host:x", "http:", "HTTPS"])
def test_file_that_looks_like_a_url_is_a_file(kitchen: Kitchen, word: str) -> None:
    kitchen.add_file(word)
    assert len(kitchen.copy(word, "/d/")) == 2


def test_checksum_is_not_for_files_of_the_context(kitchen: Kitchen) -> None:
    kitchen.add_file("a")
    with pytest.raises(DockerfileError, match="this source is neither"):
        kitchen.add("a", "/d/", checksum="sha256:0")
    with pytest.raises(DockerfileError, match="is for one source, and there are 2"):
        kitchen.add("a", "https://x/y", "/d/", checksum="sha256:0")


def test_checksum_of_a_here_document_is_refused(kitchen: Kitchen) -> None:
    with pytest.raises(DockerfileError, match="this source is neither"):
        kitchen.put(parsed("ADD --checksum=sha256:0 <<EOF /d/\nx\nEOF"))
