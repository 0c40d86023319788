"""What tags meant when they were last warmed, so that they can be used without a registry.

One small file for each name and platform:

    <directory>/<sha256 of name and platform>.json
        {"reference": …, "platform": …, "listed": …, "image": …, "time": …}

``listed`` is what the registry has under the name, perhaps an index; ``image`` is the manifest
of the platform's image, and the key of its entry in the cache.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from kaniko_core.errors import UsageError, disk_errors
from kaniko_core.lean import dataclass
from kaniko_core.oci.atomic import make_directory, replacing
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import dump


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a name meant at *when* (UTC): the digest that the registry listed, and the image's."""

    listed: Digest
    image: Digest
    when: datetime


@dataclass(frozen=True, slots=True)
class Note:
    """A file of the index: that *name* meant *meaning* for *platform*; both as they are written."""

    path: Path
    name: str
    platform: str
    meaning: Remembered


@dataclass(frozen=True, slots=True)
class TagIndex:
    """The files of one directory."""

    directory: Path

    def remember(
        self, reference: Reference, platform: Platform, listed: Digest, image: Digest, now: datetime
    ) -> None:
        """Note what *reference* means for *platform*; raise DiskError where that cannot be."""
        content = {
            "reference": str(reference.with_default_tag),
            "platform": str(platform),
            "listed": str(listed),
            "image": str(image),
            "time": now.astimezone(UTC).isoformat(timespec="seconds"),
        }
        path = self._path(reference, platform)
        with disk_errors("note the tag in", self.directory):
            make_directory(self.directory)
            # Not flushed: a note that a power failure took only costs a question.
            with replacing(path, durable=False) as stream:
                stream.write(dump(content))

    def recall(self, reference: Reference, platform: Platform) -> Remembered | None:
        """Return what was noted, or None; a note that cannot be read is none."""
        note = _read(self._path(reference, platform))
        return None if note is None else note.meaning

    def notes(self) -> tuple[Note, ...]:
        """Return all that can be read, by name and platform."""
        # glob() finds nothing in a directory that is not there, or not to be read.
        found = (_read(path) for path in self.directory.glob("[0-9a-f]*.json"))
        there = (note for note in found if note is not None)
        return tuple(sorted(there, key=lambda note: (note.name, note.platform)))

    def forget(self, kept: Collection[Digest]) -> None:
        """Remove the notes about images other than *kept*, and those that cannot be read."""
        known = {note.path for note in self.notes() if note.meaning.image in kept}
        with disk_errors("remove notes from", self.directory):
            for path in self.directory.glob("[0-9a-f]*.json"):
                if path not in known:
                    path.unlink(missing_ok=True)

    def _path(self, reference: Reference, platform: Platform) -> Path:
        # A hash, because names are longer than file names may be, and have slashes.
        key = Digest.of(f"{reference.with_default_tag} {platform}".encode())
        return self.directory / f"{key.hex}.json"


def _read(path: Path) -> Note | None:
    try:
        data = json.loads(path.read_bytes())
        meaning = Remembered(
            Digest.parse(data["listed"]),
            Digest.parse(data["image"]),
            datetime.fromisoformat(data["time"]).astimezone(UTC),
        )
        return Note(path, str(data["reference"]), str(data["platform"]), meaning)
    except (OSError, ValueError, TypeError, KeyError, UsageError):
        return None
