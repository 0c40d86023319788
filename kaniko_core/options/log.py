"""What the user sees, on stderr."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from kaniko_core.lean import dataclass
from kaniko_core.options.flag import Flag


class LogFormat(Enum):
    """How progress is shown."""

    AUTO = "auto"
    TEXT = "text"
    COLOR = "color"
    JSON = "json"


class Verbosity(Enum):
    """How much is shown; the names are those of Go kaniko's users."""

    PANIC = "panic"
    FATAL = "fatal"
    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"
    TRACE = "trace"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """What the user sees, on stderr."""

    verbosity: Annotated[
        Verbosity,
        Flag(
            "How much to show: panic, fatal, error, warn, info, debug, trace.",
            parse=Verbosity,
            metavar="LEVEL",
        ),
    ] = Verbosity.INFO
    log_format: Annotated[
        LogFormat,
        Flag(
            "How to show it: text, color, json; auto shows live progress on a terminal.",
            parse=LogFormat,
            metavar="FORMAT",
        ),
    ] = LogFormat.AUTO
    log_timestamp: Annotated[bool, Flag("Begin each line with the time.")] = False
