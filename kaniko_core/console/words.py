"""How things are put into words: sizes, durations, instructions, transfers, failures."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from kaniko_core.lean import dataclass
from kaniko_core.progress import Direction

# An instruction's text in a heading; JSON lines have all of it.
_HEADING = 300
# What would move the cursor, or end a line, in words that come from elsewhere: registries,
# Dockerfiles, file names. Line feeds and tabs are ours to use.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_UNITS = ("B", "kB", "MB", "GB", "TB")

MOVING = {
    Direction.PULL: "pulling",
    Direction.PUSH: "pushing",
    Direction.UNPACK: "unpacking",
}
MOVED = {
    Direction.PULL: "pulled",
    Direction.PUSH: "pushed",
    Direction.UNPACK: "unpacked",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a program ends before its work is done.

    Attributes:
        message: one sentence.
        hint: what to try.
        notes: where it happened, outermost last.
        traceback: for bugs only, and only for those who asked to see it.
    """

    message: str
    hint: str | None = None
    notes: tuple[str, ...] = ()
    traceback: str = ""


def printable(text: str) -> str:
    """Return *text* with control characters made visible."""
    return text.translate(_CONTROLS)


def size(count: int) -> str:
    """Return a number of bytes for people: ``48.5 MB``; decimal units, as registries show."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.95 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a number of seconds for people: ``0.4s``, ``2m05s``, ``1h00m05s``."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{rest:02}s" if hours else f"{minutes}m{rest:02}s"


def heading(text: str) -> str:
    """Return an instruction on one line; a heredoc is cut after its first."""
    first, newline, _ = text.strip().partition("\n")
    line = re.sub(r"\s+", " ", first)
    if len(line) > _HEADING:
        return printable(f"{line[:_HEADING]}…")
    return printable(f"{line} …" if newline else line)


def timestamp(moment: float) -> str:
    """Return a moment, in seconds since the epoch, in RFC 3339's form, UTC, to the millisecond."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
