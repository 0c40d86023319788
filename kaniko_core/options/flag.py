"""How a knob appears on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaniko_core.lean import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """How a field appears on the command line.

    Args:
        help: one sentence.
        parse: from the text given by the user to the field's type; raises UsageError.
        aliases: other long spellings, such as ``--customPlatform``.
        metavar: what stands for the value in the help.
        name: the flag's name, where it is not the field's.
        hidden: accepted, but left out of the help.
        notice: for a flag that is accepted and has no effect: why, as part of a sentence.
        several: whether *parse* returns a tuple of values, all of which are the field's.
    """

    help: str
    parse: Callable[[str], Any] | None = None
    aliases: tuple[str, ...] = ()
    metavar: str | None = None
    name: str | None = None
    hidden: bool = False
    several: bool = False
    notice: str = ""
