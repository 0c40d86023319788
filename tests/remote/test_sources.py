from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from kaniko_core.addresses.archives import WebFile
from kaniko_core.builder.project import read_sources
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.source import FetchedFile, FetchedTree, LocalWord
from kaniko_core.dockerfile.instructions import Add, Heredoc, Source
from kaniko_core.errors import ContentError, ContextError, KanikoError
from kaniko_core.options import BuildOptions
from tests.repository import COMMITTED, Repository, new_repository
from tests.web_server import WebServer

ADD = Add(Source("Dockerfile", 1, 1, "ADD …"), (), "/x/")


def add(*words: str, **flags: object) -> Add:
    return replace(ADD, sources=words, **flags)  # type: ignore[arg-type]


@pytest.fixture
def repository(web: WebServer, tmp_path: Path) -> Repository:
    assert web.repositories is not None
    made = new_repository(tmp_path / "checkouts", web.repositories, "code")
    made.commit({"a.txt": "a"})
    return made


@pytest.fixture
def code(web: WebServer, repository: Repository) -> str:
    return f"{web.address}/git/code.git"


def test_words_of_each_kind_in_their_order(
    web: WebServer,
    sources: RemoteSources,
    code: str,
) -> None:
    url = web.add("/f.txt", b"f", last_modified="Wed, 21 Oct 2015 07:28:00 GMT")

    items = sources.items(add("a.txt", url, code, "<<EOF", "b", heredocs=(Heredoc("EOF", "text"),)))

    first, file, tree, last = items
    assert (first, last) == (LocalWord("a.txt"), LocalWord("b"))
    assert isinstance(file, FetchedFile)
    assert (file.path.read_bytes(), file.name, file.mode) == (b"f", "f.txt", 0o600)
    assert (file.mtime_ns, file.unpack) == (COMMITTED * 10**9, False)
    assert isinstance(tree, FetchedTree)
    assert not tree.tree.keep_owners
    assert tree.tree.root.listdir("") == [b"a.txt"]


@pytest.mark.parametrize(
    "word",
    ["a", "./x.git", "github.com/a/b", "ftp://h/x", "HTTP://h/x", "x.git", "file:///x.git"],
)
def test_everything_else_is_a_file_of_the_context(
    sources: RemoteSources,
    word: str,
) -> None:
    assert sources.items(add(word)) == [LocalWord(word)]


@pytest.mark.parametrize(("flag", "expected"), [(None, False), (False, False), (True, True)])
def test_urls_are_unpacked_only_where_that_is_wanted(
    web: WebServer,
    sources: RemoteSources,
    flag: bool | None,
    expected: bool,
) -> None:
    (item,) = sources.items(add(web.add("/x.tar", b""), unpack=flag))

    assert isinstance(item, FetchedFile)
    assert item.unpack is expected


@pytest.mark.parametrize(
    ("query", "flag", "kept"),
    [
        ("", None, False),
        ("", True, True),
        ("", False, False),
        ("?keep-git-dir=1", None, True),
        ("?keep-git-dir=1", True, True),
        ("?keep-git-dir=0", None, False),
    ],
)
def test_git_directory(
    sources: RemoteSources,
    code: str,
    query: str,
    flag: bool | None,
    kept: bool,
) -> None:
    (item,) = sources.items(add(code + query, keep_git_dir=flag))

    assert isinstance(item, FetchedTree)
    assert (item.tree.root.lstat(".git") is not None) is kept


def test_contradictions_are_refused(sources: RemoteSources, code: str) -> None:
    with pytest.raises(KanikoError, match="--keep-git-dir=true contradicts"):
        sources.items(add(f"{code}?keep-git-dir=0", keep_git_dir=True))
    with pytest.raises(KanikoError, match="--checksum=ab contradicts"):
        sources.items(add(f"{code}?checksum=cd", checksum="ab"))
    with pytest.raises(KanikoError, match="mtime=never"):
        sources.items(add(f"{code}?mtime=never"))


def test_checksum_of_a_repository(
    sources: RemoteSources,
    code: str,
    repository: Repository,
) -> None:
    commit = repository.git("rev-parse", "HEAD")

    assert sources.items(add(code, checksum=commit[:12]))
    with pytest.raises(ContextError, match="instead of the expected"):
        sources.items(add(code, checksum="0" * 40))


@pytest.mark.parametrize("text", ["", "sha256:1", "abc"])
def test_checksum_of_a_url(
    web: WebServer,
    sources: RemoteSources,
    text: str,
) -> None:
    url = web.add("/a", b"a")

    if not text:
        assert sources.items(
            add(
                url,
                checksum=f"sha256:{'ca978112ca1bbdcafac231b39a23dc4da'}"
                "786eff8147c4e72b9807785afee48bb",
            )
        )
        return
    with pytest.raises(KanikoError, match="is not a checksum"):
        sources.items(add(url, checksum=text))


def test_nothing_is_fetched_for_a_checksum_of_several_sources(
    web: WebServer,
    sources: RemoteSources,
) -> None:
    words = (web.add("/a", b""), web.add("/b", b""))

    assert sources.items(add(*words, checksum="sha256:0")) == [LocalWord(word) for word in words]
    assert not web.requests


