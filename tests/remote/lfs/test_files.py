from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from kaniko_core.errors import ContextError, DigestMismatch, KanikoError
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import BytesMoved, Event, Progress, silent
from kaniko_core.registry.hosts import HostRules, Trust
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.git.access import Accounts
from kaniko_core.remote.git.run import Access, GitFailed
from kaniko_core.remote.lfs.files import LargeFiles
from kaniko_core.remote.lfs.places import Checkout
from kaniko_core.remote.web.files import basic
from kaniko_core.remote.web.netrc import Netrc
from tests.lfs_server import LfsServer, oid_of, pointer
from tests.repository import run_git
from tests.web_server import Answer, Request, WebServer, running_web

trustme = pytest.importorskip("trustme")

Resolve = Callable[..., int]
ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
PATH = "/git/code.git"
LARGE = bytes(range(256)) * 5000


class Given:
    """What a checkout is given: credentials by address, an SSH server, and what was asked."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.ssh_answer: str | None = None
        self.ssh_asked: list[tuple[str, ...]] = []

    def authorization(self, address: str) -> str | None:
        found = [token for start, token in self.tokens.items() if address.startswith(start)]
        return found[0] if found else None

    def run_ssh(self, *arguments: str) -> str:
        self.ssh_asked.append(arguments)
        if self.ssh_answer is None:
            raise GitFailed("command not found")
        return self.ssh_answer


@pytest.fixture
def lfs(web: WebServer) -> LfsServer:
    return LfsServer(web, PATH)


@pytest.fixture
def given() -> Given:
    return Given()


@pytest.fixture
def checkout(web: WebServer, tmp_path: Path, given: Given) -> Checkout:
    return new_checkout(tmp_path / "tree", web.address + PATH, given)


def run(directory: Path, *arguments: str) -> str:
    try:
        return run_git(directory, *arguments)
    except AssertionError as error:
        raise GitFailed(str(error)) from error


def new_checkout(directory: Path, address: str, given: Given) -> Checkout:
    directory.mkdir()
    run_git(directory, "init", "--quiet")
    run_git(directory, "remote", "add", "origin", address)
    return Checkout(
        directory=directory,
        run_git=run,
        authorization=given.authorization,
        run_ssh=given.run_ssh,
    )


def commit(checkout: Checkout, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = checkout.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run_git(checkout.directory, "add", "--all")
    run_git(checkout.directory, "commit", "--quiet", "--message", "a change")


@pytest.fixture
def resolve(checkout: Checkout) -> Iterator[Resolve]:
    transports = []

    def made(
        where: Checkout = checkout,
        *,
        progress: Progress = silent,
        stopped: threading.Event | None = None,
        retries: int = 2,
        **options: object,
    ) -> int:
        rules = HostRules.of(RegistryOptions(**options), push=False)  # type: ignore[arg-type]
        transports.append(Transport(rules))
        pacing = Pacing(retries, first=0.001)
        stopped = stopped or threading.Event()
        return LargeFiles(transports[-1], pacing, progress, stopped).resolve(where)

    yield made
    for transport in transports:
        transport.close()


def left(checkout: Checkout) -> list[str]:
    """List files that nobody committed."""
    return run_git(checkout.directory, "ls-files", "--others").splitlines()


def refusal(resolve: Resolve, **options: object) -> KanikoError:
    with pytest.raises(ContextError) as caught:
        resolve(**options)
    assert "signature" not in str(caught.value)
    return caught.value


# --- which files -----------------------------------------------------------------------------


def test_pointers_become_files(lfs: LfsServer, checkout: Checkout, resolve: Resolve) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "dir/ä b.bin": lfs.put(LARGE), "x": "x"})

    assert resolve() == 1

    assert (checkout.directory / "dir/ä b.bin").read_bytes() == LARGE
    assert lfs.asked == [[oid_of(LARGE)]]
    assert left(checkout) == []


def test_nobody_is_asked_where_there_are_none(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(checkout, {".gitattributes": "*.bin -text\n", "a.bin": lfs.put(b"a")})

    assert resolve() == 0
    assert web.requests == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no pointer\n",
        "version https://git-lfs.github.com/spec/v1\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1\n",
        "version https://git-lfs.github.com/spec/v1\noid sha1:" + "0" * 64 + "\nsize 1\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize -1\n",
        "version https://example.com/spec\noid sha256:" + "0" * 64 + "\nsize 1\n",
        "oid sha256:" + "0" * 64 + "\nsize 1\nversion https://git-lfs.github.com/spec/v1\n",
        pointer(b"x") + "#" * 1024,
    ],
)
def test_what_is_no_pointer_stays(checkout: Checkout, resolve: Resolve, content: str) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": content})

    assert resolve() == 0
    assert (checkout.directory / "a.bin").read_text() == content


def test_pointer_without_the_attribute_stays(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    text = lfs.put(b"a")
    attributes = ATTRIBUTES + "plain.bin -filter\nother.bin filter=other\n"
    names = ("a.txt", "plain.bin", "other.bin")
    commit(checkout, {".gitattributes": attributes, **dict.fromkeys(names, text)})

    assert resolve() == 0
    assert {(checkout.directory / name).read_text() for name in names} == {text}


def test_attributes_of_directories_and_macros_count(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(
        checkout,
        {
            ".gitattributes": "[attr]large filter=lfs\n*.zip large\n",
            "deep/er/.gitattributes": "model filter=lfs\n",
            "a.zip": lfs.put(b"a"),
            "deep/er/model": lfs.put(b"b"),
        },
    )

    assert resolve() == 2
    assert (checkout.directory / "a.zip").read_bytes() == b"a"
    assert (checkout.directory / "deep/er/model").read_bytes() == b"b"


def test_files_that_are_not_checked_out_are_not_fetched(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    """Nor are the attributes needed there: .dockerignore often leaves them out."""
    commit(
        checkout,
        {".gitattributes": ATTRIBUTES, "in/a.bin": lfs.put(b"in"), "out/a.bin": lfs.put(b"out")},
    )
    run_git(checkout.directory, "sparse-checkout", "set", "--no-cone", "/in/")
    assert sorted(os.listdir(checkout.directory)) == [".git", "in"]

    assert resolve() == 1

    assert (checkout.directory / "in/a.bin").read_bytes() == b"in"
    assert lfs.asked == [[oid_of(b"in")]]
    assert not (checkout.directory / "out").exists()


def test_mode_stays(lfs: LfsServer, checkout: Checkout, resolve: Resolve) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a"), "b.bin": lfs.put(b"b")})
    (checkout.directory / "a.bin").chmod(0o755)
    (checkout.directory / "b.bin").chmod(0o644)

    resolve()

    modes = [
        stat.S_IMODE((checkout.directory / name).stat().st_mode) for name in ("a.bin", "b.bin")
    ]
    assert modes == [0o755, 0o644]


def test_link_is_not_followed(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text(lfs.put(b"a"))
    (checkout.directory / "a.bin").symlink_to(outside)
    commit(checkout, {".gitattributes": "a.bin filter=lfs\n"})

    assert resolve() == 0
    assert outside.read_text() == pointer(b"a")


def test_same_content_is_fetched_once(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    text = lfs.put(LARGE)
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": text, "b.bin": text, "d/c.bin": text})

    assert resolve() == 3

    assert {(checkout.directory / name).read_bytes() for name in ("a.bin", "b.bin", "d/c.bin")} == {
        LARGE
    }
    assert len(web.asked(lfs.object_path(oid_of(LARGE)))) == 1


def test_many_are_asked_for_a_hundred_at_a_time(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    contents = {f"{number:03}.bin": f"{number}".encode() for number in range(250)}
    files = {name: lfs.put(content) for name, content in contents.items()}
    commit(checkout, {".gitattributes": ATTRIBUTES, **files})

    assert resolve() == 250

    assert [len(each) for each in lfs.asked] == [100, 100, 50]
    assert {name: (checkout.directory / name).read_bytes() for name in contents} == contents


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("https://git-lfs.github.com", "https://hawser.github.com"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
    ],
    ids=["hawser", "crlf", "no newline"],
)
def test_pointers_of_other_forms(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, change: Callable[[str], str]
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": change(lfs.put(b"a"))})

    assert resolve() == 1
    assert (checkout.directory / "a.bin").read_bytes() == b"a"


def test_extension_is_refused(lfs: LfsServer, checkout: Checkout, resolve: Resolve) -> None:
    version, rest = lfs.put(b"a").split("\n", 1)
    extended = f"{version}\next-0-crypt sha256:{'1' * 64}\n{rest}"
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": extended})

    error = refusal(resolve)

    assert "a.bin" in str(error)
    assert "crypt" in str(error)


def test_submodules_have_servers_of_their_own(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve, given: Given
) -> None:
    other = LfsServer(web, "/git/inner.git")
    inner = new_checkout(checkout.directory / "inner", f"{web.address}/git/inner", given)
    commit(inner, {".gitattributes": ATTRIBUTES, "i.bin": other.put(b"inner")})
    modules = '[submodule "x"]\n\tpath = inner\n\turl = ../inner\n'
    commit(
        checkout,
        {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a"), ".gitmodules": modules},
    )

    assert resolve() == 2

    assert (checkout.directory / "inner/i.bin").read_bytes() == b"inner"
    assert (lfs.asked, other.asked) == ([[oid_of(b"a")]], [[oid_of(b"inner")]])


def test_submodule_cannot_name_another_directory_of_this_host(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, given: Given, tmp_path: Path
) -> None:
    outside = new_checkout(tmp_path / "outside", checkout.address, given)
    commit(outside, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})
    modules = '[submodule "x"]\n\tpath = ../outside\n\turl = ../x\n'
    commit(checkout, {".gitmodules": modules})

    assert resolve() == 0
    assert (outside.directory / "a.bin").read_text() == pointer(b"a")


# --- where the server is ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["/git/code", "/git/code.git", "/git/code.git/"])
def test_server_is_found_by_the_address(
    lfs: LfsServer, web: WebServer, resolve: Resolve, given: Given, tmp_path: Path, suffix: str
) -> None:
    where = new_checkout(tmp_path / "other", web.address + suffix, given)
    commit(where, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve(where) == 1


@pytest.mark.parametrize("key", ["[lfs]\n\turl", '[remote "origin"]\n\tlfsurl'])
def test_server_is_named_in_the_commit(
    other_web: WebServer, checkout: Checkout, resolve: Resolve, key: str
) -> None:
    elsewhere = LfsServer(other_web, "/lfs")
    configuration = f"{key} = {elsewhere.url}\n"
    commit(
        checkout,
        {
            ".gitattributes": ATTRIBUTES,
            ".lfsconfig": configuration,
            "a.bin": elsewhere.put(b"a"),
        },
    )
    (checkout.directory / ".lfsconfig").unlink()

    assert resolve() == 1
    assert (checkout.directory / "a.bin").read_bytes() == b"a"


@pytest.mark.parametrize(
    "address", ["ssh://git@example.com/x.git", "file:///etc", "git@example.com:x.git", "https://"]
)
def test_server_without_http_in_the_commit_is_refused(
    checkout: Checkout, resolve: Resolve, address: str
) -> None:
    configuration = f"[lfs]\n\turl = {address}\n"
    commit(
        checkout,
        {".gitattributes": ATTRIBUTES, ".lfsconfig": configuration, "a.bin": pointer(b"a")},
    )

    assert ".lfsconfig" in str(refusal(resolve))


def test_git_protocol_is_refused_with_the_name_of_a_file(
    resolve: Resolve, given: Given, tmp_path: Path
) -> None:
    where = new_checkout(tmp_path / "other", "git://example.com/code.git", given)
    commit(where, {".gitattributes": ATTRIBUTES, "a.bin": pointer(b"a"), "b.bin": pointer(b"b")})

    error = refusal(resolve, where=where)

    assert str(error) == (
        "cannot fetch a.bin and 1 more of the Git LFS files of git://example.com/code.git: "
        "there is no LFS for git://"
    )
    assert error.hint is not None
    assert "https" in error.hint


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("git@example.com:org/a b.git", ("--", "git@example.com", "'org/a b.git'")),
        ("ssh://git@example.com/org/c.git", ("--", "git@example.com", "org/c.git")),
        ("ssh://example.com:2222/c.git", ("-p", "2222", "--", "example.com", "c.git")),
    ],
)
def test_ssh_server_says_where_the_server_is(
    lfs: LfsServer,
    resolve: Resolve,
    given: Given,
    tmp_path: Path,
    address: str,
    asked: tuple[str, ...],
) -> None:
    lfs.authorization = "RemoteAuth abc"
    where = new_checkout(tmp_path / "other", address, given)
    commit(where, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})
    given.ssh_answer = json.dumps(
        {"href": lfs.url, "header": {"Authorization": lfs.authorization}, "expires_in": 60}
    )

    assert resolve(where) == 1

    *options, path = asked
    assert given.ssh_asked == [(*options, f"git-lfs-authenticate {path} download")]


@pytest.mark.parametrize("answer", [None, "", "[]", '{"href": "ftp://x"}', '{"href": 1}'])
def test_ssh_server_without_lfs_is_refused(
    resolve: Resolve, given: Given, tmp_path: Path, answer: str | None
) -> None:
    where = new_checkout(tmp_path / "other", "git@example.com:code.git", given)
    commit(where, {".gitattributes": ATTRIBUTES, "a.bin": pointer(b"a")})
    given.ssh_answer = answer

    assert "a.bin, a Git LFS file of git@example.com:code.git" in str(refusal(resolve, where=where))


# --- credentials -----------------------------------------------------------------------------


def test_server_gets_the_repository_s_credentials(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve, given: Given
) -> None:
    lfs.authorization = given.tokens[web.address + PATH] = "Basic c2VjcmV0"
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve() == 1
    (request,) = web.asked(lfs.object_path(oid_of(b"a")))
    assert request.headers.get("authorization") == "Basic c2VjcmV0"  # the same server


def test_password_in_the_address_is_sent(
    lfs: LfsServer, web: WebServer, resolve: Resolve, given: Given, tmp_path: Path
) -> None:
    lfs.authorization = basic("me", "pass word")
    address = web.address.replace("://", "://me:pass%20word@") + PATH
    where = new_checkout(tmp_path / "other", address, given)
    commit(where, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve(where) == 1


def test_another_server_gets_no_credentials(
    lfs: LfsServer,
    web: WebServer,
    other_web: WebServer,
    checkout: Checkout,
    resolve: Resolve,
    given: Given,
) -> None:
    given.tokens[web.address] = lfs.authorization = "Basic c2VjcmV0"
    lfs.store = other_web
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve() == 1
    assert all("authorization" not in request.headers for request in other_web.requests)


def test_server_named_in_the_commit_gets_what_was_given_for_it(
    web: WebServer, other_web: WebServer, checkout: Checkout, resolve: Resolve, given: Given
) -> None:
    elsewhere = LfsServer(other_web, "/lfs", authorization="Basic b3RoZXI=")
    given.tokens = {web.address: "Basic c2VjcmV0", other_web.address: "Basic b3RoZXI="}
    configuration = f"[lfs]\n\turl = {elsewhere.url}\n"
    commit(
        checkout,
        {".gitattributes": ATTRIBUTES, ".lfsconfig": configuration, "a.bin": elsewhere.put(b"a")},
    )

    assert resolve() == 1


def test_headers_of_an_object_go_to_its_address_and_not_beyond(
    lfs: LfsServer, web: WebServer, other_web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    lfs.action = {"header": {"Authorization": "Token abc", "X-Key": "k"}}
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})
    path = lfs.object_path(oid_of(b"a"))
    target = other_web.add(path, b"a")
    web.answer(path, Answer(302, {"Location": target}))

    assert resolve() == 1

    (first,), (second,) = web.asked(path), other_web.asked(path)
    assert (first.headers["authorization"], first.headers["x-key"]) == ("Token abc", "k")
    assert {"authorization", "x-key"}.isdisjoint(second.headers)


def test_server_does_not_say_how_a_request_is_sent(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    ours = {"Host": "other", "Content-Length": "5", "Transfer-Encoding": "chunked", "range": "0-1"}
    lfs.action = {"header": {**ours, "X-Key": "k"}}
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve() == 1

    (asked,) = web.asked(lfs.object_path(oid_of(b"a")))
    assert asked.headers["x-key"] == "k"
    assert asked.headers["host"] == web.address.removeprefix("http://")
    assert asked.headers.keys().isdisjoint({"content-length", "transfer-encoding", "range"})


def test_batch_request_is_sent_again_where_it_is_redirected(
    lfs: LfsServer,
    web: WebServer,
    other_web: WebServer,
    checkout: Checkout,
    resolve: Resolve,
    given: Given,
) -> None:
    given.tokens[web.address] = "Basic c2VjcmV0"
    moved = LfsServer(other_web, "/moved", store=web)
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": moved.put(b"a")})
    location = other_web.address + moved.batch_path
    web.answer(lfs.batch_path, Answer(307, {"Location": location}))

    assert resolve() == 1

    (request,) = other_web.asked(moved.batch_path)
    assert request.method == "POST"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("where", ["redirect", "href"])
def test_nothing_leads_from_https_to_http(
    web: WebServer, resolve: Resolve, given: Given, tmp_path: Path, where: str
) -> None:
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with running_web(tls=context) as secure:
        host = secure.address.removeprefix("https://")
        lfs = LfsServer(secure, PATH, store=web if where == "href" else None)
        checkout = new_checkout(tmp_path / "other", secure.address + PATH, given)
        commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})
        if where == "redirect":
            target = web.add("/a", b"a")
            path = lfs.object_path(oid_of(b"a"))
            secure.answer(path, Answer(302, {"Location": target}))

        error = refusal(resolve, where=checkout, registry_certificate=((host, str(bundle)),))

    assert "without TLS" in str(error)
    assert web.requests == []


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("https://code.example/a.git/info/lfs", "Basic cmVwb3NpdG9yeQ=="),
        ("https://lfs.example/x", "Token given"),
        ("https://other.example/x", basic("me", "word")),
        ("https://nobody.example/x", None),
        ("https://code.example/b.git", None),
        ("http://lfs.example/x", None),
        ("http://other.example/x", None),
    ],
)
def test_only_what_was_given_for_a_server_goes_there(
    tmp_path: Path, address: str, sent: str | None
) -> None:
    """The commit names it; a token for all hosts, or one read on the way, would be anyone's."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine other.example login me password word\n")
    netrc.chmod(0o600)
    accounts = Accounts(
        {"GIT_AUTH_HEADER.lfs.example": b"Token given", "GIT_AUTH_TOKEN": b"for the repository"},
        lambda _: Trust(),
        lambda: None,
        {},
        None,
        Netrc({"NETRC": str(netrc)}, silent),
    )
    scope = "http.https://code.example/a.git.extraHeader"
    access = Access(("https",), {scope: "Authorization: Basic cmVwb3NpdG9yeQ=="})

    assert accounts.authorization(access, address) == sent


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [(404, "does not have it"), (403, "not allow"), (410, "removed"), (507, "507")],
)
def test_refused_object_is_named(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, code: int, said: str
) -> None:
    files = {f"{name}.bin": lfs.put(name.encode()) for name in "abc"}
    commit(checkout, {".gitattributes": ATTRIBUTES, **files})
    lfs.errors[oid_of(b"b")] = (code, "because\n\x1b[31mof me")

    message = str(refusal(resolve))

    assert "b.bin, a Git LFS file of" in message
    assert said in message
    assert f"({code})" in message
    assert message.endswith("because [31mof me")
    assert left(checkout) == []


