"""The flags of Go kaniko that this version does not have, so that they can be refused by name.

Source: osscontainertools/kaniko after v1.28.3, ``executor --help`` and ``warmer --help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_BUCKET = "fetch the context yourself, and name the directory with --context"

# By program and flag: what to do instead.
NOT_YET: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "kaniko-executor": MappingProxyType(
            {
                "--bucket": _BUCKET,
                "-b": _BUCKET,
                "--git": "check the repository out, and name the directory with --context",
            }
        ),
        "kaniko-warmer": MappingProxyType({}),
    }
)
