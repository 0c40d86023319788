"""What a file is that should be an archive, by its first bytes: a tar, or something with a name.

empty tar      nothing but zeros, at most as many as a tape's block has
tar            a header whose checksum is right
anything else  named for people, where it can be recognised: they took the wrong file
"""

from __future__ import annotations

from kaniko_core.errors import ContentError, ContextError
from kaniko_core.oci.tarheader import BLOCK, check

# Bytes that are looked at. GNU tar writes at least 10 KiB, and pads to a tape's block; a disk
# image may begin with zeros too, but does not end with them.
HEAD = 64 << 10

_ENCRYPTED = "is encrypted with {}"
_DECRYPT = "decrypt it first; a build has no key for it"
_REPACK = "pack the context as a tar, plain or compressed with gzip, zstd, xz or bzip2"
_LOGIN = "look at it in a browser: it may ask for a login, or say that there is no such file"
_RIGHT = "is it the right file?"

# First bytes, what they tell, and what to try.
_KNOWN = (
    (b"PK\x03\x04", "is a zip archive", _REPACK),
    (b"PK\x05\x06", "is an empty zip archive", _REPACK),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", _REPACK),
    (b"Rar!\x1a\x07", "is a RAR archive", _REPACK),
    (b"070701", "is a cpio archive", _REPACK),
    (b"070702", "is a cpio archive", _REPACK),
    (b"070707", "is a cpio archive", _REPACK),
    (b"!<arch>\n", "is an ar archive", _REPACK),
    (b"LZIP", "is compressed with lzip", _REPACK),
    (b"\x04\x22\x4d\x18", "is compressed with lz4", _REPACK),
    (b"\x5d\x00\x00", "is compressed with lzma", _REPACK),
    (b"\x1f\x9d", "is compressed with compress", _REPACK),
    (b"-----BEGIN PGP MESSAGE-----", _ENCRYPTED.format("OpenPGP"), _DECRYPT),
    (b"age-encryption.org/", _ENCRYPTED.format("age"), _DECRYPT),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", _ENCRYPTED.format("age"), _DECRYPT),
    (b"Salted__", _ENCRYPTED.format("openssl enc"), _DECRYPT),
    (b"LUKS\xba\xbe", _ENCRYPTED.format("LUKS"), _DECRYPT),
    (b"\x7fELF", "is a program, and no archive", _RIGHT),
)
_PAGE = (b"<!doctype html", b"<html")
# RFC 9580: packets with an encrypted session key, in the old format (by how their length is
# stored) and in the new one; and the versions that there are.
_SESSION_KEY = {0x84: 2, 0x85: 3, 0x86: 5, 0x8C: 2, 0x8D: 3, 0x8E: 5, 0xC1: 2, 0xC3: 2}
_SESSION_KEY_VERSIONS = frozenset({3, 4, 5, 6})


class NotAnArchive(ContextError):  # noqa: N818 - names what is wrong
    """A file that should be an archive is none; nothing was unpacked."""


def check_archive(name: str, head: bytes, *, compressed: bool) -> None:
    """Refuse a file that is no tar.

    Args:
        name: of the file, for people.
        head: how it begins, uncompressed: ``HEAD`` bytes, or less where it has no more.
        compressed: whether it was compressed.

    Raises:
        NotAnArchive: it is none; the sentence says what it is instead, as far as that is known.
    """
    if _is_tar(head):
        return
    where = f"what is compressed in {name}" if compressed else name
    if not head:
        raise NotAnArchive(f"{where} is empty", hint="was it written completely?")
    what, hint = _named(head) or ("is no tar archive", _REPACK)
    raise NotAnArchive(f"{where} {what}", hint=hint)


def _is_tar(head: bytes) -> bool:
    block = head[:BLOCK]
    if len(block) < BLOCK:
        return False
    if not any(block):
        return len(head) < HEAD and not any(head)
    try:
        check(block)
    except ContentError:
        return False
    return True


def _named(head: bytes) -> tuple[str, str] | None:
    for start, what, hint in _KNOWN:
        if head.startswith(start):
            return what, hint
    text = head[:BLOCK].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGE):
        return "is a web page: the server sent one in place of an archive", _LOGIN
    version = _SESSION_KEY.get(head[0])
    if (
        version is not None
        and head[version : version + 1][:1]
        and (head[version] in _SESSION_KEY_VERSIONS)
    ):
        return _ENCRYPTED.format("OpenPGP"), _DECRYPT
    return None