def test_missing_object_says_who_can_mend_it(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": pointer(b"never pushed")})

    error = refusal(resolve)

    assert error.hint is not None
    assert "push" in error.hint


@pytest.mark.parametrize("status", [401, 403, 404, 418, 501])
def test_server_that_refuses_is_quoted(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve, status: int
) -> None:
    body = json.dumps({"message": "over its data quota"}).encode()
    web.answer(lfs.batch_path, Answer(status, {}, body))
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": pointer(b"a")})

    message = str(refusal(resolve))

    assert f"({status})" in message or f"status {status}" in message
    assert "over its data quota" in message


def test_what_a_server_repeats_of_a_secret_is_not_shown(
    lfs: LfsServer,
    web: WebServer,
    checkout: Checkout,
    resolve: Resolve,
    given: Given,
) -> None:
    given.tokens[web.address] = "Basic c2VjcmV0"
    body = json.dumps({"message": "who is Basic c2VjcmV0?"}).encode()
    web.answer(lfs.batch_path, Answer(403, {}, body))
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": pointer(b"a")})

    error = refusal(resolve)

    assert "c2VjcmV0" not in f"{error} {error.hint}"
    assert "does not accept the credentials" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"[" * 5000,
        b'{"objects": {}}',
        b'{"objects": 1}',
        b'{"objects": [1]}',
        b'{"objects": []}',
        b'{"objects": [], "transfer": "tus"}',
        json.dumps({"objects": [{"oid": oid_of(b"a"), "size": 1}]}).encode(),
        json.dumps(
            {"objects": [{"oid": oid_of(b"a"), "actions": {"download": {"href": "ftp://x/y"}}}]}
        ).encode(),
        json.dumps(
            {"objects": [{"oid": oid_of(b"a"), "actions": {"download": {"href": "http://[/"}}}]}
        ).encode(),
        json.dumps(
            {
                "objects": [
                    {
                        "oid": oid_of(b"a"),
                        "actions": {
                            "download": {"href": "http://127.0.0.1/", "header": {"A": "b\r\nC: d"}}
                        },
                    }
                ]
            }
        ).encode(),
    ],
)
def test_answer_of_something_else_is_refused(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve, answer: bytes
) -> None:
    web.answer(lfs.batch_path, Answer(200, {}, answer))
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": pointer(b"a")})

    assert "a.bin" in str(refusal(resolve))


