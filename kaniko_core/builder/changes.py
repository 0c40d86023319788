"""What of a step's changes becomes part of a layer: ``--ignore-path`` and ``--single-snapshot``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace

from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.options import BuildOptions
from kaniko_core.rootfs.changeset import (
    by_component,
    hard_link,
    inode_of,
    is_directory,
    is_same_directory,
)
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.tree import Rootfs

_VAR_RUN = "/var/run"


def ignored_changes(build: BuildOptions) -> IgnoreRules:
    """Return the paths below which changes never become part of a layer."""
    paths = [*build.ignore_path, *([_VAR_RUN] if build.ignore_var_run else [])]
    tidy = (posixpath.normpath("/" + path).strip("/") for path in paths)
    return IgnoreRules(frozenset(path.encode("utf-8", "surrogateescape") for path in tidy))


def without(entries: Iterable[Entry], ignored: IgnoreRules) -> Iterator[Entry]:
    """Leave out of *entries* what is *ignored*.

    A file whose first name is ignored goes by the first of its names that is not.
    """
    # Most builds ignore nothing, and then no entry need pass through here.
    return _without(entries, ignored) if ignored.covered else iter(entries)


def _without(entries: Iterable[Entry], ignored: IgnoreRules) -> Iterator[Entry]:
    first_names: dict[bytes, Entry | bytes] = {}
    for entry in entries:
        if ignored.covers(entry.name):
            if entry.kind is not Kind.HARDLINK:
                first_names[entry.name] = entry
            continue
        known = first_names.get(entry.link) if entry.kind is Kind.HARDLINK else None
        if isinstance(known, Entry):
            first_names[entry.link] = entry.name
            yield replace(known, name=entry.name)
        elif isinstance(known, bytes):
            yield hard_link(entry, known)
        else:
            yield entry


def squashed(steps: Iterable[Iterable[Entry]], below: Rootfs, above: Rootfs) -> Iterator[Entry]:
    """Return all that *steps* changed as one changeset.

    Args:
        steps: the changeset of each, in order.
        below: the tree before the first of them.
        above: the tree after the last.
    """
    first_names: dict[tuple[int, int], bytes] = {}
    untold: list[Entry] = []
    # Only what is in one of these is looked at: anywhere else a link may be on the way.
    old_directories, new_directories = {b""}, {b""}
    for name in sorted(_touched(steps, below, above), key=by_component):
        untold = [entry for entry in untold if name.startswith(entry.name + b"/")]
        parent = name.rpartition(b"/")[0]
        old = below.lstat(name) if parent in old_directories else None
        new = above.lstat(name) if parent in new_directories else None
        if is_directory(old):
            old_directories.add(name)
        entry = above.entry(name, new) if new is not None else None
        if new is None or entry is None:
            if old is not None and parent in new_directories:
                yield from untold
                untold.clear()
                yield Entry(name, Kind.WHITEOUT)
            continue
        if entry.kind is Kind.DIRECTORY:
            new_directories.add(name)
            untold.append(entry)
            if is_directory(old) and is_same_directory(entry, old, below):
                continue
        else:
            if new.st_nlink > 1:
                first = first_names.setdefault(inode_of(new), name)
                entry = entry if first == name else hard_link(entry, first)
            untold.append(entry)
        yield from untold
        untold.clear()


def _touched(steps: Iterable[Iterable[Entry]], below: Rootfs, above: Rootfs) -> set[bytes]:
    """Return every name that *steps* tell, what they hide, and the directories those are in.

    What was in a directory is hidden when it comes again after it was gone, or something else.
    """
    names: set[bytes] = set()
    for entries in steps:
        for entry in entries:
            name = entry.name
            names.add(name)
            if entry.kind is Kind.DIRECTORY or not is_directory(below.lstat(name)):
                continue
            if is_directory(above.lstat(name)) and below.resolve_parent(name) == name:
                names.update(name for name, _ in below.walk(name))
    for name in list(names):
        while name := name.rpartition(b"/")[0]:
            names.add(name)
    return names
