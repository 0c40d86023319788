"""Addresses of archives: a file, standard input, an object in a bucket, or what a URL serves.

    tar://path/to/context.tar.gz    a file; its compression is recognised by its content
    tar://stdin                     standard input
    s3://bucket/key  gs://bucket/key  az://container/blob
    https://ACCOUNT.blob.core.windows.net/container/blob    Azure, as Go kaniko's users write it
    https://host/context.tar.gz

Pure: nothing is looked at. Source: Go kaniko, "Kaniko Build Contexts".
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import field
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from kaniko_core.addresses.url import is_http_address, parse_url, shown
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

_TAR = "tar://"
_STDIN = "stdin"
# What Go kaniko looks for in a bucket where no key is named.
_USUAL_KEY = "context.tar.gz"
_AZURE_HOST = re.compile(
    r"(?P<account>[a-z0-9]{3,24})\.(?:z[0-9]+\.)?blob(?:\.storage\.azure\.net|\.core\."
    r"(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net))"
)


class Store(Enum):
    """A kind of object store; the value is the scheme of its addresses."""

    S3 = "s3"
    GCS = "gs"
    AZURE = "az"


@dataclass(frozen=True, slots=True)
class TarFile:
    """An archive on this machine; *path* is None for standard input."""

    path: Path | None

    @property
    def name(self) -> str:
        """How to name it to people."""
        return "tar://stdin" if self.path is None else f"{_TAR}{shown(str(self.path))}"


@dataclass(frozen=True, slots=True)
class BucketObject:
    """An object in a bucket (Azure: a blob in a container).

    Attributes:
        store: the kind of store.
        bucket: the bucket, or container.
        key: the object; it has no slash at its beginning.
        host: Azure's, with the account, where the address was a URL; else empty: the environment
            says where the store is.
        signature: of such a URL (a SAS), as it was written: a secret.
    """

    store: Store
    bucket: str
    key: str
    host: str = ""
    signature: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """How to name it to people: without its signature."""
        if self.host:
            return f"https://{self.host}/{self.bucket}/{self.key}"
        return f"{self.store.value}://{self.bucket}/{self.key}"

    @property
    def url(self) -> str:
        """The address of Azure's blob, with its signature."""
        path = quote(f"/{self.bucket}/{self.key}")
        return f"https://{self.host}{path}{f'?{self.signature}' if self.signature else ''}"

    @property
    def file_name(self) -> str:
        """The name that the object gets in a directory: the last part of its key."""
        name = posixpath.basename(self.key.rstrip("/"))
        return "object" if name in ("", ".", "..") or "\0" in name else name

    @property
    def account(self) -> str:
        """Azure's account that the host is of; empty where none was named."""
        match = _AZURE_HOST.fullmatch(self.host)
        return match["account"] if match else ""


@dataclass(frozen=True, slots=True)
class WebFile:
    """What an ``http://`` or ``https://`` address serves; it may hold a password."""

    url: str

    @property
    def name(self) -> str:
        """How to name it to people: without what may be secret."""
        try:
            return parse_url(self.url).name
        except UsageError:
            return "a URL"


RemoteFile = BucketObject | WebFile
ArchiveAddress = TarFile | RemoteFile


def public_name(address: ArchiveAddress) -> str:
    """Return where something is from, for others; nothing where it is from this machine."""
    return "" if isinstance(address, TarFile) else address.name


def parse_archive(text: str) -> ArchiveAddress | None:
    """Read the address of an archive, on this machine or elsewhere; None where it is none.

    Raises:
        UsageError: it is one, but names no file, bucket or host.
    """
    if not text.startswith(_TAR):
        return parse_remote_file(text)
    path = text.removeprefix(_TAR)
    if not path:
        raise UsageError(f"{text} names no file", hint="write tar://FILE, or tar://stdin")
    return TarFile(None if path == _STDIN else Path(path))


def parse_remote_file(text: str) -> RemoteFile | None:
    """Read the address of a file that is elsewhere; None where it is none.

    Raises:
        UsageError: it names no bucket or host.
    """
    if is_http_address(text.lower()):
        return _azure(text) or WebFile(text)
    scheme, separator, rest = text.partition("://")
    store = next((store for store in Store if store.value == scheme), None)
    if not separator or store is None:
        return None
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UsageError(f"{shown(text)} names no bucket", hint=f"write {scheme}://BUCKET/KEY")
    if "@" in bucket or "?" in bucket:
        raise UsageError(
            f"{shown(text)} has more than a bucket and a key",
            hint=f"write {scheme}://BUCKET/KEY; credentials come from the environment",
        )
    return BucketObject(store, bucket, key.lstrip("/") or _USUAL_KEY)


def _azure(text: str) -> BucketObject | None:
    try:
        url = parse_url(text)
    except UsageError:
        return None
    if url.scheme != "https" or not _AZURE_HOST.fullmatch(url.host.lower()):
        return None
    container, _, blob = url.path.lstrip("/").partition("/")
    if not container or not blob:
        raise UsageError(
            f"{url.name} names no blob",
            hint="write https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB",
        )
    return BucketObject(Store.AZURE, container, blob, url.host.lower(), url.query)
