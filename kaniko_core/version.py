"""The version of this package, for everybody who is asked for it."""

from __future__ import annotations

VERSION = "0.1.0"
