"""What a place that keeps steps promises, whatever it is made of.

An entry is an image of one layer (``images.py``), named by the step's key. Stores know nothing of
time to live, of threads that wait, of warnings: that is ``cache.py``.
"""

from __future__ import annotations

from typing import Protocol

from kaniko_core.oci.image import Image
from kaniko_core.oci.reference import Repository
from kaniko_core.steps.step import CachedStep


class StepSource(Protocol):
    """Where steps can be looked up; safe to use from several threads."""

    @property
    def name(self) -> str:
        """What people call it."""

    def get(self, key: str) -> CachedStep | None:
        """Return the step, its layer yet to be read, or None where there is none.

        Raises:
            ContentError: there is an entry, but it is damaged, or its layer is gone.
            KanikoError: nobody can say: the place is out of reach, or refuses.
        """


class StepStore(StepSource, Protocol):
    """A place that keeps steps, and small records beside them."""

    def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
        """Keep *image* under *key*; bytes that are there already are not sent again.

        Args:
            key: the step's.
            image: as ``images.step_image`` makes it.
            known_in: repositories that may have the blob already.

        Raises:
            KanikoError: the place is out of reach, refuses, or is full.
        """

    def discard(self, key: str, step: CachedStep) -> None:
        """Forget an entry whose layer turned out to be damaged, where that can be done."""

    def read_record(self, name: str) -> bytes | None:
        """Return the record *name*, or None; raise KanikoError where nobody can say."""

    def write_record(self, name: str, data: bytes) -> None:
        """Keep *data* as *name*; nothing is sent where the same is there already.

        Raises:
            KanikoError: as :meth:`put`.
        """