def test_one_missing_source_of_several_is_an_error(
    web: WebServer,
    sources: RemoteSources,
) -> None:
    with pytest.raises(ContextError, match="nothing at this address"):
        sources.items(add(web.add("/a", b""), f"{web.address}/missing"))


def test_times_of_sources(
    web: WebServer,
    sources: RemoteSources,
    code: str,
) -> None:
    dated = web.add("/a", b"", last_modified="Wed, 21 Oct 2015 07:28:00 GMT")

    assert sources.time_of(add(dated)) == COMMITTED
    assert sources.time_of(add(web.add("/b", b""))) is None
    assert sources.time_of(add(code)) == COMMITTED
    with pytest.raises(KanikoError, match="no remote source"):
        sources.time_of(add("a.txt"))


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = 1000
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def test_archive_becomes_a_context(
    web: WebServer,
    sources: RemoteSources,
) -> None:
    data = archive(
        (member("./", type=tarfile.DIRTYPE, mode=0o755), b""),
        (member("./Dockerfile", uid=4711, gid=4711, mode=0o640), b"FROM scratch"),
        (member("sub/big", uid=4711), bytes(3 << 20)),
        (member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
    )
    gzip_data = gzip.compress(data)
    url = web.add("/c.tar.gz", gzip_data, last_modified="Wed, 21 Oct 2015 07:28:00 GMT")

    context = sources.archive(WebFile(url))

    root = context.directory
    assert context.archive
    assert context.time == COMMITTED
    assert str(context.version) == f"sha256:{sha256(gzip_data).hexdigest()}"
    assert (root / "Dockerfile").read_text() == "FROM scratch"
    assert (root / "Dockerfile").stat().st_mode & 0o777 == 0o640
    assert (root / "Dockerfile").stat().st_uid == root.stat().st_uid
    assert (root / "sub" / "big").stat().st_size == 3 << 20
    assert (root / "link").is_symlink()
    assert not (root / "null").exists()
    assert sources.archive(WebFile(url)) == context


def test_anything_else_is_one_file(
    web: WebServer,
    sources: RemoteSources,
) -> None:
    context = sources.archive(WebFile(web.add("/Dockerfile", b"FROM scratch")))

    assert not context.archive
    assert [path.name for path in context.directory.iterdir()] == ["context"]
    assert (context.directory / "context").read_text() == "FROM scratch"


@pytest.mark.parametrize("name", ["../out", "a/../../out"])
def test_archive_cannot_lead_out(
    web: WebServer,
    sources: RemoteSources,
    name: str,
) -> None:
    address = web.add("/c.tar", archive((member(name), b"x")))
    with pytest.raises(ContentError, match=f"^cannot unpack {address}: "):
        sources.archive(WebFile(address))


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_archive_without_a_date_is_as_old_as_its_newest_file(
    web: WebServer, sources: RemoteSources, packed: Callable[[bytes], bytes]
) -> None:
    data = archive(
        (member("old", mtime=2000), b"x"),
        (member("new", mtime=3000.5), b"y"),
        (member("later", mtime=4000, type=tarfile.DIRTYPE), b""),
        (member("last", mtime=5000, type=tarfile.SYMTYPE, linkname="old"), b""),
    )
    url = web.add("/src.tar", packed(data))

    assert sources.archive(WebFile(url)).time == 3000
    assert sources.time_of(add(url)) == 3000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        bytes(10240),
        archive((member("d", type=tarfile.DIRTYPE), b"")),
        archive((member("cut off"), b"content"))[:600],
    ],
    ids=["nothing", "text", "zeros", "no files", "cut off"],
)
def test_what_has_no_files_has_no_time(web: WebServer, sources: RemoteSources, data: bytes) -> None:
    assert sources.time_of(add(web.add("/src.tar", data))) is None


def test_layers_are_no_contexts(
    web: WebServer,
    sources: RemoteSources,
) -> None:
    with pytest.raises(ContentError, match="whiteout"):
        sources.archive(WebFile(web.add("/c.tar", archive((member("a/.wh.b"), b"")))))


@pytest.mark.parametrize(
    "text",
    [
        *("ftp://user:SECRET@host/c.tar", "ftp://SECRET@host/c.tar", "ftp://host/c.tar?sig=SECRET"),
        *("ftp://user:a/SECRET@host/c.tar", "s3://id:SECRET@bucket/c.tar", "s3://?sig=SECRET"),
        *("https:/user:SECRET@host/c.tar", "user:SECRET@host/c.tar.gz", "//user:SECRET@host/c.tar"),
        *("dir://https://user:SECRET@host/c.tar", "tar://https://user:SECRET@host/c.tar"),
        *("http://user:SECRET/more@host/c.tar", "http://user:SECRET#more@host/c.tar"),
        *("http://user:SECRET?more@host/c.tar", "http://user:SECRET@host/c.tar\n"),
        *("http://user:[SECRET/more@host/c.tar", "http:user:SECRET@host/c.tar"),
    ],
)
def test_what_may_be_secret_is_not_said_of_what_cannot_be_used(
    sources: RemoteSources, text: str
) -> None:
    options = [BuildOptions(context=text), BuildOptions(dockerfile=text)]
    for option in options:
        with pytest.raises(KanikoError) as caught:
            read_sources(option, sources)
        assert "SECRET" not in f"{caught.value} {caught.value.hint}"
