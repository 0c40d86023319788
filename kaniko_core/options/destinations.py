"""Where images are pushed to, and where what is said about them is written."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import Reference

_HTTPS, _HTTP = "https://", "http://"


@dataclass(frozen=True, slots=True)
class Destination:
    """An image name to push to, and the target whose image it gets.

    Attributes:
        reference: the name; without a tag it is ``latest``.
        stage: the target as ``--target`` names it; empty for the first one.
    """

    reference: Reference
    stage: str = ""

    def __post_init__(self) -> None:
        if self.reference.digest is not None:
            raise UsageError(
                f"{self.reference} names a digest; a destination has a tag",
                hint=f"push to {self.reference.repository}:TAG",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``IMAGE`` or ``STAGE=IMAGE``; raise :class:`UsageError` for anything else."""
        # No image name has an equals sign.
        stage, equals, image = text.rpartition("=")
        if equals and not stage:
            raise UsageError(f"{text!r} names no stage", hint="write IMAGE, or STAGE=IMAGE")
        return cls(Reference.parse(image), stage)

    def __str__(self) -> str:
        return f"{self.stage}={self.reference}" if self.stage else str(self.reference)


@dataclass(frozen=True, slots=True)
class UploadAddress:
    """An ``https://`` address that takes a PUT; it may be signed, and so is a secret.

    Attributes:
        url: the whole address, which no message may show.
    """

    url: str = field(repr=False)

    def __str__(self) -> str:
        """The host, for people."""
        return urlsplit(self.url).hostname or ""


def file_or_address(text: str) -> Path | UploadAddress:
    """Read the name of a file, or an ``https://`` address; raise :class:`UsageError` otherwise."""
    if not text:
        raise UsageError("the name is empty")
    if text.lower().startswith(_HTTP):
        raise UsageError(
            "what is written is sent to https:// addresses only",
            hint="name a file, or an address that begins with https://",
        )
    if not text.lower().startswith(_HTTPS):
        return Path(text)
    address = UploadAddress(text)
    try:
        host, _ = str(address), urlsplit(text).port
    except ValueError:
        host = ""
    if not host or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError("that is no address that something can be sent to")
    return address
