"""What went wrong with a cache, said once: a place that fails is not asked a second time."""

from __future__ import annotations

import threading

from kaniko_core.errors import ContentError, KanikoError, RegistryError
from kaniko_core.progress import Progress, Warned

# The registry, or a proxy before it, takes no blob of that size: others may be smaller.
_TOO_LARGE = 413
# What a registry answers where one may not read, or nobody has pushed yet: one may push all the
# same.
_REFUSED = frozenset({401, 403, 404})


class Complaints:
    """Which places failed at what; safe to use from several threads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._unread: set[str] = set()
        self._unwritten: set[str] = set()
        self._said: set[str] = set()
        self._unrecorded: dict[str, KanikoError] = {}
        self._quiet = False

    def hush(self) -> None:
        """Say nothing any more: the build was given up, and whatever fails now fails by that."""
        self._quiet = True

    def readable(self, place: str) -> bool:
        """Whether it makes sense to ask *place*."""
        with self._lock:
            return place not in self._unread

    def writable(self, place: str) -> bool:
        """Whether it makes sense to write to *place*."""
        with self._lock:
            return place not in self._unwritten

    def not_read(self, place: str, error: KanikoError) -> None:
        """Note that *place* cannot be asked, and warn of it once."""
        refused = isinstance(error, RegistryError) and error.status in _REFUSED
        with self._lock:
            first = place not in self._unread
            self._unread.add(place)
            if not refused:
                self._unwritten.add(place)
        if first:
            self._warn(f"the cache {place} cannot be used for this build: {error}", error.hint)

    def not_written(self, place: str, error: KanikoError) -> None:
        """Note that something could not be kept in *place*, and warn once for each cause."""
        match error:
            case ContentError():
                self._not_kept(place, error)
            case RegistryError(status=status) if status == _TOO_LARGE:
                self._not_kept(place, error)
            case RegistryError(status=None):
                self.not_read(place, error)  # it is out of reach
            case _:
                self.not_written_any_more(place, error)

    def record_not_written(self, place: str, error: KanikoError) -> None:
        """Note that a record could not be kept in *place*; layers may be."""
        with self._lock:
            self._unrecorded.setdefault(place, error)

    def finish(self) -> None:
        """Say of which places only the records are missing; of others, all was said."""
        with self._lock:
            unrecorded = self._unrecorded.keys() - self._unread - self._unwritten
        for place in sorted(unrecorded):
            error = self._unrecorded.pop(place)
            self._warn(
                f"the next build with --explain will know less, as the cache {place} does not "
                f"take its record: {error}",
                error.hint,
            )

    def not_written_any_more(self, place: str, error: KanikoError) -> None:
        """Note that *place* takes nothing, and warn of it once."""
        with self._lock:
            # Who may not read was told so; that he may not write either is no news.
            known = place in self._unread | self._unwritten
            self._unwritten.add(place)
        if not known:
            self._warn(f"layers cannot be kept in the cache {place}: {error}", error.hint)

    def _not_kept(self, place: str, error: KanikoError) -> None:
        """Warn of one layer; others may fare better."""
        cause = f"{place} {'too large' if isinstance(error, RegistryError) else error}"
        with self._lock:
            known = cause in self._said
            self._said.add(cause)
        if not known:
            self._warn(f"a layer cannot be kept in the cache {place}: {error}", error.hint)

    def _warn(self, message: str, hint: str | None) -> None:
        if not self._quiet:
            self._progress(Warned(message, hint))