@pytest.mark.parametrize("instead", [LARGE[:-1] + b"!", LARGE + b"!"], ids=["other", "longer"])
def test_wrong_bytes_are_not_used(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, instead: bytes
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(LARGE, instead)})

    with pytest.raises(DigestMismatch, match=r"a\.bin, a Git LFS file of"):
        resolve()

    assert (checkout.directory / "a.bin").read_text() == pointer(LARGE)
    assert left(checkout) == []


def test_short_bytes_are_not_used(lfs: LfsServer, checkout: Checkout, resolve: Resolve) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(LARGE, LARGE[:-1])})

    assert "a.bin" in str(refusal(resolve))
    assert (checkout.directory / "a.bin").read_text() == pointer(LARGE)
    assert left(checkout) == []


def test_broken_transfer_is_taken_up_where_it_ended(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(LARGE)})
    path = lfs.object_path(oid_of(LARGE))
    half = len(LARGE) // 2

    def page(request: Request) -> Answer:
        asked = request.headers.get("range")
        if asked is None:
            return Answer(200, {}, LARGE, stop_after=half)
        start = int(asked.removeprefix("bytes=").split("-")[0])
        span = f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"
        return Answer(206, {"Content-Range": span}, LARGE[start:])

    web.pages[path] = page

    assert resolve() == 1
    assert (checkout.directory / "a.bin").read_bytes() == LARGE
    assert len(web.asked(path)) == 2


