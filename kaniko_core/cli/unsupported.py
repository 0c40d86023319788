"""The flags of Go kaniko that this version does not have, so that they can be refused by name.

Source: osscontainertools/kaniko after v1.28.3, ``executor --help`` and ``warmer --help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ALWAYS = "leave it out: that is how this version always works"

# By program and flag: what to do instead, where that is known.
NOT_YET: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "kaniko-executor": {
            "--annotation": "",
            "--bucket": "",
            "-b": "",
            "--compression": "leave it out: layers are compressed by gzip",
            "--compression-level": "",
            "--force-build-metadata": _ALWAYS,
            "--git": "check the repository out, and name the directory with --context",
            "--image-format": "leave it out: an image has the format of its base image",
            "--image-name-tag-with-digest-file": "--digest-file writes the digest",
            "--image-name-with-digest-file": "--digest-file writes the digest",
            "--push-ignore-immutable-tag-errors": "",
            "--reproducible": "",
            "--skip-push-permission-check": "",
            "--skip-unused-stages": _ALWAYS,
        },
        "kaniko-warmer": {},
    }
)
