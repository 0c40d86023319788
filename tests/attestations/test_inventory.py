from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaniko_core.attestations.inventory import Inventory, take_inventory
from kaniko_core.errors import ContentError
from tests.attestations.layers import Member, directory, hole, link, made, symlink
from tests.samples import BytesLayer, image

STATUS = "var/lib/dpkg/status"
FOO = "usr/lib/python3/site-packages/foo-1.dist-info/METADATA"
OS_RELEASE = b'NAME="Debian"\nID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n'


def dpkg(*packages: str) -> bytes:
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
        for name in packages
    ).encode()


def metadata(name: str, version: str = "1") -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText.\n".encode()


def manifest(name: str, version: str = "1") -> bytes:
    return json.dumps({"name": name, "version": version}).encode()


def found(tmp_path: Path, *layers: BytesLayer) -> Inventory:
    return take_inventory(image(*layers), tmp_path)


def names(inventory: Inventory) -> list[str]:
    return [item.package.name for item in inventory.installed]


def one(*members: tuple[str, Member]) -> BytesLayer:
    return made(*members)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (STATUS, dpkg("foo")),
        ("./var/lib/dpkg/status.d/foo", b"Package: foo\nVersion: 1\n"),
        ("lib/apk/db/installed", b"C:Q1\nP:foo\nV:1\n\n"),
        ("usr/lib/apk/db/installed", b"P:foo\nV:1\n"),
        (FOO, metadata("foo")),
        ("foo-1.dist-info/METADATA", metadata("foo")),
        ("opt/foo.egg-info/PKG-INFO", metadata("foo")),
        ("opt/foo-1-py3.11.egg-info", metadata("foo")),
        ("opt/foo-1-py3.11.egg/EGG-INFO/PKG-INFO", metadata("foo")),
        ("app/node_modules/foo/package.json", manifest("foo")),
        ("node_modules/@scope/foo/package.json", manifest("@scope/foo")),
        ("app/node_modules/.pnpm/foo@1/node_modules/foo/package.json", manifest("foo")),
    ],
)
def test_packages_are_found_where_they_are_kept(tmp_path: Path, path: str, content: bytes) -> None:
    assert names(found(tmp_path, one((path, content)))) == ["foo"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("srv/lib/dpkg/status", dpkg("foo")),
        ("var/lib/dpkg/status.d/foo.md5sums", b"Package: foo\nVersion: 1\n"),
        ("var/lib/dpkg/status-old", dpkg("foo")),
        ("app/package.json", manifest("foo")),
        ("app/node_modules/foo/test/package.json", manifest("foo")),
        ("app/METADATA", metadata("foo")),
        ("var/lib/dpkg/status", symlink("/elsewhere")),
        (FOO, directory()),
    ],
)
def test_other_files_tell_nothing(tmp_path: Path, path: str, content: Member) -> None:
    inventory = found(tmp_path, one((path, content)))
    assert (names(inventory), inventory.complaints) == ([], ())


def test_topmost_version_of_a_file_counts(tmp_path: Path) -> None:
    inventory = found(
        tmp_path, one((STATUS, dpkg("a", "b"))), one((STATUS, dpkg("b", "c"))), one(("x", b""))
    )
    assert names(inventory) == ["b", "c"]


def test_package_is_of_the_layer_that_first_had_it(tmp_path: Path) -> None:
    layers = [one((STATUS, dpkg("a"))), one((STATUS, dpkg("a", "b"))), one(("x", b""))]
    installed = found(tmp_path, *layers).installed
    assert [item.layer for item in installed] == [layer.descriptor.digest for layer in layers[:2]]


@pytest.mark.parametrize(
    "hides",
    [
        [(FOO.replace("METADATA", ".wh.METADATA"), b"")],
        [("usr/lib/python3/site-packages/.wh.foo-1.dist-info", b"")],
        [("usr/.wh.lib", b"")],
        [("usr/lib/.wh..wh..opq", b"")],
        [(".wh..wh..opq", b"")],
        [("usr/lib", b"a file")],
        [("usr/lib", symlink("/lib"))],
        [(FOO, symlink("/dev/null"))],
        [(FOO, directory())],
        [(".wh.usr", b""), ("usr", directory())],
    ],
)
def test_what_a_layer_hides_is_not_installed(
    tmp_path: Path, hides: list[tuple[str, Member]]
) -> None:
    assert names(found(tmp_path, one((FOO, metadata("foo"))), one(*hides))) == []


