from __future__ import annotations

import posixpath
from typing import Any

import pytest

from kaniko_core.addresses.git import GitReference, parse_git_context, parse_git_reference
from kaniko_core.errors import UsageError
from tests.conformance import cases


@pytest.mark.parametrize(("given", "expected"), cases("git-refs.json"))
def test_references_mean_what_they_mean_to_buildkit(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    if "error" in expected and expected["is_git"]:
        with pytest.raises(UsageError):
            parse_git_reference(given["ref"])
    elif "error" in expected:
        assert parse_git_reference(given["ref"]) is None
    else:
        wanted = expected["ref"]
        found = parsed(given["ref"])
        # What nothing here asks for is known all the same.
        path = found.url.path if found.url else found.remote.partition(":")[2]
        assert posixpath.basename(path).removesuffix(".git") == wanted["ShortName"]
        scheme = found.url.scheme if found.url else "ssh"
        assert (scheme in ("http", "git")) is wanted["UnencryptedTCP"]
        assert found == GitReference(
            remote=wanted["Remote"],
            ref=wanted["Ref"],
            checksum=wanted["Checksum"],
            subdirectory=wanted["SubDir"],
            keep_git_dir=wanted["KeepGitDir"],
            submodules=wanted["Submodules"],
            mtime=wanted["MTime"],
            fetch_by_commit=wanted["FetchByCommit"],
            looks_local=wanted["IndistinguishableFromLocal"],
        )


def parsed(text: str) -> GitReference:
    reference = parse_git_reference(text)
    assert reference is not None
    return reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "./x.git",
        "../x.git",
        ".git",
        "x.git",
        "dir/file",
        "/srv/x.git",
        "file:///srv/x.git",
        "ftp://host/x.git",
        "git+https://host/x.git",
        "https://host/x",
        "https://host/x.git/",
        "https://host/x.git.txt",
        "https://host/?x.git",
        "https://ho st/x.git",
        "https://host/%zz.git",
        "https://host/x.git#%zz",
        "https://host:port/x.git",
        "https://user name@host/x.git",
        "https://[fe80/x.git",
        "https://[host]/x.git",
        "https://host\x7f/x.git",
        "host:x.git",
        "user name@host:x.git",
        "user@ho_st:x.git",
        "git@host:x.git?a=%zz",
        "git@host:x\n.git",
    ],
)
def test_what_names_no_repository(text: str) -> None:
    assert parse_git_reference(text) is None


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("git@host:x.git", "git@host:x.git"),
        ("me-2@host:/srv/x", "me-2@host:/srv/x"),
        ("ssh://git@host:22/~/x", "ssh://git@host:22/~/x"),
        ("git://host/x", "git://host/x"),
        ("HTTPS://Host/x.git", "https://Host/x.git"),
        ("https://host/x%2egit", "https://host/x%2egit"),
        ("https://host/a b.git", "https://host/a%20b.git"),
        ("https://u:p%40w@host/x.git", "https://u:p%40w@host/x.git"),
        ("https://[::1]:80/x.git", "https://[::1]:80/x.git"),
        ("https://host:/x.git", "https://host:/x.git"),
        ("https://host/x.git?", "https://host/x.git?"),
        ("github.com/a/b?x;y", "github.com/a/b"),
    ],
)
def test_remote_is_what_go_makes_of_it(text: str, remote: str) -> None:
    assert parsed(text).remote == remote


@pytest.mark.parametrize(
    ("suffix", "ref", "directory"),
    [
        ("", "", ""),
        ("#", "", ""),
        ("#main", "main", ""),
        ("#:sub", "", "sub"),
        ("#main:", "main", ""),
        ("#a/b:c/d", "a/b", "c/d"),
        ("#a:b:c", "a", "b:c"),
        ("#main:/../../etc", "main", "etc"),
        ("#main:a/../b/", "main", "b"),
        ("?ref=v1", "v1", ""),
        ("?ref=v1#v1", "v1", ""),
        ("?tag=v1", "refs/tags/v1", ""),
        ("?tag=refs/tags/v1", "refs/tags/v1", ""),
        ("?tag=v1#refs/tags/v1", "refs/tags/v1", ""),
        ("?branch=b+c", "refs/heads/b c", ""),
        ("?branch=refs/heads/b", "refs/heads/b", ""),
        ("?subdir=/sub", "", "/sub"),
        ("?subdir=s#:s", "", "s"),
    ],
)
@pytest.mark.parametrize("remote", ["https://host/x.git", "git@host:x.git", "github.com/a/b"])
def test_reference_and_directory(remote: str, suffix: str, ref: str, directory: str) -> None:
    reference = parsed(remote + suffix)

    assert (reference.ref, reference.subdirectory) == (ref, directory)


def test_fragments_of_urls_are_decoded_those_of_scp_forms_are_not() -> None:
    assert parsed("https://h/x.git#a%2Fb").ref == "a/b"
    assert parsed("git@h:x.git#a%2Fb").ref == "a%2Fb"


