"""What ``--git`` says about the repository that is the build context.

Source: Go kaniko, ``--git``: "branch to clone if build context is a git repository".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.values import boolean, csv_fields

_FORM = (
    "write branch=NAME, single-branch=BOOL, depth=N, recurse-submodules=BOOL, "
    "insecure-skip-tls=BOOL or labels=BOOL, with commas between them"
)
_BOOLEANS = frozenset({"single-branch", "recurse-submodules", "insecure-skip-tls", "labels"})


@dataclass(frozen=True, slots=True)
class GitOptions:
    """How a repository is cloned.

    Attributes:
        branch: what is checked out where the address names nothing.
        single_branch: False if the history of all branches is fetched; None (nothing said)
            fetches no more than is checked out.
        depth: how many commits of history; 0 is all of them, None (nothing said) is one.
        recurse_submodules: None (nothing said) leaves it to the address.
        insecure_skip_tls: whether its server's certificate is not verified.
        labels: whether the image gets labels with the address and the commit.
    """

    branch: str = ""
    single_branch: bool | None = None
    depth: int | None = None
    recurse_submodules: bool | None = None
    insecure_skip_tls: bool = False
    labels: bool = False


def git_options(text: str) -> tuple[tuple[str, str | int | bool], ...]:
    """Read ``KEY=VALUE[,…]`` as fields of :class:`GitOptions`; raise UsageError if it is none."""
    return tuple(_field(part) for part in csv_fields(text) if part)


def merged(given: Iterable[tuple[str, str | int | bool]]) -> GitOptions:
    """Return what several ``--git`` say together: the last word counts."""
    fields: dict[str, Any] = dict(given)
    return GitOptions(**fields)


def _field(text: str) -> tuple[str, str | int | bool]:
    key, equals, value = text.partition("=")
    name = key.strip().replace("-", "_")
    if not equals:
        raise UsageError(f"--git {text}: {text!r} has no value", hint=_FORM)
    if key == "branch":
        return name, value
    if key == "depth":
        if not (value.isascii() and value.isdecimal()) or len(value) > 9:
            raise UsageError(f"--git {text}: the depth is a number of commits", hint=_FORM)
        return name, int(value)
    if key not in _BOOLEANS:
        raise UsageError(f"--git {text}: there is no option {key!r}", hint=_FORM)
    truth = boolean(value)
    if truth is None:
        raise UsageError(f"--git {text}: {value!r} is neither true nor false", hint=_FORM)
    return name, truth
