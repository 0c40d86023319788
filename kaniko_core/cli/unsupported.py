"""The flags of Go kaniko that this version does not have, so that they can be refused by name.

Source: osscontainertools/kaniko after v1.28.3, ``executor --help`` and ``warmer --help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_REGISTRIES = {
    "--registry-client-cert": "",
    "--registry-map": "",
    "--registry-mirror": "",
    "--skip-default-registry-fallback": "",
}

_NO_CACHE = "leave it out: results of instructions are not cached by this version"
_UNTOUCHED = "leave it out: a build never changes the file system that it is started in"
_EXACT = "leave it out: only what an instruction changed is looked at, and nothing is missed"
_ALWAYS = "leave it out: that is how this version always works"

# By program and flag: what to do instead, where that is known.
NOT_YET: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "kaniko-executor": {
            **_REGISTRIES,
            "--annotation": "",
            "--bucket": "",
            "-b": "",
            "--cache-copy-layers": _NO_CACHE,
            "--cache-repo": _NO_CACHE,
            "--cache-run-layers": _NO_CACHE,
            "--cleanup": _UNTOUCHED,
            "--compressed-caching": _ALWAYS,
            "--compression": "leave it out: layers are compressed by gzip",
            "--compression-level": "",
            "--credential-helpers": "leave it out: those of Docker's config file are used",
            "--force": _UNTOUCHED,
            "--force-build-metadata": _ALWAYS,
            "--git": "check the repository out, and name the directory with --context",
            "--ignore-path": _UNTOUCHED,
            "--ignore-var-run": _UNTOUCHED,
            "--image-format": "leave it out: an image has the format of its base image",
            "--image-fs-extract-retry": _ALWAYS,
            "--image-name-tag-with-digest-file": "--digest-file writes the digest",
            "--image-name-with-digest-file": "--digest-file writes the digest",
            "--materialize": "",
            "--no-push-cache": _NO_CACHE,
            "--pre-cleanup": _UNTOUCHED,
            "--preserve-context": _UNTOUCHED,
            "--push-ignore-immutable-tag-errors": "",
            "--reproducible": "",
            "--single-snapshot": "",
            "--skip-push-permission-check": "",
            "--skip-unused-stages": _ALWAYS,
            "--snapshot-mode": _EXACT,
            "--snapshotMode": _EXACT,
            "--use-new-run": _EXACT,
            "--whitelist-var-run": _UNTOUCHED,
        },
        "kaniko-warmer": _REGISTRIES,
    }
)