def test_broken_transfer_begins_anew_where_the_server_knows_no_ranges(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(LARGE)})
    path = lfs.object_path(oid_of(LARGE))
    web.answer(path, Answer(200, {}, LARGE, stop_after=100_000), Answer(200, {}, LARGE))

    assert resolve() == 1
    assert (checkout.directory / "a.bin").read_bytes() == LARGE


def test_busy_servers_are_asked_again(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})
    batch, path = web.pages[lfs.batch_path], lfs.object_path(oid_of(b"a"))
    given = [Answer(503), Answer(429)]
    web.pages[lfs.batch_path] = lambda request: given.pop() if given else batch(request)
    web.answer(path, Answer(500), Answer(200, {}, b"a"))

    assert resolve() == 1


def test_address_that_expired_is_asked_for_anew(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    lfs.action = {"expires_in": -1}
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve() == 1
    assert lfs.asked == [[oid_of(b"a")]] * 2


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "2999-11-10T15:29:07Z", ""])
def test_address_that_did_not_expire_is_used(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, at: str
) -> None:
    lfs.action = {"expires_at": at}
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})

    assert resolve() == 1
    assert len(lfs.asked) == 1


def test_cancelled_transfer_leaves_the_pointer(
    lfs: LfsServer, web: WebServer, checkout: Checkout, resolve: Resolve
) -> None:
    commit(checkout, {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(b"a")})
    stopped = threading.Event()
    path = lfs.object_path(oid_of(b"a"))

    def page(_: Request) -> Answer:
        stopped.set()
        return Answer(200, {}, b"a")

    web.pages[path] = page

    assert "cancelled" in str(refusal(resolve, stopped=stopped))
    assert (checkout.directory / "a.bin").read_text() == pointer(b"a")
    assert left(checkout) == []


