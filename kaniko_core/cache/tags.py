"""What tags meant when they were last warmed, so that they can be used without a registry.

One small file for each name and platform:

    <directory>/<sha256 of name and platform>.json
        {"reference": …, "platform": …, "listed": …, "image": …, "time": …}

``listed`` is what the registry has under the name, perhaps an index; ``image`` is the manifest
of the platform's image, and the key of its entry in the cache.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kaniko_core.errors import UsageError, disk_errors
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
        try:
            data = json.loads(self._path(reference, platform).read_bytes())
            return Remembered(
                Digest.parse(data["listed"]),
                Digest.parse(data["image"]),
                datetime.fromisoformat(data["time"]).astimezone(UTC),
            )
        except (OSError, ValueError, TypeError, KeyError, UsageError):
            return None

    def _path(self, reference: Reference, platform: Platform) -> Path:
        # A hash, because names are longer than file names may be, and have slashes.
        key = Digest.of(f"{reference.with_default_tag} {platform}".encode())
        return self.directory / f"{key.hex}.json"
