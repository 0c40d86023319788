"""The header blocks of a tar: fields, numbers, checksums and names, both ways.

What is written is POSIX ustar. What is read may also come from GNU tar, star, or the tars before
POSIX.

Sources: POSIX.1-2017, pax, "ustar Interchange Format"; the GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from zlib import adler32

from kaniko_core.errors import ContentError, UnsafeEntry
from kaniko_core.oci.entry import SECOND

BLOCK = 512
# Where in a header the time is, and after it the checksum.
MTIME = 136
END_OF_ARCHIVE = bytes(2 * BLOCK)
# PATH_MAX of Linux, without the final NUL: no longer name can be opened.
LONGEST_NAME = 4095

# What fits into the fields of a ustar header: numbers, and bytes of a name.
LARGEST_ID = 0o7777777
LARGEST_NUMBER = 0o77777777777
LONGEST_FIELD = 100
_LONGEST_PREFIX = 155
# Seconds: far beyond every file system, and still a time_t.
FARTHEST_TIME = 1 << 40


def checksum(header: bytes) -> int:
    """Return the sum of the bytes of *header*, its checksum field counting as spaces."""
    # The low half of Adler-32 is a sum modulo 65521, which 512 bytes of ASCII cannot reach, nor
    # 256 of any: the fastest exact sum that Python has.
    if header.isascii():
        total = adler32(header, 0) & 0xFFFF
    else:
        total = (adler32(header[:256], 0) & 0xFFFF) + (adler32(header[256:512], 0) & 0xFFFF)
    return total - (adler32(header[148:156], 0) & 0xFFFF) + 8 * 0x20


def check(header: bytes) -> None:
    """Refuse a block that is not a tar header.

    Raises:
        ContentError: the checksum is another one.
    """
    stored, actual = number(header[148:156]), checksum(header)
    if stored == actual:
        return
    # Some old tars summed signed bytes.
    signed = actual - 256 * sum(byte > 127 for byte in header)
    if stored != signed:
        raise ContentError(
            "the tar archive is damaged: a header has another checksum",
            hint="it may also be no tar archive at all",
        )


def number(field: bytes) -> int:
    """Read a numeric field: octal digits, or base 256 as GNU tar writes what is too large.

    Raises:
        ContentError: it is neither.
    """
    try:
        return int(field.rstrip(b"\0 "), 8)
    except ValueError:
        return _unusual_number(field)


def _unusual_number(field: bytes) -> int:
    if field[0] & 0x80:
        # The highest bit marks the encoding, the next one is the sign.
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = text(field).strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise ContentError(
            f"the tar archive is damaged: {digits!r} is not an octal number"
        ) from None


def text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    return field.partition(b"\0")[0]


def clean_name(raw: bytes) -> bytes:
    """Return a stored name relative to the root: no empty components, no ``.``.

    Raises:
        UnsafeEntry: it has a component ``..``.
        ContentError: no file can have that name.
    """
    name = raw.removeprefix(b"./").rstrip(b"/")
    if b"/." in name or b"//" in name or name.startswith((b".", b"/")):
        parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
        if b".." in parts:
            raise UnsafeEntry(f"the tar archive names {readable(raw)}, which could leave the root")
        name = b"/".join(parts)
    if len(name) > LONGEST_NAME:
        raise ContentError(f"the tar archive has a name of {len(name)} bytes")
    if b"\0" in name:
        raise ContentError(f"the tar archive has a name with a NUL byte: {readable(raw)}")
    return name


def readable(name: bytes) -> str:
    """Return *name* for an error message, on one line."""
    shown = name.decode(errors="backslashreplace")
    return shown if shown.isprintable() else repr(shown)


def time(field: bytes) -> int:
    """Return the whole seconds of a header as nanoseconds; raise ContentError out of range."""
    try:
        # Twelve octal digits are no farther than a file system's times.
        return int(field.rstrip(b"\0 "), 8) * SECOND
    except ValueError:
        seconds = _unusual_number(field)
    if not -FARTHEST_TIME <= seconds <= FARTHEST_TIME:
        raise ContentError(f"the tar archive has a time out of range: {seconds} seconds")
    return seconds * SECOND


def block(
    name: bytes,
    numbers: tuple[int, int, int, int, int],
    type_flag: bytes,
    *,
    link: bytes = b"",
    prefix: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """Return a ustar header.

    Args:
        name: at most 100 bytes.
        numbers: mode, uid, gid, size in bytes and mtime in seconds; each fits its field.
        type_flag: one byte.
        link: at most 100 bytes.
        prefix: the directory that *name* is in, where the two are stored apart.
        device: major and minor number.
    """
    start = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % numbers
    rest = type_flag + link.ljust(100, b"\0") + b"ustar\x0000"
    if prefix or device != (0, 0):
        rest += bytes(64) + b"%07o\0%07o\0" % device + prefix
    # As in checksum(): no part is longer than 256 bytes.
    total = (adler32(start, 0) & 0xFFFF) + (adler32(rest[:200], 0) & 0xFFFF)
    total += (adler32(rest[200:], 0) & 0xFFFF) + 8 * 0x20
    return (start + b"%06o\0 " % total + rest).ljust(BLOCK, b"\0")


def split(name: bytes) -> tuple[bytes, bytes] | None:
    """Split a name at a slash into ustar's prefix and name; return None where that cannot be."""
    if not name.isascii():
        return None
    # The slash that ends a directory's name cannot be the one: the name may not be empty.
    slash = name.rfind(b"/", 1, min(_LONGEST_PREFIX + 1, len(name) - 1))
    if slash < 0 or len(name) - slash - 1 > LONGEST_FIELD:
        return None
    return name[:slash], name[slash + 1 :]