@pytest.mark.parametrize("value", ["", "=", "=1", "=t", "=T", "=true", "=TRUE", "=True"])
def test_flags_are_true(value: str) -> None:
    reference = parsed(
        f"https://h/x.git?keep-git-dir{value}&submodules{value}&fetch-by-commit{value}"
    )

    assert reference.keep_git_dir
    assert reference.submodules
    assert reference.fetch_by_commit


@pytest.mark.parametrize("value", ["0", "f", "F", "false", "FALSE", "False"])
def test_flags_are_false(value: str) -> None:
    reference = parsed(f"https://h/x.git?keep-git-dir={value}&submodules={value}")

    assert reference.keep_git_dir is False
    assert reference.submodules is False


@pytest.mark.parametrize(
    "query",
    [
        "unknown=1",
        "=1",
        "ref",
        "ref=",
        "tag=",
        "subdir=",
        "checksum=",
        "mtime=",
        "mtime=now",
        "ref=a&ref=a",
        "keep-git-dir=yes",
        "submodules=2",
        "fetch-by-commit=no",
        "tag=a&branch=a",
        "ref=a&tag=a",
        "ref=a&branch=a",
    ],
)
@pytest.mark.parametrize("remote", ["https://host/x.git", "git@host:x.git"])
def test_wrong_queries_are_refused(remote: str, query: str) -> None:
    with pytest.raises(UsageError):
        parse_git_reference(f"{remote}?{query}")


def test_checksum_has_two_names() -> None:
    assert parsed("https://h/x.git?commit=abc").checksum == "abc"
    assert parsed("https://h/x.git?checksum=abc").checksum == "abc"


@pytest.mark.parametrize("key", ["checksum", "commit"])
@pytest.mark.parametrize("digits", [40, 64])
def test_whole_commit_alone_is_what_is_wanted(key: str, digits: int) -> None:
    commit = "a1" * (digits // 2)
    assert parsed(f"https://h/x.git?{key}={commit}").ref == commit
    assert parsed(f"https://h/x.git?{key}={commit}#main").ref == "main"
    assert parsed(f"https://h/x.git?{key}={commit[:-1]}").ref == ""


def test_names_for_people_hold_no_password() -> None:
    assert parsed("https://u:secret@h/x.git?ref=v1#v1").name == "https://h/x.git"
    assert parsed("ssh://git:secret@h/x.git").name == "ssh://git@h/x.git"
    assert parsed("git@h:x.git").name == "git@h:x.git"


_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git://host/x", GitReference("https://host/x")),
        ("git://host/x.git#main:d", GitReference("https://host/x.git", "main", subdirectory="d")),
        ("git://me:pw@host/x", GitReference("https://me:pw@host/x")),
        ("git://[::1]/x", GitReference("https://[::1]/x")),
        ("git://host:1/x#v1", GitReference("git://host:1/x", "v1", either_protocol=True)),
        ("git://[::1]:1/x", GitReference("git://[::1]:1/x", either_protocol=True)),
        ("git@host:x#v1", GitReference("git@host:x", "v1")),
        (
            f"git://host/x#refs/heads/a/b#{_COMMIT.upper()}:d/e",
            GitReference("https://host/x", "refs/heads/a/b", _COMMIT, "d/e", fetch_by_commit=True),
        ),
        (
            f"https://host/x.git#a#{_COMMIT}",
            GitReference("https://host/x.git", "a", _COMMIT, fetch_by_commit=True),
        ),
        (
            f"git@host:x##{_COMMIT}",
            GitReference("git@host:x", "", _COMMIT, fetch_by_commit=True),
        ),
        ("git://host/x#main#", GitReference("https://host/x", "main")),
        ("git://host/x#refs/pull/7/head", GitReference("https://host/x", "refs/pull/7/head")),
        ("github.com/o/n", GitReference("github.com/o/n", looks_local=True)),
        ("https://host/x.tar.gz", None),
        ("./git://host/x", None),
        ("dir", None),
    ],
)
def test_contexts(text: str, expected: GitReference | None) -> None:
    assert parse_git_context(text) == expected


@pytest.mark.parametrize(
    ("method", "remote"),
    [("http", "http://host:1/x"), ("https", "https://host:1/x"), ("git", "git://host:1/x")],
)
def test_pull_method_settles_the_protocol(method: str, remote: str) -> None:
    assert parse_git_context("git://host:1/x", method) == GitReference(remote)
    assert parse_git_context("ssh://host/x", method) == GitReference("ssh://host/x")


@pytest.mark.parametrize(
    ("text", "method", "said"),
    [
        ("git://me:geheim@host/x", "ftp", "GIT_PULL_METHOD=ftp is no way to reach git://host/x"),
        ("git://host/x#main#0123", "", '"0123" is no commit'),
        (f"git://host/x#main#{_COMMIT}#x", "", "is no commit"),
        (f"git://host/x?commit=ff#main#{_COMMIT}", "", "two values for its commit"),
    ],
)
def test_wrong_contexts(text: str, method: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_git_context(text, method)

    assert said in str(caught.value)
