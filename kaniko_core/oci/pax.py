"""PAX extended headers: the metadata that a ustar header has no room for, both ways.

A record is ``length key=value`` and a newline; the length counts itself.

Sources: POSIX.1-2017, pax, "pax Extended Header"; the keys that star (``SCHILY.xattr.``),
libarchive (``LIBARCHIVE.xattr.``) and GNU tar (``GNU.sparse.``) added.
"""

from __future__ import annotations

from kaniko_core.errors import ContentError
from kaniko_core.oci import tarheader
from kaniko_core.oci.entry import SECOND, Entry
from kaniko_core.oci.tarheader import BLOCK, FARTHEST_TIME

_XATTR = b"SCHILY.xattr."
_LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."


def records(data: bytes) -> dict[bytes, bytes]:
    """Read the records of a PAX extended header.

    The offsets and lengths of the sparse format 0.0, which repeat their keys, are joined with
    commas under ``GNU.sparse.map``, as format 0.1 has them.

    Raises:
        ContentError: they are not records.
    """
    found: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = data[position:space] if space >= 0 else b""
        end = position + int(length) if length.isdigit() else 0
        equals = data.find(b"=", space, end)
        if equals < 0 or end > len(data) or data[end - 1] != 0x0A:
            raise ContentError("the tar archive is damaged: a PAX record is not one")
        key, value = data[space + 1 : equals], data[equals + 1 : end - 1]
        if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            sparse.append(value)
        else:
            found[key] = value
        position = end
    if sparse:
        found[b"GNU.sparse.map"] = b",".join(sparse)
    return found


def decimal(value: bytes) -> int:
    """Read a whole number of a PAX record.

    Raises:
        ContentError: it is none.
    """
    if not value.isdigit() or len(value) > 20:
        raise ContentError(f"the tar archive is damaged: {value[:40]!r} is not a number")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Read a PAX time, such as ``1700000000.25``.

    Raises:
        ContentError: it is none, or one that no file can have.
    """
    sign = -1 if value.startswith(b"-") else 1
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    seconds = decimal(whole or b"0")
    if seconds > FARTHEST_TIME:
        raise ContentError(f"the tar archive has a time out of range: {seconds} seconds")
    # Digits after the ninth are dropped: no file system keeps them.
    rest = decimal(fraction[:9].ljust(9, b"0")) if fraction else 0
    return sign * (seconds * SECOND + rest)


def extend(entry: Entry, extended: dict[bytes, bytes]) -> None:
    """Let the records of PAX headers replace what the header says.

    Raises:
        ContentError: one of them is damaged.
    """
    for key, value in extended.items():
        if key.startswith(_XATTR):
            name = _decoded_key(key.removeprefix(_XATTR))
            entry.xattrs[name] = value
        elif key.startswith(_LIBARCHIVE_XATTR):
            _add_xattr(entry, key.removeprefix(_LIBARCHIVE_XATTR), value)
        elif not value:
            continue  # an empty record takes a global one back
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = decimal(value)
        elif key == b"uid":
            entry.uid = decimal(value)
        elif key == b"gid":
            entry.gid = decimal(value)
        elif key == b"mtime":
            entry.mtime_ns = nanoseconds(value)
    if any(b"\0" in name for name in entry.xattrs):
        raise ContentError("the tar archive has an extended attribute with a NUL in its name")
    # The path of a sparse file is a directory of GNU tar's invention.
    if extended.get(b"GNU.sparse.name"):
        entry.name = extended[b"GNU.sparse.name"]


def _add_xattr(entry: Entry, key: bytes, value: bytes) -> None:
    """Add an extended attribute as libarchive encodes it, unless SCHILY.xattr gave it already."""
    import base64
    from urllib.parse import unquote_to_bytes

    try:
        decoded = base64.b64decode(value + b"=" * (-len(value) % 4))
    except ValueError:
        raise ContentError("the tar archive is damaged: a LIBARCHIVE.xattr is not base64") from None
    entry.xattrs.setdefault(unquote_to_bytes(key), decoded)


def blocks(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return the extended header that holds *pairs*, in their order."""
    if not all(_is_utf8(value) for key, value in pairs if key in {b"path", b"linkpath"}):
        # Without it, names that are not UTF-8 would break the standard's rule.
        pairs = [(b"hdrcharset", b"BINARY"), *pairs]
    data = b"".join(_record(key, value) for key, value in pairs)
    # Neither name, owner nor time of its own: the same entry gives the same bytes.
    header = tarheader.block(b"PaxHeaders.0/entry", (0o644, 0, 0, len(data), 0), b"x")
    return header + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    # The length counts its own digits.
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def xattr_key(name: bytes) -> bytes:
    """Return the key of the record for the extended attribute *name*."""
    # An equals sign would end the key; GNU tar's way out.
    return _XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")


def _decoded_key(name: bytes) -> bytes:
    return name.replace(b"%3D", b"=").replace(b"%25", b"%") if b"%" in name else name


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def time(mtime_ns: int) -> bytes:
    """Return nanoseconds since the epoch as a PAX time."""
    whole, fraction = divmod(abs(mtime_ns), SECOND)
    shown = b"%d" % whole
    if fraction:
        shown += (b".%09d" % fraction).rstrip(b"0")
    return b"-" + shown if mtime_ns < 0 else shown