@pytest.mark.parametrize(
    "keeps",
    [
        [("usr/lib/.wh.python", b"")],
        [("usr/lib", directory())],
        [("usr/li", b"a file")],
        [(FOO, metadata("foo")), ("usr/lib/.wh..wh..opq", b"")],
        [(FOO, metadata("foo")), (FOO.replace("METADATA", ".wh.METADATA"), b"")],
        [(FOO, metadata("foo")), ("usr/.wh.lib", b"")],
    ],
)
def test_what_a_layer_does_not_hide_is_installed(
    tmp_path: Path, keeps: list[tuple[str, Member]]
) -> None:
    """A whiteout is about the layers below, wherever in its own layer it is."""
    assert names(found(tmp_path, one((FOO, metadata("foo"))), one(*keeps))) == ["foo"]


def test_neighbour_of_what_is_hidden_is_installed(tmp_path: Path) -> None:
    paths = ("a.dist-info/METADATA", "a.dist-info.dist-info/METADATA")
    below = one(*((path, metadata(path.replace("/", "-"))) for path in paths))
    [left] = found(tmp_path, below, one((".wh.a.dist-info", b""))).installed
    assert left.path == paths[1]


def test_links_between_files_are_followed(tmp_path: Path) -> None:
    """pnpm and uv link what they install to a store, which comes first in the layer."""
    paths = [f"app/{number}/node_modules/foo/package.json" for number in (1, 2)]
    stored = one(("store/ab/cd", manifest("foo")), *((path, link("store/ab/cd")) for path in paths))
    assert [item.path for item in found(tmp_path, stored).installed] == paths


def test_links_are_followed_in_the_layer_that_has_them(tmp_path: Path) -> None:
    path = "app/node_modules/foo/package.json"
    below = one(("store/ab", manifest("old")), (path, link("store/ab")))
    above = one(("store/ab", manifest("new")), (path, link("store/ab")))
    assert names(found(tmp_path, below, above)) == ["new"]


def test_distribution_is_what_os_release_says(tmp_path: Path) -> None:
    layers = one(("usr/lib/os-release", OS_RELEASE), ("etc/os-release", symlink("../usr/lib")))
    distribution = found(tmp_path, layers).distribution
    assert (distribution.qualifier, distribution.name) == ("debian-12", "Debian 12")


def test_os_release_in_etc_wins_whichever_layer_it_is_in(tmp_path: Path) -> None:
    etc = one(("etc/os-release", b"ID=other\nVERSION_ID=1\n"))
    inventory = found(tmp_path, etc, one(("usr/lib/os-release", OS_RELEASE)))
    assert inventory.distribution.qualifier == "other-1"


def test_image_without_anything_has_nothing(tmp_path: Path) -> None:
    inventory = found(tmp_path, one(("bin/app", b"\x7fELF")))
    assert inventory == Inventory(inventory.distribution, (), ())
    assert inventory.distribution.qualifier == ""


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"\xff\xfe", b" " * (5 << 20)])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = "node_modules/foo/package.json"
    inventory = found(tmp_path, one((path, content), ("node_modules/b/package.json", b"{}")))
    assert names(inventory) == []
    [complaint] = inventory.complaints
    assert complaint.startswith(f"/{path} does not tell all that is installed: it is ")


@pytest.mark.parametrize("name", ["/", " ", "a b", "a\tb", "a/", "\x00", "a\x7f"])
def test_name_that_no_package_has_is_named(tmp_path: Path, name: str) -> None:
    status = f"Package: ok\nVersion: 1\n\nPackage: .{name}.\nVersion: 1\n".encode()
    inventory = found(tmp_path, one((STATUS, status)))
    assert names(inventory) == ["ok"]
    [complaint] = inventory.complaints
    assert "it has a package of the name" in complaint


def test_scope_alone_is_no_name(tmp_path: Path) -> None:
    inventory = found(tmp_path, one(("node_modules/foo/package.json", manifest("@scope/"))))
    assert (names(inventory), len(inventory.complaints)) == ([], 1)


@pytest.mark.parametrize("content", [b"1", b"[]", b"null", b'{"name": 1, "version": []}'])
def test_other_json_is_no_package(tmp_path: Path, content: bytes) -> None:
    inventory = found(tmp_path, one(("node_modules/foo/package.json", content)))
    assert (names(inventory), inventory.complaints) == ([], ())


@pytest.mark.parametrize("path", [STATUS, FOO, "var/lib/rpm/rpmdb.sqlite"])
def test_hole_of_any_size_is_not_read(tmp_path: Path, path: str) -> None:
    """A sparse file costs its writer nothing."""
    inventory = found(tmp_path, one((path, hole(1 << 50))))
    assert inventory.complaints == (f"/{path} is too large to be read: {1 << 50} bytes",)
    assert list(tmp_path.iterdir()) == []


def test_damaged_layer_is_an_error(tmp_path: Path) -> None:
    whole = one((STATUS, dpkg("foo")))
    cut = BytesLayer(whole.descriptor, whole.diff_id, whole.data[:-20])
    with pytest.raises(ContentError):
        found(tmp_path, cut)
