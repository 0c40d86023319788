"""What a cache directory holds, for people and for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kaniko_core.cache.contents import Found, Kind, contents, disk_usage
from kaniko_core.cache.images import Freshness, ImageCache
from kaniko_core.cache.tables import aligned, amount, span
from kaniko_core.cache.tags import Note, TagIndex
from kaniko_core.errors import UsageError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference
from kaniko_core.options import CacheOptions

_VERSION = 1  # of the JSON document
_PLURALS = {
    Kind.IMAGE: "images",
    Kind.UNPACKED: "layers, unpacked",
    Kind.BUILT: "layers that instructions made",
    Kind.RUN_CACHE: "caches of RUN",
}
_FIELDS = {
    Kind.IMAGE: "images",
    Kind.UNPACKED: "unpackedLayers",
    Kind.BUILT: "builtLayers",
    Kind.RUN_CACHE: "runCaches",
}


@dataclass(frozen=True, slots=True)
class CachedImage:
    """A base image in the cache.

    Attributes:
        notes: under which names it was warmed; none where that was by digest only.
        size: bytes on the disk.
        created: when it was written or renewed.
        expires: when it becomes stale.
        used: when a build last used it.
        detail: what is wrong with it, if anything.
    """

    digest: Digest
    notes: tuple[Note, ...]
    size: int
    created: datetime
    expires: datetime
    used: datetime
    freshness: Freshness
    detail: str


@dataclass(frozen=True, slots=True)
class Total:
    """How many things of a kind there are, and the bytes that they take on the disk."""

    kind: Kind
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The contents of *directory* at the time *now*; *totals* are of all kinds."""

    directory: Path
    now: datetime
    images: tuple[CachedImage, ...]
    totals: tuple[Total, ...]

    def text(self) -> str:
        """Return a table of the images, and one of what else there is."""
        rows = [("IMAGE", "DIGEST", "SIZE", "AGE", "EXPIRES", "LAST USED")]
        for image in self.images:
            age, unused = self.now - image.created, self.now - image.used
            left = image.expires - self.now
            rows.append(
                (
                    ", ".join(map(_name, image.notes)) or "-",
                    f"sha256:{image.digest.short}",
                    amount(image.size),
                    span(age),
                    _expiry(image, left),
                    f"{span(unused)} ago",
                )
            )
        sums = [("KIND", "NUMBER", "SIZE")]
        sums += [(_PLURALS[t.kind], str(t.count), amount(t.size)) for t in self.totals]
        sums.append(("all", "", amount(sum(total.size for total in self.totals))))
        return "\n\n".join(aligned(part) for part in (rows, sums) if len(part) > 1)

    def json(self) -> str:
        """Return one line of JSON; docs/CACHING.md says what is in it."""
        document = {
            "version": _VERSION,
            "directory": str(self.directory),
            "images": [_document(image) for image in self.images],
            "totals": {
                _FIELDS[total.kind]: {"count": total.count, "size": total.size}
                for total in self.totals
            },
            "size": sum(total.size for total in self.totals),
        }
        return json.dumps(document, ensure_ascii=False)


def list_cache(options: CacheOptions, *, now: Callable[[], float] = time.time) -> Listing:
    """Return what is in the cache directory; no layer of an image is read.

    Raises:
        DiskError: there is no such directory, or it cannot be read.
    """
    cache_dir = options.cache_dir
    with disk_errors("read the cache", cache_dir):
        next(cache_dir.iterdir(), None)
    found = [(item, disk_usage(cache_dir, item)) for item in contents(cache_dir)]
    notes = TagIndex(cache_dir / ".tags").notes()
    cache = ImageCache(options, now)
    images = [
        _image(item, size, cache, options.cache_ttl, notes)
        for item, size in found
        if item.kind is Kind.IMAGE
    ]
    images.sort(key=lambda image: (not image.notes, *map(_name, image.notes), image.digest))
    return Listing(cache_dir, _moment(now()), tuple(images), tuple(_total(k, found) for k in Kind))


def _total(kind: Kind, found: Collection[tuple[Found, int]]) -> Total:
    sizes = [size for item, size in found if item.kind is kind]
    return Total(kind, len(sizes), sum(sizes))


def _image(
    item: Found, size: int, cache: ImageCache, ttl: timedelta, notes: Collection[Note]
) -> CachedImage:
    digest = Digest.parse(item.name)
    lookup = cache.look_up(digest)
    created = _moment(item.created)
    return CachedImage(
        digest,
        tuple(note for note in notes if note.meaning.image == digest),
        size,
        created,
        created + ttl,
        _moment(item.used),
        lookup.freshness,
        lookup.detail,
    )


def _document(image: CachedImage) -> dict[str, object]:
    document: dict[str, object] = {
        "digest": str(image.digest),
        "names": [
            {"name": _familiar(note), "platform": note.platform, "warmed": _text(note.meaning.when)}
            for note in image.notes
        ],
        "size": image.size,
        "created": _text(image.created),
        "expires": _text(image.expires),
        "lastUsed": _text(image.used),
        "state": image.freshness.value,
    }
    return document | ({"detail": image.detail} if image.detail else {})


def _name(note: Note) -> str:
    return f"{_familiar(note)} ({note.platform})"


def _familiar(note: Note) -> str:
    try:
        return Reference.parse(note.name).familiar
    except UsageError:
        return note.name


def _expiry(image: CachedImage, left: timedelta) -> str:
    if image.freshness not in (Freshness.FRESH, Freshness.STALE):
        return str(image.freshness.value)
    return f"in {span(left)}" if left > timedelta(0) else "stale"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
