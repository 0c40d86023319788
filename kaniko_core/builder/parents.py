"""COPY ``--parents``: a source word as a pivot, and a pattern below it.

    src/**/*.txt      everything below the root that matches, with the path that it has there
    src/./**/*.txt    the same below src, which is not part of the copy's path: /./ is the pivot
    src, src/./       whole directories

Source: the Dockerfile reference, "COPY --parents"; patterns are those of .dockerignore.
"""

from __future__ import annotations

import posixpath
import re

from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.wildcards import has_wildcard
from kaniko_core.lean import dataclass

_PIVOT = "/./"
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pivot:
    """A source word of ``--parents``.

    Attributes:
        top: what is before the pivot: a source word itself, with wildcards perhaps.
        pattern: for names below it; empty for all of them.
    """

    top: str
    pattern: str

    @classmethod
    def of(cls, word: str) -> Pivot:
        """Read a source word; the first ``/./`` in it is the pivot."""
        top, slash, pattern = word.partition(_PIVOT)
        if not slash:
            top, pattern = "/", word
        return cls(top or "/", posixpath.normpath(f"/{pattern}").lstrip("/"))

    @property
    def plain_name(self) -> str:
        """The one name that the pattern stands for; empty where there may be any number."""
        if has_wildcard(self.top) or has_wildcard(self.pattern):
            return ""
        return _ESCAPED.sub(r"\1", self.pattern)

    @property
    def filters(self) -> tuple[IgnorePatterns, ...]:
        """What leaves out everything that is not asked for."""
        return (IgnorePatterns(("**", f"!{self.pattern}")),) if self.pattern else ()
