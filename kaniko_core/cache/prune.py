"""Keep a cache directory small: remove what is of no use, then what was not used for longest.

    damaged      an image that is not what its name promises
    left behind  by processes that were killed
    expired      a layer that an instruction made, past the time to live: no build takes it
    unused       anything that no build used for so long
    for space    the least recently used, until the rest is small enough

Nothing that a running build holds is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from pathlib import Path

from kaniko_core.cache.contents import UNFINISHED, Found, Kind, contents, disk_space, disk_usage
from kaniko_core.cache.images import Freshness, ImageCache
from kaniko_core.cache.removal import delete, remove
from kaniko_core.cache.tables import aligned, amount, span
from kaniko_core.cache.tags import TagIndex
from kaniko_core.cache.uses import alone, held_names
from kaniko_core.errors import DiskError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.atomic import sweep
from kaniko_core.oci.digest import Digest
from kaniko_core.options import CacheOptions, PruneOptions
from kaniko_core.progress import Progress, Warned, silent

# Seconds after which a manifest without an image is no image that is just being written.
_ORPHANED = 3600.0
_SHOWN = 44  # characters of a name


class Why(Enum):
    """Why something is removed; the values are for people."""

    DAMAGED = "damaged"
    LEFT_BEHIND = "left behind by a process that was killed"
    EXPIRED = "expired"
    UNUSED = "not used"
    SPACE = "for space"


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed: its *kind* for people, its *name*, and the bytes that it took."""

    kind: str
    name: str
    size: int
    why: Why
    unused: timedelta


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning did.

    Attributes:
        removed: in that order; what would be removed, after a dry run.
        left: bytes of what is still there.
        busy: how many things were to be removed, and builds hold them.
        failed: how many could not be removed.
    """

    removed: tuple[Removed, ...]
    left: int
    busy: int
    failed: int
    dry_run: bool = False

    def text(self) -> str:
        """Return a table of what was removed, and how much that freed."""
        rows = [("REMOVED", "NAME", "SIZE", "LAST USED", "WHY")]
        for item in self.removed:
            rows.append(
                (
                    item.kind,
                    item.name if len(item.name) <= _SHOWN else f"{item.name[: _SHOWN - 1]}…",
                    amount(item.size),
                    f"{span(item.unused)} ago",
                    item.why.value,
                )
            )
        freed = amount(sum(item.size for item in self.removed))
        verb = "would be freed" if self.dry_run else "freed"
        summary = f"{freed} {verb}, {amount(self.left)} left"
        if self.busy:
            summary += f"; {self.busy} kept for builds that are running"
        return "\n\n".join([aligned(rows), summary] if self.removed else [summary])


def prune(
    cache: CacheOptions,
    options: PruneOptions,
    *,
    now: Callable[[], float] = time.time,
    progress: Progress = silent,
) -> Pruned:
    """Remove from the cache directory what *options* say.

    Args:
        cache: where, and after what time things are stale.
        options: which limits to keep.
        now: the clock, in seconds since the epoch.
        progress: warned of what cannot be removed.

    Raises:
        DiskError: there is no such directory, or nothing can be removed from it.
    """
    with disk_errors("prune the cache", cache.cache_dir), held_names(cache.cache_dir):
        pass  # now it is known that things can be removed
    pruner = _Pruner(cache, options, now, progress, [], [], [])
    pruner.sweep()
    left = [(item, disk_usage(cache.cache_dir, item)) for item in contents(cache.cache_dir)]
    left = [(item, size) for item, size in left if not pruner.removed_as_useless(item, size)]
    total = sum(size for _, size in left)
    for item, size in left:
        if options.max_size is None or total <= options.max_size:
            break
        total -= size if pruner.remove(item, size, Why.SPACE) else 0
    pruner.forget_names()
    return Pruned(
        tuple(pruner.removed), total, len(pruner.busy), len(pruner.failed), options.dry_run
    )


@dataclass(frozen=True, slots=True)
class _Pruner:
    cache: CacheOptions
    options: PruneOptions
    now: Callable[[], float]
    progress: Progress
    removed: list[Removed]
    busy: list[Found]
    failed: list[Found]

    @property
    def directory(self) -> Path:
        return self.cache.cache_dir

    def removed_as_useless(self, item: Found, size: int) -> bool:
        """Remove *item* if it is of no use any more; say whether it was."""
        why = self._why(item)
        return why is not None and self.remove(item, size, why)

    def _why(self, item: Found) -> Why | None:
        if item.kind is Kind.IMAGE:
            lookup = ImageCache(self.cache, self.now).look_up(Digest.parse(item.name))
            if lookup.freshness is Freshness.DAMAGED:
                return Why.DAMAGED
        # A hit renews the time of last use, but not the layer.
        if item.kind is Kind.BUILT and self._since(item.created) > self.cache.cache_ttl:
            return Why.EXPIRED
        limit = self.options.older_than
        limit = self.cache.cache_ttl if limit is None else limit
        return Why.UNUSED if self._since(item.used) > limit else None

    def _since(self, moment: float) -> timedelta:
        return timedelta(seconds=self.now() - moment)

    def remove(self, item: Found, size: int, why: Why) -> bool:
        """Remove *item* unless a build holds it; say whether it was."""
        if item in self.busy or item in self.failed:
            return False
        try:
            gone = remove(self.directory, item, dry_run=self.options.dry_run)
        except DiskError as error:
            self.progress(Warned(str(error), hint=error.hint))
            self.failed.append(item)
            return False
        if not gone:
            self.busy.append(item)
            return False
        self._note(item.kind.value, item.name, size, why, item.used)
        return True

    def _note(self, kind: str, name: str, size: int, why: Why, used: float) -> None:
        short = name.removeprefix(".built/").removeprefix(".mounts/")
        self.removed.append(Removed(kind, short, size, why, self._since(used)))

    def sweep(self) -> None:
        """Remove what processes left that were killed."""
        for path in self._leftovers():
            with suppress(OSError):
                size, used = disk_space(path), path.lstat().st_mtime
                name = str(path.relative_to(self.directory))
                if self.options.dry_run or self._gone(path):
                    self._note("leftover", name, size, Why.LEFT_BEHIND, used)

    def _gone(self, path: Path) -> bool:
        if path.name.startswith(".tmp-"):
            sweep(path.parent, now=self.now)
        else:
            delete(path)
        return not path.exists()

    def _leftovers(self) -> Iterator[Path]:
        kinds = list((self.directory / ".layers").glob("*"))
        places = (".", ".tags", ".built", ".mounts")
        for place in (*(self.directory / name for name in places), *kinds):
            for path in sorted(place.glob(".tmp-*")):
                with alone(path) as free:
                    dead = free
                if dead:
                    yield path
        for place in kinds:
            for path in sorted(place.glob(f"*{UNFINISHED}")):
                # Held all the time by who is unpacking.
                with alone(place / "locks" / f"{path.stem}.lock") as free:
                    if free:
                        yield path
        for path in sorted(self.directory.glob("sha256:*.json")):
            entry = path.with_suffix("")
            if not entry.exists() and self.now() - path.stat().st_mtime > _ORPHANED:
                yield path

    def forget_names(self) -> None:
        """Remove notes of what names mean that is not there any more."""
        if self.options.dry_run:
            return
        images = contents(self.directory, (Kind.IMAGE,))
        try:
            TagIndex(self.directory / ".tags").forget([Digest.parse(i.name) for i in images])
        except DiskError as error:
            self.progress(Warned(str(error), hint=error.hint))
