"""Build container images from a Dockerfile without a daemon, and keep base images warm.

    from kaniko_core import BuildOptions, Destination, OutputOptions, build

    build(
        BuildOptions(context="."),
        OutputOptions(destination=(Destination.parse("registry.example.com/team/app:1"),)),
    )

These are the names that stay; modules below are for those who need more of a part.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kaniko_core.version import VERSION

if TYPE_CHECKING:
    from kaniko_core.builder.build import build
    from kaniko_core.builder.output import BuildResult
    from kaniko_core.cache.images import ImageCache
    from kaniko_core.errors import CommandFailed, DockerfileError, KanikoError, UsageError
    from kaniko_core.oci.digest import Digest
    from kaniko_core.oci.image import Image, Layer
    from kaniko_core.oci.index import ImageIndex
    from kaniko_core.oci.platform import Platform
    from kaniko_core.oci.reference import Reference
    from kaniko_core.options import (
        BuildOptions,
        CacheOptions,
        Destination,
        ImageOptions,
        LayerCacheOptions,
        OutputOptions,
        RegistryOptions,
    )
    from kaniko_core.progress import Event, Progress, silent
    from kaniko_core.registry.client import Registry

__version__ = VERSION

# Where a name comes from: it is imported when it is first asked for, because a program that
# only shows its help needs none of it.
_HOMES = {
    "BuildOptions": "options",
    "BuildResult": "builder.output",
    "CacheOptions": "options",
    "CommandFailed": "errors",
    "Destination": "options",
    "Digest": "oci.digest",
    "DockerfileError": "errors",
    "Event": "progress",
    "Image": "oci.image",
    "ImageCache": "cache.images",
    "ImageIndex": "oci.index",
    "ImageOptions": "options",
    "KanikoError": "errors",
    "Layer": "oci.image",
    "LayerCacheOptions": "options",
    "OutputOptions": "options",
    "Platform": "oci.platform",
    "Progress": "progress",
    "Reference": "oci.reference",
    "Registry": "registry.client",
    "RegistryOptions": "options",
    "UsageError": "errors",
    "build": "builder.build",
    "silent": "progress",
}

__all__ = [
    "BuildOptions",
    "BuildResult",
    "CacheOptions",
    "CommandFailed",
    "Destination",
    "Digest",
    "DockerfileError",
    "Event",
    "Image",
    "ImageCache",
    "ImageIndex",
    "ImageOptions",
    "KanikoError",
    "Layer",
    "LayerCacheOptions",
    "OutputOptions",
    "Platform",
    "Progress",
    "Reference",
    "Registry",
    "RegistryOptions",
    "UsageError",
    "__version__",
    "build",
    "silent",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
