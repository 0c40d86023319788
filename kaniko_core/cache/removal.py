"""Remove things from a cache directory under the eyes of running builds.

What is removed is first renamed, while no build can begin to use anything, and deleted when all
may go on: a build sees an entry whole, or not at all.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from kaniko_core.cache.contents import Found, Kind, contents, disk_usage, look, parts
from kaniko_core.cache.tables import amount
from kaniko_core.cache.uses import alone, held_names
from kaniko_core.errors import KanikoError, disk_errors
from kaniko_core.progress import Noted, Progress

# As those of files that are being written: what a killed process leaves is swept away.
_ASIDE = ".tmp-pruned-"


def remove(cache_dir: Path, item: Found, *, dry_run: bool = False) -> bool:
    """Remove *item*, unless a build holds it, or used it since it was found; say whether.

    Args:
        cache_dir: the cache directory.
        item: as :func:`~kaniko_core.cache.contents.contents` found it.
        dry_run: only say what would happen.

    Raises:
        DiskError: it may not be removed, or nobody can say whether a build holds it.
    """
    entry = cache_dir / item.name
    aside: list[Path] = []
    with ExitStack() as stack:
        stack.enter_context(disk_errors("remove from the cache", entry))
        held = stack.enter_context(held_names(cache_dir))
        if item.name in held or look(cache_dir, item.kind, item.name) != item:
            return False
        if not all(stack.enter_context(alone(path)) for path in _lockable(cache_dir, item)):
            return False
        if not dry_run:
            aside = [_put_aside(path) for path in parts(cache_dir, item)]
    for path in aside:
        delete(path)
    return True


def make_room(cache_dir: Path, size: int, kinds: Collection[Kind], progress: Progress) -> bool:
    """Remove things of *kinds* that no build holds, least recently used first.

    Args:
        cache_dir: the cache directory, whose disk is full.
        size: bytes after which it is enough.
        kinds: of what can be had again.
        progress: told what was removed.

    Returns:
        Whether anything was removed.
    """
    freed, count = 0, 0
    with suppress(KanikoError):
        for item in contents(cache_dir, kinds):
            if freed >= size and count:
                break
            used = disk_usage(cache_dir, item)
            if remove(cache_dir, item):
                freed, count = freed + used, count + 1
    if count:
        what = "one layer" if count == 1 else f"{count} layers"
        progress(
            Noted(
                f"the disk of the cache {cache_dir} is full: removed {what} of {amount(freed)} "
                "that no running build uses"
            )
        )
    return count > 0


def delete(path: Path) -> None:
    """Delete *path* with all that is below it, as far as that can be; never raises."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=_open_up)
        else:
            path.unlink()


def _open_up(remove: Callable[..., Any], name: str, _: object) -> None:
    """Try again where a directory could not be read or changed: we may own it, and not be root.

    What cannot be removed nevertheless stays, for whoever can.
    """
    path = Path(name)
    with suppress(OSError):
        # Of both, whatever comes of the first.
        if not any([_opened_up(path.parent), _opened_up(path)]):
            return
        if remove in (os.unlink, os.rmdir):
            remove(name)
        else:
            shutil.rmtree(path, onerror=_open_up)


def _opened_up(path: Path) -> bool:
    """Let the owner do everything with the directory *path*; say whether that is new."""
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode) or mode & stat.S_IRWXU == stat.S_IRWXU:
        return False
    path.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
    return True


def _lockable(cache_dir: Path, item: Found) -> list[Path]:
    """Return what is locked by who uses the entry without being able to say so, or writes it."""
    writer = [cache_dir / ".locks" / f"{item.name}.lock"] if item.kind is Kind.IMAGE else []
    return [cache_dir / item.name, *writer]


def _put_aside(path: Path) -> Path:
    aside = path.with_name(f"{_ASIDE}{os.urandom(8).hex()}")
    path.rename(aside)
    return aside
