"""How many examples a property is tried with.

``KANIKO_EXAMPLES=200000 pytest tests/properties`` looks deep, once in a while.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("KANIKO_EXAMPLES", "300"))


def tried(share: float = 1.0) -> Any:
    """Decorate a property that is slow to try with the *share* of examples that it gets."""
    return settings(
        max_examples=max(20, int(EXAMPLES * share)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
