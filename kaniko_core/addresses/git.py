"""References to git repositories: BuildKit's grammar, as ADD, contexts and named contexts have it.

    https://host/path.git#ref:directory       .git is what makes a URL a repository
    https://host/path.git?branch=b&subdir=d   ref, tag, branch, subdir, checksum (or commit),
                                              keep-git-dir, submodules, mtime, fetch-by-commit
    ssh://user@host/path   user@host:path   git://host/path
    github.com/owner/name                     for contexts only: ADD takes it for a file

and what Go kaniko adds to it for contexts, see :func:`parse_git_context`.

Source: docs.docker.com/build/concepts/context, "URL fragments" and "URL queries"; BuildKit v0.32
decides what they leave open.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kaniko_core.addresses.url import Url, parse_url, query_fields
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.values import boolean

_PROTOCOL = re.compile(r"([A-Za-z0-9]+)://")
_PROTOCOLS = frozenset({"http", "https", "ssh", "git"})
# user@host:path, with a query and a fragment. The path ends where either begins.
_SCP = re.compile(
    r"(?P<user>[A-Za-z0-9_-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^\n?#]*)"
    r"(?:\?(?P<query>[^\n#]*))?(?:#(?P<fragment>[^\n]*))?"
)
_GITHUB = "github.com/"
_SUFFIX = ".git"
_TAGS, _BRANCHES = "refs/tags/", "refs/heads/"
# What GIT_PULL_METHOD may say.
_PULL_METHODS = frozenset({"http", "https", "git"})
_FLAGS = frozenset({"keep-git-dir", "submodules", "fetch-by-commit"})
_KEYS = _FLAGS | {"ref", "tag", "branch", "subdir", "checksum", "commit", "mtime"}
_TIMES = frozenset({"checkout", "commit"})
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1, or SHA-256


@dataclass(frozen=True, slots=True)
class GitReference:
    """A repository, and what of it is meant.

    Attributes:
        remote: what git is given: without query and fragment; it may hold a password.
        ref: a branch, tag, full name or commit; empty for the default branch. Where a query
            says nothing but a whole commit, it is that commit.
        checksum: a commit, or how its hash begins, that *ref* must lead to; or empty.
        subdirectory: what becomes the root; empty for everything.
        keep_git_dir: whether ``.git`` is kept; None where nothing is said.
        submodules: whether submodules are fetched; None (nothing said) means that they are.
        mtime: ``checkout`` or ``commit``; or empty.
        fetch_by_commit: whether *checksum* is fetched even if *ref* has moved on.
        looks_local: whether it could as well name a file: ADD takes it for one.
        either_protocol: whether *remote* is a ``git://`` of Go kaniko with a port, where either
            https or git's own protocol is spoken: asking the server tells.
    """

    remote: str
    ref: str = ""
    checksum: str = ""
    subdirectory: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: str = ""
    fetch_by_commit: bool = False
    looks_local: bool = False
    either_protocol: bool = False

    @property
    def name(self) -> str:
        """How to name the repository to people: without a password."""
        return self.address.removesuffix("?")

    @property
    def address(self) -> str:
        """What git can be told without telling others a password: it has to be sent apart."""
        url = self.url
        if url is None:
            return self.remote
        if url.scheme != "ssh" or url.user is None:
            return str(url.anonymous)
        return str(replace(url, user=(url.user[0], None)))

    @property
    def url(self) -> Url | None:
        """The remote in parts; None for ``user@host:path``."""
        if self.looks_local:
            return parse_url(f"https://{self.remote}")
        return parse_url(self.remote) if _PROTOCOL.match(self.remote) else None


def is_commit(text: str) -> bool:
    """Whether *text* is the whole hash of a commit."""
    return _COMMIT.fullmatch(text) is not None


def parse_git_reference(text: str) -> GitReference | None:
    """Read *text*; return None where it names no git repository.

    Raises:
        UsageError: it does, but what it says about it is wrong.
    """
    if text.startswith(("./", "../")):
        return None
    found = _from_url(text) if _is_url(text) else _from_scp(text)
    if found is None:
        return None
    reference, fields = found
    return _with_query(reference, fields)


def parse_git_context(text: str, pull_method: str = "") -> GitReference | None:
    """Read *text* as ``--context`` has it; return None where it names no git repository.

    A commit may follow the reference, as in ``#refs/heads/main#0123…``, also before ``:directory``.
    ``git://`` means https, as with Go kaniko, because hardly any server speaks git's own protocol.

    Args:
        text: what the user typed.
        pull_method: the value of GIT_PULL_METHOD: what is spoken instead of https.

    Raises:
        UsageError: it names a repository, but what it says about it is wrong.
    """
    address, _, fragment = text.partition("#")
    ref, _, behind = fragment.partition("#")
    commit, colon, directory = behind.partition(":")
    reference = parse_git_reference(f"{address}#{ref}{colon}{directory}" if fragment else address)
    if reference is None:
        return None
    if commit:
        reference = _at_commit(reference, commit.lower())
    return _pulled(reference, pull_method)


def _at_commit(reference: GitReference, commit: str) -> GitReference:
    if not is_commit(commit):
        raise UsageError(
            f'"{commit}" is no commit, in {reference.name}#{reference.ref}#{commit}',
            hint="behind the second # there are all digits of its hash",
        )
    if not commit.startswith(reference.checksum.lower()):
        raise _conflict("commit", reference.checksum, commit)
    return replace(reference, checksum=commit, fetch_by_commit=True)


def _pulled(reference: GitReference, method: str) -> GitReference:
    url = reference.url
    if url is None or url.scheme != "git":
        return reference
    if method and method not in _PULL_METHODS:
        raise UsageError(
            f"GIT_PULL_METHOD={method} is no way to reach {reference.name}",
            hint="it is http, https or git",
        )
    if method == "git":
        return reference
    if not method and url.host != _bracketed(url.host_name):
        return replace(reference, either_protocol=True)
    return replace(reference, remote=str(replace(url, scheme=method or "https")))


def _bracketed(host_name: str) -> str:
    return f"[{host_name}]" if ":" in host_name else host_name


def _is_url(text: str) -> bool:
    return text.startswith(_GITHUB) or _PROTOCOL.match(text) is not None


def _from_url(text: str) -> tuple[GitReference, Mapping[str, Sequence[str]]] | None:
    looks_local = text.startswith(_GITHUB)
    protocol = _PROTOCOL.match(text)
    if protocol and not looks_local and protocol[1].lower() not in _PROTOCOLS:
        return None
    try:
        url = parse_url(text)
    except UsageError:
        return None
    if url.scheme in ("http", "https") and not url.path.endswith(_SUFFIX):
        return None
    reference = GitReference(
        remote=str(url.bare),
        looks_local=looks_local,
    )
    return _with_fragment(reference, url.fragment), url.values()


def _from_scp(text: str) -> tuple[GitReference, Mapping[str, Sequence[str]]] | None:
    match = _SCP.fullmatch(text)
    if match is None:
        return None
    fields: dict[str, list[str]] = {}
    try:
        for key, value in query_fields(match["query"] or "", strict=True):
            fields.setdefault(key, []).append(value)
    except UsageError:
        return None
    reference = GitReference(f"{match['user']}@{match['host']}:{match['path']}")
    return _with_fragment(reference, match["fragment"] or ""), fields


def _with_fragment(reference: GitReference, fragment: str) -> GitReference:
    ref, colon, subdirectory = fragment.partition(":")
    return replace(
        reference,
        ref=ref,
        subdirectory=_below(subdirectory) if colon else "",
    )


def _below(path: str) -> str:
    """Return *path* relative to the root, which it cannot leave."""
    return posixpath.normpath(f"/{path.lstrip('/')}").lstrip("/")


def _with_query(reference: GitReference, fields: Mapping[str, Sequence[str]]) -> GitReference:
    said = {key: _only(key, values) for key, values in sorted(fields.items())}
    reference = _one_of(reference, "ref", said.get("ref", ""))
    if "subdir" in said:
        if reference.subdirectory not in ("", said["subdir"]):
            raise _conflict("directory", reference.subdirectory, said["subdir"])
        reference = replace(reference, subdirectory=said["subdir"])
    if said.get("mtime", "checkout") not in _TIMES:
        raise UsageError(
            f"mtime={said['mtime']} says nothing about a git repository",
            hint="it is mtime=checkout or mtime=commit",
        )
    reference = replace(
        reference,
        checksum=said.get("checksum", said.get("commit", "")),
        keep_git_dir=_flag(said, "keep-git-dir"),
        submodules=_flag(said, "submodules"),
        mtime=said.get("mtime", ""),
        fetch_by_commit=bool(_flag(said, "fetch-by-commit")),
    )
    return _with_branch_or_tag(reference, said.get("branch", ""), said.get("tag", ""))


def _with_branch_or_tag(reference: GitReference, branch: str, tag: str) -> GitReference:
    if tag:
        reference = _one_of(reference, "tag", _TAGS + tag.removeprefix(_TAGS))
    if branch and tag:
        raise UsageError("a git repository has both a branch and a tag", hint="name one of them")
    if branch:
        reference = _one_of(reference, "branch", _BRANCHES + branch.removeprefix(_BRANCHES))
    if not reference.ref and is_commit(reference.checksum):
        # Nothing is there to be verified with it, so it is what is wanted.
        reference = replace(reference, ref=reference.checksum)
    return reference


def _only(key: str, values: Sequence[str]) -> str:
    if key not in _KEYS:
        raise UsageError(
            f"{key!r} says nothing about a git repository",
            hint=f"what can be said is {', '.join(sorted(_KEYS))}",
        )
    if len(values) > 1:
        raise UsageError(f"{key} is given {len(values)} times for one git repository")
    if not values[0] and key not in _FLAGS:
        raise UsageError(f"{key} has no value", hint=f"write ?{key}=VALUE after the repository")
    return values[0]


def _one_of(reference: GitReference, key: str, value: str) -> GitReference:
    if not value:
        return reference
    if reference.ref not in ("", value):
        raise _conflict(key, reference.ref, value)
    return replace(reference, ref=value)


def _conflict(what: str, one: str, other: str) -> UsageError:
    return UsageError(
        f'a git repository has two values for its {what}: "{one}" and "{other}"',
        hint="say it once, in the query or after the #",
    )


def _flag(said: Mapping[str, str], key: str) -> bool | None:
    if key not in said:
        return None
    value = boolean(said[key] or "true")
    if value is None:
        raise UsageError(f"{key}={said[key]} is neither true nor false", hint=f"write {key}=true")
    return value
