"""What a word of ADD names elsewhere: a git repository, a URL, an object in a bucket.

It is a git repository if BuildKit's grammar says so, else a URL or an object if it begins like
one, else a file of the build context. Pure: nothing is fetched.
"""

from __future__ import annotations

from dataclasses import replace

from kaniko_core.addresses.archives import RemoteFile, WebFile, parse_remote_file
from kaniko_core.addresses.git import GitReference, parse_git_reference
from kaniko_core.addresses.url import is_http_address
from kaniko_core.dockerfile.instructions import Add
from kaniko_core.errors import KanikoError, UsageError


def remote_source(word: str, add: Add) -> GitReference | RemoteFile | None:
    """Return what a source word of *add* names elsewhere: a repository as its flags say, or a file.

    None for a file of the build context.

    Raises:
        KanikoError: it names a repository or a bucket, but is wrong, or a flag contradicts it.
    """
    reference = parse_git_reference(word)
    if reference is not None and not reference.looks_local:
        return _adjusted(reference, add)
    return remote_file(word)


def remote_file(word: str) -> RemoteFile | None:
    """Return the file that *word* of ADD names elsewhere; None for one of the build context.

    Raises:
        UsageError: it is an address without a bucket.
    """
    if is_http_address(word):
        try:
            return parse_remote_file(word)
        except UsageError:
            return WebFile(word)  # whatever it is: it is asked for
    # As BuildKit has it, HTTP:// in capitals is a name like any other.
    return None if is_http_address(word.lower()) else parse_remote_file(word)


def is_remote_word(word: str) -> bool:
    """Whether ADD fetches *word*; for anything else it is a file of the context."""
    try:
        if remote_file(word) is not None:
            return True
    except UsageError:
        return True
    reference = parse_git_reference(word)
    return reference is not None and not reference.looks_local


def _adjusted(reference: GitReference, add: Add) -> GitReference:
    """Return *reference* with what the flags of *add* say.

    Raises:
        KanikoError: they say another thing.
    """
    keep, checksum = reference.keep_git_dir, reference.checksum
    if None not in (keep, add.keep_git_dir) and keep != add.keep_git_dir:
        raise KanikoError(
            f"--keep-git-dir={str(add.keep_git_dir).lower()} contradicts the query of "
            f"{reference.name}",
            hint="say it once",
        )
    if add.checksum and checksum and add.checksum != checksum:
        raise KanikoError(
            f"--checksum={add.checksum} contradicts the query of {reference.name}, "
            f"which says {checksum}",
            hint="say it once",
        )
    return replace(
        reference,
        keep_git_dir=add.keep_git_dir if keep is None else keep,
        checksum=checksum or add.checksum or "",
    )
