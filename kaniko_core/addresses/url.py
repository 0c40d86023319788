"""URLs as Go's ``net/url`` reads and writes them, because BuildKit decides by what it says.

Python's ``urllib`` reads more than Go does, and keeps escapes that Go decodes: whether a word of
ADD is a repository, a URL or a file would then be another matter than with BuildKit.

Source: RFC 3986; the documentation and behaviour of Go 1.26's net/url.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from ipaddress import AddressValueError, IPv6Address

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WITH_HOST = re.compile(rf"{_SCHEME.pattern}//")
_PORT = re.compile(r"(?::[0-9]*)?")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_USERINFO = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_NO_PORT = re.compile(r":[0-9]*$")
# What was meant as a URL: a scheme with one slash or more, or user, colon and at sign.
_LIKE_A_URL = re.compile(
    r"(?P<start>[A-Za-z][A-Za-z0-9+.-]*:/+)(?:.*@)?(?P<rest>[^?#]*).*"
    r"|(?P<slashes>/*)[^/@:]+:.*@(?P<host>[^?#]*).*",
    re.DOTALL,
)
_ESCAPES = "in a password, write %2F for /, %3A for :, %40 for @, %23 for # and %3F for ?"

_UNRESERVED = frozenset(f"{string.ascii_letters}{string.digits}-_.~".encode())
_MARKS = frozenset(b"$&+,/:;=?@")


class _Part(Enum):
    """A part of a URL, and the bytes that stand for themselves in it."""

    HOST = _UNRESERVED | frozenset(b"!$&'()*+,;=:[]<>\"")
    PATH = _UNRESERVED | _MARKS - frozenset(b"?")
    USER = _UNRESERVED | _MARKS - frozenset(b"@/?:")
    QUERY = _UNRESERVED
    FRAGMENT = _UNRESERVED | _MARKS | frozenset(b"!()*")


# What may stand unescaped in a path that is written as it was read.
_PATH_AS_READ = _Part.PATH.value | frozenset(b"!'()*[]%")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in parts, decoded; *raw_path* is the path as it was written.

    Attributes:
        user: user name and password; the password is None where there is no colon.
        host: with its port.
        query: as it was written, without the question mark.
        force_query: whether a question mark ends the URL.
    """

    scheme: str = ""
    user: tuple[str, str | None] | None = None
    host: str = ""
    path: str = ""
    raw_path: str = ""
    query: str = ""
    force_query: bool = False
    fragment: str = ""

    @property
    def host_name(self) -> str:
        """The host without its port, and without the brackets of an IPv6 address."""
        if self.host.startswith("["):
            return self.host[1:].partition("]")[0]
        return _NO_PORT.sub("", self.host)

    @property
    def bare(self) -> Url:
        """The same without query and fragment."""
        return replace(self, query="", fragment="")

    @property
    def without_fragment(self) -> Url:
        """What is asked of a server."""
        return replace(self, fragment="")

    @property
    def anonymous(self) -> Url:
        """The same without user name and password."""
        return replace(self, user=None)

    @property
    def name(self) -> str:
        """How to name it to people: without what may be secret, in userinfo and query."""
        return str(replace(self.anonymous.bare, force_query=False))

    def values(self) -> dict[str, list[str]]:
        """Return the query's fields; what cannot be decoded is left out, as Go does."""
        fields: dict[str, list[str]] = {}
        for key, value in query_fields(self.query, strict=False):
            fields.setdefault(key, []).append(value)
        return fields

    def __str__(self) -> str:
        text = f"{self.scheme}:" if self.scheme else ""
        if self.scheme or self.host or self.user:
            if self.host or self.path or self.user:
                text += "//"
            if self.user:
                text += "@".join((_user_text(self.user), ""))
            text += _escaped(self.host, _Part.HOST)
        path = self._escaped_path()
        if path and not path.startswith("/") and self.host:
            path = f"/{path}"
        text += path
        if self.force_query or self.query:
            text += f"?{self.query}"
        if self.fragment:
            text += f"#{_escaped(self.fragment, _Part.FRAGMENT)}"
        return text

    def _escaped_path(self) -> str:
        raw = self.raw_path.encode("utf-8", "surrogateescape")
        return self.raw_path if _PATH_AS_READ.issuperset(raw) else _escaped(self.path, _Part.PATH)


def scheme_of(text: str) -> str | None:
    """Return what stands before ``://`` in *text*, as it is written; None where nothing does."""
    match = _WITH_HOST.match(text)
    return match[1] if match else None


def shown(text: str) -> str:
    """Return *text*, whatever was typed, without what may be secret where it looks like a URL.

    It need not be a URL that can be read: a password that should have been escaped is none.
    """
    match = _LIKE_A_URL.fullmatch(text)
    return "".join(part or "" for part in match.groups()) if match else text


