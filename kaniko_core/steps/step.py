"""Steps as values: what was found in a cache, what was made and shall be kept there.

A *step* is an instruction that can change files. Its key is known before anything is built; what
it made is one layer, which a later build with the same key takes as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from enum import Enum

from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.image import Layer
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Repository


@dataclass(frozen=True, slots=True)
class CachedStep:
    """What an earlier build made of a step.

    Attributes:
        key: the step's, 64 hexadecimal digits.
        layer: what it made; opening or reading it raises :class:`LostLayer` where bytes are
            missing or wrong.
        created: when it was made; of a time zone.
        contents: digest of the layer with all its times zeroed, ``sha256:…``.
        made_on: what it was made on, to be compared with what a build has.
    """

    key: str
    layer: Layer
    created: datetime
    contents: str
    made_on: tuple[str, ...]


class LostLayer(KanikoError):  # noqa: N818 - names what is wrong
    """A layer that a cache promised cannot be read; the build starts over without it.

    Attributes:
        key: of the step that the layer belongs to.
    """

    def __init__(self, key: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class Missing(Enum):
    """Why a step was not found."""

    ABSENT = "absent"
    EXPIRED = "expired"
    LOST = "lost"  # there is an entry; its layer is gone or damaged
    UNREACHABLE = "unreachable"  # nobody could say
    OFF = "off"  # this kind of step is not cached


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeStep:
    """What a build made of a step, to be kept for later ones.

    Attributes:
        key: the step's, 64 hexadecimal digits.
        text: the instruction as the image's history shows it.
        platform: what the layer was made for.
        layer: what was made, once it is packed; with its ``contents``.
        created: when; of a time zone.
        made_on: gives what it was made on; called when the layer is packed, not by the caller's
            thread, and may wait.
        known_in: gives the repositories that have the layer's blob by now.
    """

    key: str
    text: str
    platform: Platform
    layer: Future[FileLayer]
    created: datetime
    made_on: Callable[[], tuple[str, ...]]
    known_in: Callable[[], tuple[Repository, ...]]
