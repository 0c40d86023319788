"""Headers of rpm in databases made here; those that rpm itself makes are in integration/."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from kaniko_core.attestations.inventory import Inventory, take_inventory
from kaniko_core.attestations.package import Distribution
from kaniko_core.attestations.rpm import packages_of
from kaniko_core.attestations.rpmdb import headers_in
from kaniko_core.errors import ContentError
from tests.attestations.layers import hole, link, made
from tests.samples import image

GOLDEN = Path(__file__).parents[1] / "golden" / "rpm"
SQLITE = "usr/lib/sysimage/rpm/rpmdb.sqlite"
BASH: dict[int, str | int] = {
    1000: "bash",
    1001: "5.1",
    1002: "9.el9",
    1003: 2,
    1004: "The shell",
    1011: "CentOS",
    1014: "GPLv3+",
    1020: "https://www.gnu.org/software/bash",
    1022: "x86_64",
    1044: "bash-5.1-9.el9.src.rpm",
}


def header(tags: Mapping[int, str | int]) -> bytes:
    """Return a package's header: an index of (tag, type, offset, count), and the data."""
    index, data = b"", b""
    for tag, value in tags.items():
        if isinstance(value, int):
            data += bytes(-len(data) % 4)
        index += struct.pack(">IIII", tag, 4 if isinstance(value, int) else 6, len(data), 1)
        data += struct.pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
    return struct.pack(">II", len(tags), len(data)) + index + data


def named(name: str) -> bytes:
    return header({1000: name, 1001: "1", 1002: "1"})


def sqlite(directory: Path, headers: Sequence[object], schema: str = "") -> bytes:
    path = directory / "made.sqlite"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database:
        table = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)"
        database.execute(schema or table)
        if not schema:
            rows = [(one,) for one in headers]
            database.executemany("INSERT INTO Packages (blob) VALUES (?)", rows)
        database.commit()
    return path.read_bytes()


def ndb(headers: Sequence[bytes]) -> bytes:
    slots, blobs = b"", b""
    for number, one in enumerate(headers, 1):
        start = 4096 + len(blobs)
        blob = struct.pack("<4sIII", b"BlbS", number, 0, len(one)) + one
        blob += bytes(-(len(blob) + 12) % 16) + struct.pack("<II4s", 0, len(one), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", number, start // 16, len(blob) // 16)
        blobs += blob
    empty = struct.pack("<4sIII", b"Slot", 0, 0, 0)
    slots += empty * ((4096 - 32) // 16 - len(headers))
    return struct.pack("<4sIII16x", b"RpmP", 0, 1, 1) + slots + blobs


def names(inventory: Inventory) -> list[str]:
    return [item.package.name for item in inventory.installed]


def test_header_has_what_a_package_is() -> None:
    [package] = packages_of([header(BASH)])
    assert (package.name, package.version, package.license) == ("bash", "5.1-9.el9", "GPLv3+")
    assert package.maker == "Organization: CentOS"
    assert package.url(Distribution("centos", "9")) == (
        "pkg:rpm/centos/bash@5.1-9.el9"
        "?arch=x86_64&distro=centos-9&epoch=2&upstream=bash-5.1-9.el9.src.rpm"
    )


def test_keys_and_headers_without_a_name_are_no_packages() -> None:
    assert list(packages_of([named("gpg-pubkey"), header({1001: "1"})])) == []


def test_what_rpm_calls_none_is_nothing() -> None:
    [package] = packages_of([header({**BASH, 1011: "(none)", 1044: "(none)"})])
    assert package.maker == ""
    assert "upstream" not in package.url(Distribution())


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0" * 7,
        header(BASH)[:-1],
        struct.pack(">II", 1 << 30, 4),
        struct.pack(">IIIIII", 1, 4, 1000, 6, 99, 1) + b"abc\0",
        struct.pack(">IIIIII", 1, 4, 1000, 6, 0, 1) + b"abcd",
        struct.pack(">IIIIII", 1, 4, 1003, 4, 2, 1) + b"abcd",
    ],
)
def test_damaged_header_is_an_error(damaged: bytes) -> None:
    with pytest.raises(ContentError):
        list(packages_of([damaged]))


