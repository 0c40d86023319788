"""Reports of bytes that move: often enough to look alive, seldom enough to cost nothing."""

from __future__ import annotations

import time

from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference
from kaniko_core.progress import BytesMoved, Direction, Progress

_INTERVAL = 0.1  # seconds between two events of one transfer


class Meter:
    """Counts the bytes of one transfer and emits BytesMoved."""

    def __init__(self, progress: Progress, direction: Direction, what: str, total: int) -> None:
        self._progress = progress
        self._direction = direction
        self._what = what
        self._total = total
        self._told = time.monotonic()

    def at(self, done: int) -> None:
        """Note that *done* bytes have moved in all; the last event is emitted in any case."""
        now = time.monotonic()
        if done == self._total or now - self._told >= _INTERVAL:
            self._told = now
            self._progress(BytesMoved(self._direction, self._what, done, self._total))


def transfer_name(reference: Reference, digest: Digest) -> str:
    """Name a blob of an image for people: ``debian:12 sha256:1a2b3c4d5e6f``."""
    named = Reference(reference.repository, reference.tag)
    return f"{named.familiar} {digest.algorithm}:{digest.short}"
