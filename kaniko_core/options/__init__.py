"""Every knob, declared once: name, type, default and help.

``cli`` turns these dataclasses into command line flags (``cache_dir`` is ``--cache-dir``);
users of the library construct them. Rules between fields live in ``__post_init__``, so that
both get them.
"""

from __future__ import annotations

from kaniko_core.options.build import BuildOptions
from kaniko_core.options.cache import CacheOptions, LayerCacheOptions
from kaniko_core.options.destinations import Destination, UploadAddress
from kaniko_core.options.flag import Flag
from kaniko_core.options.image import Annotation, AnnotationPlace, ImageFormat, ImageOptions
from kaniko_core.options.log import LogFormat, LogOptions, Verbosity
from kaniko_core.options.output import OutputOptions
from kaniko_core.options.prune import ListFormat, ListOptions, PruneOptions
from kaniko_core.options.registry import RegistryOptions
from kaniko_core.options.warm import WarmOptions
from kaniko_core.values import Isolation, SnapshotMode

__all__ = [
    "Annotation",
    "AnnotationPlace",
    "BuildOptions",
    "CacheOptions",
    "Destination",
    "Flag",
    "ImageFormat",
    "ImageOptions",
    "Isolation",
    "LayerCacheOptions",
    "ListFormat",
    "ListOptions",
    "LogFormat",
    "LogOptions",
    "OutputOptions",
    "PruneOptions",
    "RegistryOptions",
    "SnapshotMode",
    "UploadAddress",
    "Verbosity",
    "WarmOptions",
]