def is_http_address(text: str) -> bool:
    """Whether *text* is an address of the web, as BuildKit sees it: the scheme in lower case."""
    return scheme_of(text) in ("http", "https")


def parse_url(text: str) -> Url:
    """Read *text*; it may be without scheme and host.

    Raises:
        UsageError: it is malformed.
    """
    before, _, fragment = text.partition("#")
    if any(character < " " or character == "\x7f" for character in before):
        raise UsageError(f"{shown(text)!r} is not a URL: it has a control character")
    match = _SCHEME.match(before)
    scheme, rest = (match[1].lower(), before[match.end() :]) if match else ("", before)
    if match is None and before.startswith(":"):
        raise UsageError(f"{shown(text)!r} is not a URL: it has no scheme before the colon")
    force_query = rest.endswith("?") and rest.count("?") == 1
    rest, _, query = rest.partition("?")
    user, host = None, ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, rest = rest[2:].partition("/")
        rest = slash + rest
        user, host = _authority(authority)
    elif scheme or ":" in rest.partition("/")[0]:
        raise UsageError(f"{shown(text)!r} is not a URL: it names no host")
    return Url(
        scheme=scheme,
        user=user,
        host=host,
        path=_unescaped(rest, _Part.PATH),
        raw_path=rest,
        query=query,
        force_query=force_query,
        fragment=_unescaped(fragment, _Part.FRAGMENT),
    )


def query_fields(query: str, *, strict: bool) -> Sequence[tuple[str, str]]:
    """Return the fields of a query, decoded.

    Raises:
        UsageError: one cannot be decoded, and *strict* is True; else it is left out.
    """
    fields = []
    for field in query.split("&"):
        key, _, value = field.partition("=")
        try:
            if ";" in field:
                raise UsageError("a semicolon does not separate the fields of a query")
            if field:
                fields.append((_unescaped(key, _Part.QUERY), _unescaped(value, _Part.QUERY)))
        except UsageError:
            if strict:
                raise
    return fields


def _authority(text: str) -> tuple[tuple[str, str | None] | None, str]:
    userinfo, at, host = text.rpartition("@")
    if not at:
        return None, _host(host)
    if not _USERINFO.fullmatch(userinfo):
        raise UsageError(
            "a URL's user name or password has a character that needs escaping", hint=_ESCAPES
        )
    name, colon, password = userinfo.partition(":")
    decoded = _unescaped(password, _Part.USER) if colon else None
    return (_unescaped(name, _Part.USER), decoded), _host(host)


def _host(text: str) -> str:
    if "[" in text:
        return _ip_literal(text)
    name, colon, port = text.partition(":")
    if not _PORT.fullmatch(colon + port):
        # Which may be half a password.
        raise UsageError("what stands behind a URL's host is not a port", hint=_ESCAPES)
    return _unescaped(name, _Part.HOST) + colon + port


def _ip_literal(text: str) -> str:
    start, end = text.rindex("["), text.rfind("]")
    port = text[end + 1 :]
    if start != 0 or end < 0 or not _PORT.fullmatch(port):
        raise UsageError("what is in brackets in a URL is not the address of a host", hint=_ESCAPES)
    address, percent, zone = text[1:end].partition("%25")
    decoded = _unescaped(address, _Part.HOST)
    try:
        IPv6Address(decoded)
    except AddressValueError:
        raise UsageError(f"{text} is not the address of a host") from None
    if percent and not zone:
        raise UsageError(f"{text} has an empty zone")
    return f"[{decoded}{'%' if percent else ''}{_unescaped(zone, _Part.FRAGMENT)}]{port}"


def _user_text(user: tuple[str, str | None]) -> str:
    name, password = user
    text = _escaped(name, _Part.USER)
    return text if password is None else f"{text}:{_escaped(password, _Part.USER)}"


def _unescaped(text: str, part: _Part) -> str:
    data = text.encode("utf-8", "surrogateescape")
    if part is _Part.HOST:
        _check_host(data)
    if part is _Part.QUERY:
        data = data.replace(b"+", b" ")
    if b"%" in data:
        data = _ESCAPE.sub(_decoded, data)
    return data.decode("utf-8", "surrogateescape")


def _check_host(data: bytes) -> None:
    """Refuse what no name of a host has; there, escapes are for bytes beyond ASCII only."""
    for byte in data:
        if byte < 0x80 and byte not in _Part.HOST.value and byte != ord("%"):
            raise UsageError(f"{chr(byte)!r} cannot be part of a host's name")
    for match in _ESCAPE.finditer(data):
        if match[1] is not None and match[1] < b"8" and match[1] != b"25":
            raise UsageError(f"{match[0].decode()} cannot be part of a host's name")


def _decoded(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        raise UsageError("a percent sign in a URL is not followed by two hexadecimal digits")
    return bytes((int(match[1], 16),))


def _escaped(text: str, part: _Part) -> str:
    plain: frozenset[int] = part.value
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in data)
