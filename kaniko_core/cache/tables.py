"""Sizes, spans of time and tables, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

_THOUSAND = 1000


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return one line for each row, its cells below those of the first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def amount(size: int) -> str:
    """Say how many bytes, in megabytes or more: ``48.2 MB``, ``1.5 GB``."""
    value = size / 1e6
    for unit in ("MB", "GB"):
        if value < _THOUSAND:
            return f"{value:.1f} {unit}"
        value /= _THOUSAND
    return f"{value:.1f} TB"


def span(time: timedelta) -> str:
    """Say how long in the largest unit that fits: ``3 days``, ``1 hour``."""
    # Clocks of machines that share a directory differ: nothing is younger than now.
    total = max(0, int(time.total_seconds()))
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if count := total // seconds:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "0 seconds"
