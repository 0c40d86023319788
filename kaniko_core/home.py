"""The directory that carries our own interpreter, libraries and packages, if there is one."""

from __future__ import annotations

import sys
from pathlib import Path

# Written by deploy/collect.py into the directory that it fills.
MARKER = ".kaniko-home"


def home() -> Path | None:
    """Return the directory that carries this interpreter; None where a machine's own runs."""
    directory = Path(sys.prefix)
    return directory if (directory / MARKER).is_file() else None


def interpreter() -> tuple[str, ...]:
    """Return the words that start this interpreter anew."""
    return (sys.executable,)
