"""What .dockerignore leaves out of a context that is still on its way.

The file with the patterns comes with the files that it leaves out, at any moment; so whoever
writes them to disk asks here for each, and hands over what is in the files with patterns.
"""

from __future__ import annotations

import posixpath
from dataclasses import field

from kaniko_core.context.ignore import IgnorePatterns, read_ignore_file
from kaniko_core.errors import ContextError, UsageError
from kaniko_core.lean import dataclass

IGNORE_FILE = ".dockerignore"


@dataclass(frozen=True, slots=True)
class IgnoreFiles:
    """Where the patterns of a context come from. All names are relative to what is fetched.

    Attributes:
        names: files in the context with patterns: the first of them that is there counts.
        known: the patterns, where they come from outside: then no file in the context counts.
        top: the directory that becomes the context; the patterns are about what is below it,
            and nothing else is ever left out. Empty for everything.
        kept: files that are needed whatever the patterns say: the Dockerfile, and *names*.
    """

    names: tuple[str, ...] = (IGNORE_FILE,)
    known: IgnorePatterns | None = None
    top: str = ""
    kept: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(
        cls, dockerfile: str | None, top: str = "", known: IgnorePatterns | None = None
    ) -> IgnoreFiles:
        """Return where to look.

        Args:
            dockerfile: the Dockerfile's name in the context (below *top*), if it is there.
            top: the directory that becomes the context.
            known: patterns that come from beside a Dockerfile elsewhere.
        """
        top = posixpath.normpath(top.strip("/")) if top.strip("/") else ""
        names = [IGNORE_FILE] if dockerfile is None else [dockerfile + IGNORE_FILE, IGNORE_FILE]
        names = [_inside(top, name) for name in names]
        kept = set(names)
        if dockerfile is not None:
            kept |= {_inside(top, dockerfile), _inside(top, dockerfile.lower())}
        return cls(tuple(names), known, top, frozenset(kept))

    def leaves_out(self, patterns: IgnorePatterns, name: str, *, directory: bool = False) -> bool:
        """Whether *patterns* leave *name* out; a *directory* only with everything below it."""
        below = self._below(name)
        if not below or name in self.kept or not patterns.ignored(below):
            return False
        if not directory:
            return True
        needed = any(kept.startswith(f"{name}/") for kept in self.kept)
        return not needed and not patterns.may_include_below(below)

    def _below(self, name: str) -> str:
        if not self.top:
            return name
        return name.removeprefix(f"{self.top}/") if name.startswith(f"{self.top}/") else ""


def read_patterns(data: bytes, path: str) -> IgnorePatterns:
    """Read what is in a file with patterns; *path* is for messages.

    Raises:
        ContextError: one of the patterns is none.
    """
    text = data.decode("utf-8", "surrogateescape")
    try:
        return IgnorePatterns(read_ignore_file(text))
    except UsageError:
        raise wrong_pattern(path, text) from None


def wrong_pattern(path: str, text: str) -> ContextError:
    """Return the error for the first line of *text* that is no pattern: it is known there is one.

    Each line means the same on its own, so that the lines need not be kept with the patterns.
    """
    for number, line in enumerate(text.split("\n"), 1):
        try:
            IgnorePatterns(read_ignore_file(line))
        except UsageError as error:
            return ContextError(f"{path}:{number}: {error}", hint=error.hint)
    raise AssertionError(f"no line of {path} is wrong, but the whole is")


def _inside(top: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(top, name.lstrip("/")))