def test_progress_counts_all_files_together(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve
) -> None:
    events: list[Event] = []
    commit(
        checkout,
        {".gitattributes": ATTRIBUTES, "a.bin": lfs.put(LARGE), "b.bin": lfs.put(LARGE + b"b")},
    )

    resolve(progress=events.append)

    moved = [event for event in events if isinstance(event, BytesMoved)]
    assert (moved[-1].done, moved[-1].total) == (2 * len(LARGE) + 1,) * 2
    assert {event.what for event in moved} == {f"LFS files of {checkout.address}"}


# --- the same as git-lfs ---------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_files_are_those_of_git_lfs(
    lfs: LfsServer, checkout: Checkout, resolve: Resolve, tmp_path: Path
) -> None:
    attributes = ATTRIBUTES + "none.bin -filter\ndocs/* filter=lfs\n"
    files = {
        ".gitattributes": attributes,
        "a.bin": lfs.put(LARGE),
        "docs/same": lfs.put(LARGE),
        "docs/text": "text",
        "none.bin": lfs.put(LARGE),
        "crlf.bin": lfs.put(b"c").replace("\n", "\r\n"),
        "odd.bin": lfs.put(b"d") + "\n\n",
        "empty.bin": "",
    }
    commit(checkout, files)
    theirs = tmp_path / "theirs"
    filters = ("filter.lfs.smudge=git-lfs smudge -- %f", "filter.lfs.required=true")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    configured = [word for setting in filters for word in ("-c", setting)]
    run_git(tmp_path, "clone", "--quiet", "--no-checkout", str(checkout.directory), str(theirs))
    run_git(theirs, "remote", "set-url", "origin", checkout.address)
    subprocess.run(
        ["git", *configured, "checkout", "--quiet", "HEAD"], cwd=theirs, env=environment, check=True
    )

    resolve()

    for name in files:
        assert (checkout.directory / name).read_bytes() == (theirs / name).read_bytes(), name
