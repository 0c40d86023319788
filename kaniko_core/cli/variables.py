"""Environment variables that stand for flags: ``KANIKO_CACHE_DIR`` is ``--cache-dir``.

A flag on the command line wins, then the variable, then the default. A flag that is repeatable
takes a value from each line of its variable. A variable that is empty, or blank, counts as one
that is not there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType

from kaniko_core.lean import dataclass

PREFIX = "KANIKO_"

# What Kubernetes tells every container about each service of its namespace: one that is called
# kaniko, or kaniko-cache, gives variables with our prefix.
# Source: Kubernetes, "Service", "Environment variables"; Docker's legacy container links.
_SERVICE = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
# Credentials for a registry: KANIKO_QUAY_IO_USER.
_CREDENTIALS = re.compile(r"KANIKO_\w+_(USER|PASSWORD)")
# Those of Go kaniko that are read elsewhere, or have no meaning here: docs/FLAGS.md lists them.
_OTHERS = frozenset({"KANIKO_IGNORE_ASSERTIONS"})
_OTHER_PREFIXES = ("KANIKO_TELEMETRY_",)
# Go kaniko's switches for features: FF_KANIKO_RUN_VIA_TINI.
_FEATURE = "FF_KANIKO_"
# How alike two names are, from 0 to 1, where one may be a slip of the other.
_ALIKE = 0.8


class Rank(Enum):
    """What a variable is worth beside its flag."""

    BELOW = ""
    ABOVE = "which beats the flag"
    BESIDE = "which adds to the flag"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that stands for a flag."""

    name: str
    rank: Rank = Rank.BELOW


# By flag. Go kaniko lets KANIKO_NO_PUSH win over the flag, and mirrors add up.
_SPECIAL: Mapping[str, Variable] = MappingProxyType(
    {
        "--no-push": Variable("KANIKO_NO_PUSH", Rank.ABOVE),
        "--kaniko-dir": Variable("KANIKO_DIR"),
        "--builder-output": Variable("BUILDER_OUTPUT"),
        "--source-date-epoch": Variable("SOURCE_DATE_EPOCH"),
        "--upstream-client-type": Variable("UPSTREAM_CLIENT_TYPE"),
        "--registry-mirror": Variable("KANIKO_REGISTRY_MIRROR", Rank.BESIDE),
        "--registry-map": Variable("KANIKO_REGISTRY_MAP", Rank.BESIDE),
    }
)


def is_special(flag: str) -> bool:
    """Whether the variable of *flag* is not what all others are: its help says so."""
    return flag in _SPECIAL


def variable_of(flag: str) -> Variable:
    """Return the variable of *flag*, which is spelled as in ``--cache-dir``."""
    return _SPECIAL.get(flag) or Variable(PREFIX + flag[2:].replace("-", "_").upper())


def lines(text: str) -> list[str]:
    """Return the values of a repeatable flag: a line for each, without blanks around it."""
    return [line for line in (line.strip() for line in text.splitlines()) if line]


def features(environ: Iterable[str]) -> list[str]:
    """Return the names of Go kaniko's feature flags in *environ*."""
    return sorted(name for name in environ if name.startswith(_FEATURE))


def strangers(environ: Iterable[str], known: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield names in *environ* that look as if they were ours, each with the one it resembles.

    That is None where nothing is like it: then it is most likely somebody's own variable.

    Args:
        environ: names of variables.
        known: the names of all that stand for flags.
    """
    names = {name.removeprefix(PREFIX) for name in known}
    for variable in sorted(environ):
        if not _is_ours(variable) or (name := variable.removeprefix(PREFIX)) in names:
            continue
        close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=_ALIKE)
        yield variable, f"{PREFIX}{close[0]}" if close else None


def _is_ours(name: str) -> bool:
    return (
        name.startswith(PREFIX)
        and name not in _OTHERS
        and not name.startswith(_OTHER_PREFIXES)
        and _CREDENTIALS.fullmatch(name) is None
        and _SERVICE.fullmatch(name) is None
    )
