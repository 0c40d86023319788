"""What to remove from a cache directory, and how to show what is in it."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from kaniko_core.lean import dataclass
from kaniko_core.options.flag import Flag
from kaniko_core.values import long_duration, size


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneOptions:
    """What to remove from a cache directory, beside what is of no use to anybody."""

    older_than: Annotated[
        timedelta | None,
        Flag(
            "Remove what was not used for so long, such as 36h, 7d or 2w; by default --cache-ttl.",
            parse=long_duration,
            metavar="DURATION",
        ),
    ] = None
    max_size: Annotated[
        int | None,
        Flag(
            "Then remove what was not used for longest, until the rest takes no more than this, "
            "such as 500MB or 20GiB.",
            parse=size,
            metavar="SIZE",
        ),
    ] = None
    dry_run: Annotated[bool, Flag("Remove nothing, and show what would be removed.")] = False


class ListFormat(Enum):
    """How the contents of a cache directory are shown."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListOptions:
    """How the contents of a cache directory are shown."""

    format: Annotated[ListFormat, Flag("table or json.", metavar="FORMAT")] = ListFormat.TABLE
