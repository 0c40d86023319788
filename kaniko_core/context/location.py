"""Where a build context is: what ``--context`` means. Pure, but for whether a directory is there.

/workspace   dir:///workspace                         a directory, which is read where it lies
tar://context.tar.gz   tar://stdin                    an archive
git://host/path   https://host/path.git   user@host:path   ssh://…      a git repository
https://host/context.tar.gz                           an archive
s3://bucket/key   gs://bucket/key   az://container/blob                 an archive
"""

from __future__ import annotations

from pathlib import Path

from kaniko_core.addresses.archives import ArchiveAddress, parse_archive
from kaniko_core.addresses.git import GitReference, parse_git_context
from kaniko_core.addresses.url import scheme_of, shown
from kaniko_core.errors import UsageError

_DIRECTORY = "dir://"

RemoteLocation = GitReference | ArchiveAddress
Location = Path | RemoteLocation


def parse_location(text: str, pull_method: str = "") -> Location:
    """Return what *text* names.

    Args:
        text: as the user typed it.
        pull_method: what ``GIT_PULL_METHOD`` says of ``git://`` addresses.

    Raises:
        UsageError: contexts of this kind are not supported, or it is not what it seems to be.
    """
    if text.startswith(_DIRECTORY):
        return Path(text.removeprefix(_DIRECTORY))
    scheme = scheme_of(text)
    if scheme is None and Path(text).is_dir():
        # github.com/owner/name could be both, and what is there is what is meant.
        return Path(text)
    if (repository := parse_git_context(text, pull_method)) is not None:
        return repository
    if (archive := parse_archive(text)) is not None:
        return archive
    if scheme is not None:
        raise UsageError(
            f"cannot use the build context {shown(text)}: {scheme}:// is not supported",
            hint="it is a directory, tar://FILE, tar://stdin, or a git, https://, s3://, gs:// "
            "or az:// address",
        )
    return Path(text)
