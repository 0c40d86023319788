"""What each package manager writes, read: samples are as dpkg, apk, pip and npm write them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import BinaryIO

import pytest

from kaniko_core.attestations.alpine import read_installed
from kaniko_core.attestations.debian import read_status
from kaniko_core.attestations.node import read_package
from kaniko_core.attestations.osrelease import read_distribution
from kaniko_core.attestations.package import Distribution, Package, person
from kaniko_core.attestations.python import read_metadata

DPKG = b"""\
Package: libc6
Status: install ok installed
Priority: optional
Section: libs
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Architecture: amd64
Multi-Arch: same
Source: glibc (2.36-9+deb12u4)
Version: 2.36-9+deb12u4+b1
Description: GNU C Library: Shared libraries
 Contains the standard libraries that are used by nearly all programs.
 .
 Version: 9 of something else
Homepage: https://www.gnu.org/software/libc/libc.html

Package: gone
Status: deinstall ok config-files
Version: 1

Package: half
Status: install reinstreq half-installed
Version: 1

Package: tar
Status: hold ok installed
Architecture: amd64
Version: 1:1.34
"""

APK = b"""\
C:Q1IPKpJxS1fJb/xLuO0dNlZ4Ww4jo=
P:ssl_client
V:1.36.1-r2
A:x86_64
S:4874
I:28672
T:External ssl_client for busybox wget
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:S\xc3\xb6ren Tempel <soeren+alpine@soeren-tempel.net>
t:1691483222
p:cmd:ssl_client=1.36.1-r2
F:usr
F:usr/bin
R:ssl_client
a:0:0:755

P:busybox
V:1.36.1-r2
A:x86_64
o:busybox
M:not:the:maintainer
"""


def read(reader: Callable[[BinaryIO], Iterable[Package]], data: bytes) -> list[Package]:
    return list(reader(io.BytesIO(data)))


def test_dpkg() -> None:
    libc, tar = read(read_status, DPKG)
    assert (libc.name, libc.version) == ("libc6", "2.36-9+deb12u4+b1")
    assert libc.maker == "Person: GNU Libc Maintainers (debian-glibc@lists.debian.org)"
    assert libc.homepage == "https://www.gnu.org/software/libc/libc.html"
    assert libc.url(Distribution("debian", "12")) == (
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4%2Bb1"
        "?arch=amd64&distro=debian-12&upstream=glibc%402.36-9%2Bdeb12u4"
    )
    assert tar.url(Distribution()) == "pkg:deb/debian/tar@1:1.34?arch=amd64"


def test_apk() -> None:
    client, busybox = read(read_installed, APK)
    assert client.license == "GPL-2.0-only"
    assert client.maker == "Person: Sören Tempel (soeren+alpine@soeren-tempel.net)"
    assert client.url(Distribution("alpine", "3.18.4")) == (
        "pkg:apk/alpine/ssl_client@1.36.1-r2?arch=x86_64&distro=alpine-3.18.4&upstream=busybox"
    )
    assert "upstream" not in busybox.url(Distribution())
    assert busybox.maker == ""


def test_vendor_is_called_what_it_calls_itself() -> None:
    package = Package("rpm", "bash", "5.1-9.el9", qualifiers=(("epoch", "0"),))
    assert package.url(Distribution("rhel", "9.4")) == (
        "pkg:rpm/redhat/bash@5.1-9.el9?distro=rhel-9.4&epoch=0"
    )
    assert package.url(Distribution()) == "pkg:rpm/bash@5.1-9.el9?epoch=0"


@pytest.mark.parametrize(
    ("fields", "license_", "maker"),
    [
        ("License: MIT", "MIT", ""),
        ("License-Expression: MIT OR Apache-2.0\nLicense: x", "MIT OR Apache-2.0", ""),
        ("License: UNKNOWN", "", ""),
        ("Author: A B\nAuthor-email: a@b.org", "", "Person: A B (a@b.org)"),
        ("Author-email: A B <a@b.org>, C <c@d.org>", "", "Person: A B (a@b.org)"),
        ('Author-email: "A B" <a@b.org>', "", "Person: A B (a@b.org)"),
        ("Author: UNKNOWN\nAuthor-email: UNKNOWN", "", ""),
        ("Author-email: a@b.org", "", ""),
        ("Author: A\nAuthor-email: a@b.org, c@d.org", "", "Person: A"),
    ],
)
def test_python(fields: str, license_: str, maker: str) -> None:
    text = f"Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\n{fields}\n\nName: body\n"
    [package] = read(read_metadata, text.encode())
    assert (package.license, package.maker) == (license_, maker)
    assert package.url(Distribution("debian", "12")) == "pkg:pypi/foo-bar@1.0"


@pytest.mark.parametrize(
    "text", ["", "\n", "Name: a\n", "Version: 1\n", "Name: UNKNOWN\nVersion: 1"]
)
def test_python_without_a_name_or_version_is_none(text: str) -> None:
    assert read(read_metadata, text.encode()) == []


@pytest.mark.parametrize(
    ("fields", "license_", "maker"),
    [
        ({"license": "MIT"}, "MIT", ""),
        ({"license": {"type": "MIT", "url": "x"}}, "MIT", ""),
        ({"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}, "MIT OR Apache-2.0", ""),
        ({"licenses": ["MIT", 3]}, "MIT", ""),
        ({"author": "A B <a@b.org> (https://b.org)"}, "", "Person: A B (a@b.org)"),
        ({"author": {"name": "A", "email": "a@b.org"}}, "", "Person: A (a@b.org)"),
        ({"author": {"name": "A"}}, "", "Person: A"),
        ({"author": ["A"]}, "", ""),
    ],
)
def test_npm(fields: dict[str, object], license_: str, maker: str) -> None:
    data = {"name": "@scope/name", "version": "1.2.3", **fields}
    [package] = read(read_package, json.dumps(data).encode())
    assert (package.license, package.maker) == (license_, maker)
    assert package.url(Distribution()) == "pkg:npm/%40scope/name@1.2.3"


@pytest.mark.parametrize(
    ("text", "qualifier"),
    [
        ('ID=fedora\nVERSION_ID=40\nNAME="Fedora"', "fedora-40"),
        ("ID='alpine'\nVERSION_ID=3.20.1", "alpine-3.20.1"),
        ("ID=debian", "debian"),
        ('# ID=x\nID="un', '"un'),
        ("nonsense\nid=x", ""),
    ],
)
def test_os_release(text: str, qualifier: str) -> None:
    assert read_distribution(io.BytesIO(text.encode())).qualifier == qualifier


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A B <a@b>", "Person: A B (a@b)"),
        ("A\n B", "Person: A B"),
        ("<a@b>", ""),
        ("", ""),
        ("A <nothing>", "Person: A"),
    ],
)
def test_people(text: str, shown: str) -> None:
    assert person(text) == shown


def test_very_long_line_is_one_line() -> None:
    """Lines are read in pieces; what is in the midst of one is no field."""
    noise = b"Noise: ".ljust(64 << 10, b"x")
    data = b"Package: a\nVersion: 1\n" + noise + b"Architecture: none\nArchitecture: all\n"
    [package] = read(read_status, data)
    assert dict(package.qualifiers)["arch"] == "all"


def test_halves_of_characters_are_replaced() -> None:
    """JSON has them, UTF-8 has not."""
    text = b'{"name": "a", "version": "1\\ud800", "license": "\\ud800"}'
    [package] = read(read_package, text)
    assert package.url(Distribution()) == "pkg:npm/a@1%3F"
