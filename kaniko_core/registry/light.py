"""httpx, as it is where nobody installed its command line.

``import httpx`` brings that along wherever click is installed, as it is beside typer, and with it
rich and pygments: half of the time that importing httpx takes, in a program that never calls it.
Without click httpx does without, by an ``except ImportError`` that it has for this. So while httpx
is imported here, its command line cannot be; it is ``httpx.main()`` only that is lost by that.
Whoever imported httpx before us keeps what is there, and a version that has no such module, or
has it under another name, is imported as it is.

This is the one place where httpx is imported, by functions when they make a request.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let nobody import *module* in the block, unless somebody has done so before."""
    if module in sys.modules:
        yield
        return
    # What the import system itself takes for a module that must not be imported.
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(module, None)


with _without("httpx._main"):
    import httpcore  # which httpx would import with the first client
    import httpx

__all__ = ["httpcore", "httpx"]
