"""An overlay's upper directory, read as a changeset, keeps the promises that a scan keeps too.

The scenarios are those of tests/contracts; tests/rootfs/test_scan.py has the scan's side.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.overlay import upper_entries
from kaniko_core.rootfs.scan import Scanner
from kaniko_core.rootfs.tree import Rootfs
from tests.contracts import snapshots
from tests.contracts.snapshots import SCENARIOS, Scenario, apply, seen, told

# What an overlay tells differently, because it sees what was done and not only what came of it.
_OVERLAYS = {
    "directory removed and made again": "D old; O old; F old/new",
    "one of two names removed": "D app; W app/one-again",
    "one of two names changed": "D app; F app/one",
    "what a link leads to": "D app; F app/one",
    "one of two names replaced": "D app; F app/one",
}


@pytest.fixture
def place() -> Iterator[Path]:
    # Where an overlay can have its upper directory, and not below pytest's own.
    with tempfile.TemporaryDirectory(prefix="kaniko-snapshots-", dir="/var/tmp") as name:
        yield Path(name)


@contextmanager
def _overlay(root: Path, place: Path) -> Iterator[Path]:
    """Give a path of the merged tree of *root* and an upper directory, mounted for us only."""
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    options = f"lowerdir={root},upperdir={place}/upper,workdir={place}/work"
    script = 'mount -t overlay overlay -o "$0" "$1" && echo mounted && exec cat'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, options, place / "merged"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"mounted\n"
        yield Path(f"/proc/{holder.pid}/root/{place}/merged")
        holder.stdin.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_overlay_finds_what_happened(name: str, place: Path) -> None:
    scenario = SCENARIOS[name]
    root, old = snapshots.old_and_new(scenario, place)

    with _overlay(root, place) as merged:
        scenario.act(merged)
        with Rootfs(root) as below:
            entries = list(upper_entries(place / "upper", below))
        new = seen(merged)
        apply(entries, old)

    expected = _OVERLAYS.get(name, scenario.told)
    if expected is not None:
        assert told(entries) == expected
    assert seen(old) == new


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scan_of_an_overlay_finds_it_too(name: str, place: Path) -> None:
    """The usual root of a container is an overlay; what its lower directories have is copied up.

    Where hard links of the lower directory are broken by that, other names are told.
    """
    scenario = SCENARIOS[name]
    root, old = snapshots.old_and_new(scenario, place)

    with _overlay(root, place) as merged:
        scan = Scanner(merged, IgnoreRules())
        scan.remember()
        scan.settle()
        scenario.act(merged)
        entries = scan.changes()
        new = seen(merged)
        apply(entries, old)

    if not _has_links_below(scenario):
        assert told(entries) == (scenario.told if scenario.scanned is None else scenario.scanned)
    assert seen(old) == new


def _has_links_below(scenario: Scenario) -> bool:
    return scenario.scanned is not None or scenario.told is None


def test_what_an_overlay_copies_up_is_told_though_it_is_the_same(place: Path) -> None:
    """The copy has a time of its own, and to compare the bytes a scan would have to know them."""
    root, old = snapshots.old_and_new(SCENARIOS["nothing"], place)

    with _overlay(root, place) as merged:
        scan = Scanner(merged, IgnoreRules())
        scan.remember()
        scan.settle()
        os.close(os.open(merged / "app/two", os.O_WRONLY | os.O_APPEND))
        entries = scan.changes()
        apply(entries, old)

        assert told(entries) == "D app; F app/two"
        assert seen(old) == seen(merged)