@pytest.mark.parametrize(
    "path",
    [
        "var/lib/rpm/rpmdb.sqlite",
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        "usr/share/rpm/rpmdb.sqlite",
    ],
)
def test_sqlite_database(tmp_path: Path, path: str) -> None:
    layer = made((path, sqlite(tmp_path, [header(BASH), named("b")])))
    inventory = take_inventory(image(layer), tmp_path)
    assert (names(inventory), inventory.complaints) == (["bash", "b"], ())
    assert inventory.installed[0].layer == layer.descriptor.digest


def test_rpms_own_database(tmp_path: Path) -> None:
    layer = made(("usr/lib/sysimage/rpm/Packages.db", ndb([header(BASH), named("b")])))
    assert names(take_inventory(image(layer), tmp_path)) == ["bash", "b"]


def test_database_of_the_topmost_layer_counts(tmp_path: Path) -> None:
    layers = [
        made((SQLITE, sqlite(tmp_path, [named("a"), named("b")]))),
        made((SQLITE, sqlite(tmp_path, [named("b"), named("c")]))),
        made(("x", b"")),
    ]
    installed = take_inventory(image(*layers), tmp_path).installed
    assert [(item.package.name, item.layer) for item in installed] == [
        ("b", layers[0].descriptor.digest),
        ("c", layers[1].descriptor.digest),
    ]


@pytest.mark.parametrize(
    "whiteout", ["usr/lib/sysimage/.wh.rpm", "usr/lib/sysimage/rpm/.wh.rpmdb.sqlite"]
)
def test_database_that_is_hidden_has_no_packages(tmp_path: Path, whiteout: str) -> None:
    below = made((SQLITE, sqlite(tmp_path, [named("a")])))
    assert names(take_inventory(image(below, made((whiteout, b""))), tmp_path)) == []


def test_database_that_is_too_large_hides_the_one_below(tmp_path: Path) -> None:
    below = made((SQLITE, sqlite(tmp_path, [named("a")])))
    inventory = take_inventory(image(below, made((SQLITE, hole(1 << 40)))), tmp_path)
    assert names(inventory) == []
    assert len(inventory.complaints) == 1


def test_log_beside_a_database_is_read_with_it(tmp_path: Path) -> None:
    """What a transaction wrote last may be nowhere else."""
    path = tmp_path / "live.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        database.execute("INSERT INTO Packages (blob) VALUES (?)", (named("late"),))
        database.commit()
        log = tmp_path / "live.sqlite-wal"
        layer = made((SQLITE, path.read_bytes()), (f"{SQLITE}-wal", log.read_bytes()))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert names(take_inventory(image(layer), scratch)) == ["late"]


def test_database_may_be_a_link_to_a_file(tmp_path: Path) -> None:
    """An ostree's files are."""
    layer = made(("objects/1", sqlite(tmp_path, [named("a")])), (SQLITE, link("objects/1")))
    assert names(take_inventory(image(layer), tmp_path)) == ["a"]


def test_newer_database_wins(tmp_path: Path) -> None:
    """After a conversion the older one may still be there."""
    (tmp_path / "rpmdb.sqlite").write_bytes(sqlite(tmp_path, [named("new")]))
    (tmp_path / "Packages.db").write_bytes(ndb([named("old")]))
    assert [package.name for package in packages_of(headers_in(tmp_path))] == ["new"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rpmdb.sqlite", b"no database"),
        ("rpmdb.sqlite", b""),
        ("Packages.db", b""),
        ("Packages.db", b"RpmP" + bytes(28)[:20]),
        ("Packages.db", bytes(8192)),
        ("Packages.db", ndb([named("a")])[:4100]),
        ("Packages.db", ndb([named("a")]).replace(b"BlbS", b"none")),
        ("Packages.db", ndb([named("a")]).replace(b"Slot", b"none")),
        ("Packages", b""),
        ("Packages", bytes(8192)),
        ("Packages", b"\0" * 12 + struct.pack("<III", 0x061561, 9, 7) + bytes(600)),
        ("Packages", b"\0" * 12 + struct.pack("<III8xI", 0x061561, 9, 4096, 9) + bytes(600)),
    ],
)
def test_damaged_database_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    inventory = take_inventory(image(made((f"var/lib/rpm/{name}", content))), tmp_path)
    assert names(inventory) == []
    [complaint] = inventory.complaints
    assert complaint.startswith("/var/lib/rpm does not tell all that is installed: ")


