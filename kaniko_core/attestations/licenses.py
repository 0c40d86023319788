"""What authors write about licenses, as SPDX wants it: an expression, or a text that has a name.

Source: SPDX 2.3, Annex D (license expressions), and clause 10 (other licensing information).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from license_expression import Licensing

NO_ASSERTION = "NOASSERTION"
# Characters: what is longer is the text of a license, and no name that anybody looks for.
_LONGEST = 512
_REFERENCE = "LicenseRef-"


class Licenses:
    """The licenses of one document.

    Attributes:
        texts: what is no expression, by the name that the document gives it.
    """

    def __init__(self) -> None:
        from license_expression import get_spdx_licensing

        self._known: Licensing = get_spdx_licensing()
        self._seen: dict[str, str] = {}
        self.texts: dict[str, str] = {}

    def declared(self, text: str) -> str:
        """Return *text* as an expression of SPDX; ``NOASSERTION`` for nothing, or too much."""
        text = " ".join(text.split())
        if not text or len(text) > _LONGEST:
            return NO_ASSERTION
        if text not in self._seen:
            self._seen[text] = self._expression(text) or self._named(text)
        return self._seen[text]

    def _expression(self, text: str) -> str | None:
        try:
            # A name that SPDX's list has; what begins with LicenseRef is somebody's own.
            parsed = self._known.parse(text, validate=True, strict=True)
        except Exception:
            # What authors write must not end a build, and of some of it the library makes an
            # IndexError or an AssertionError.
            return None
        rendered = "" if parsed is None else str(parsed.render())
        return None if not rendered or _REFERENCE in rendered else rendered

    def _named(self, text: str) -> str:
        name = _REFERENCE + hashlib.sha256(text.encode()).hexdigest()[:16]
        self.texts[name] = text
        return name
