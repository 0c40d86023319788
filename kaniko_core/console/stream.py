"""Where lines go, and how a command's bytes become lines."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Protocol, TextIO

from kaniko_core.progress import Output

# A line that is longer is broken: a command may write gigabytes without a line feed.
_LONGEST_LINE = 64 << 10  # bytes


class Writer(Protocol):
    """Takes text that consists of whole lines; safe to call from several threads."""

    def write(self, text: str, /) -> object:
        """Write *text*; must not raise."""


class Sink:
    """A Writer to a text stream that may go away."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str, /) -> None:
        """Write *text* at once; a stream that is closed is left alone from then on."""
        with self._lock:
            if self._stream is None:
                return
            try:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError as error:
                    # An ASCII terminal, or a file name that is no text.
                    data = text.encode(error.encoding, "backslashreplace")
                    self._stream.write(data.decode(error.encoding))
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads any more. That must not end a build, and cannot be told either.
                silence(self._stream)
                self._stream = None

    def flush(self) -> None:
        """Do nothing: what is written is flushed already."""


def silence(stream: TextIO) -> None:
    """Lead a broken standard stream to nowhere, or Python would fail to flush it at its end."""
    try:
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return
    os.dup2(nowhere, descriptor, inheritable=True)
    os.close(nowhere)


class OutputLines:
    """Makes lines of what commands write; each stage's stdout and stderr is a stream of its own."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, bool], bytes] = {}

    def lines(self, event: Output) -> list[str]:
        """Return the lines that *event* completes, without their ends."""
        key = (event.stage, event.stderr)
        *lines, rest = (self._begun.pop(key, b"") + event.data).split(b"\n")
        rest = rest[_overwritten(rest) :]
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        if rest:
            self._begun[key] = rest
        return [_text(line) for line in lines]

    def rest(self, stage: str | None = None) -> Iterator[tuple[str, bool, str]]:
        """Yield stage, whether it is stderr's, and text of lines without end; of one stage or all.

        They count as lines then.
        """
        for key in sorted(self._begun):
            if stage is None or key[0] == stage:
                yield *key, _text(self._begun.pop(key))


def _overwritten(line: bytes) -> int:
    """Return how many bytes of *line* a carriage return lets the rest overwrite."""
    return line.rstrip(b"\r").rfind(b"\r") + 1


def _text(line: bytes) -> str:
    # Of a progress bar, what it showed at last: the rest would be megabytes in a log.
    return line[_overwritten(line) :].rstrip(b"\r").decode(errors="replace")