def test_what_sqlite_says_may_be_no_text(tmp_path: Path) -> None:
    """It quotes names that it finds."""
    damaged = sqlite(tmp_path, [named("a")]).replace(b"Packages", b"\xd6ackages")
    damaged = damaged.replace(b"CREATE", b"CRATES")
    inventory = take_inventory(image(made((SQLITE, damaged))), tmp_path)
    assert names(inventory) == []
    [complaint] = inventory.complaints
    assert complaint.endswith("does not tell all that is installed: SQLite says that it is damaged")


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) "
        "SELECT x AS hnum, x AS blob FROM n",
        "CREATE TABLE Packages (something)",
        "CREATE TABLE Other (hnum, blob)",
    ],
)
def test_hostile_database_is_named(tmp_path: Path, schema: str) -> None:
    content = sqlite(tmp_path, [], schema)
    inventory = take_inventory(image(made((SQLITE, content))), tmp_path)
    assert len(inventory.complaints) == 1


def test_row_that_is_no_header_is_named(tmp_path: Path) -> None:
    content = sqlite(tmp_path, [named("a"), 7])
    inventory = take_inventory(image(made((SQLITE, content))), tmp_path)
    assert names(inventory) == ["a"]
    assert len(inventory.complaints) == 1


@pytest.mark.parametrize(
    ("made_by_rpm", "name"),
    [
        ("Packages.db", "Packages.db"),
        ("Packages", "Packages"),
        ("Packages-big-endian", "Packages"),
    ],
)
def test_databases_that_real_tools_made(tmp_path: Path, made_by_rpm: str, name: str) -> None:
    content = (GOLDEN / made_by_rpm).read_bytes()
    inventory = take_inventory(image(made((f"var/lib/rpm/{name}", content))), tmp_path)
    assert inventory.complaints == ()
    found = [(item.package.name, item.package.version) for item in inventory.installed]
    assert sorted(found) == [("other", "1.2-3"), ("tiny", "1.2-3")]


@pytest.mark.parametrize("name", ["Packages.db", "Packages"])
def test_no_damage_to_a_database_is_more_than_a_complaint(tmp_path: Path, name: str) -> None:
    whole = (GOLDEN / name).read_bytes()
    chance = random.Random(7)
    complaints = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 4, 64))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / name).write_bytes(damaged[: chance.choice((len(whole), 3000))])
        try:
            list(packages_of(headers_in(tmp_path)))
        except ContentError:
            complaints += 1
    assert complaints > 100


def test_slots_that_share_a_header_are_damage(tmp_path: Path) -> None:
    """Each of them could be as large as the file."""
    one = ndb([header({1000: "a", 1001: "1", 1004: "x" * 6000})])
    slot = struct.pack("<4sIII", b"Slot", 1, 256, 1)
    (tmp_path / "Packages.db").write_bytes(one[:32] + slot * 254 + one[4096:])
    with pytest.raises(ContentError, match="a package's header is damaged"):
        list(headers_in(tmp_path))


def test_pages_that_form_a_ring_are_damage(tmp_path: Path) -> None:
    meta = bytes(12) + struct.pack("<III", 0x061561, 9, 512) + struct.pack("<4sII", b"\0\x08", 0, 2)
    off_page = bytes([3, 0, 0, 0]) + struct.pack("<II", 2, 1 << 20)
    hashed = struct.pack("<8xIIIHHBB", 1, 0, 0, 2, 495, 0, 13) + struct.pack("<HH", 507, 495)
    hashed += bytes(495 - len(hashed)) + off_page + b"\1key1"
    ring = struct.pack("<8xIIIHHBB", 2, 2, 2, 1, 1, 0, 7).ljust(512, b"x")
    (tmp_path / "Packages").write_bytes(meta.ljust(512, b"\0") + hashed + ring)
    with pytest.raises(ContentError, match="it uses pages twice"):
        list(headers_in(tmp_path))
