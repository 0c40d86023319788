"""What is cached where: base images, and the layers that instructions made."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from kaniko_core.cacheplaces import CacheExport, CacheImport, cache_export, cache_import
from kaniko_core.lean import dataclass
from kaniko_core.options.flag import Flag
from kaniko_core.values import duration


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """Where base images are cached on disk, and for how long they stay fresh.

    One type for both executables: the warmer writes what the executor reads.
    """

    cache_dir: Annotated[
        Path, Flag("Directory that holds cached base images.", metavar="DIRECTORY")
    ] = Path("/cache")
    cache_ttl: Annotated[
        timedelta,
        Flag("Age at which a cached image counts as stale.", parse=duration, metavar="DURATION"),
    ] = timedelta(weeks=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCacheOptions:
    """Where the layers that instructions made are kept for later builds, and which of them."""

    cache_repo: Annotated[
        str,
        Flag(
            "Where cached layers are: a repository, oci:DIRECTORY for an OCI layout, or "
            "dir:DIRECTORY; else the first destination's repository with /cache added.",
            metavar="REPOSITORY|PLACE",
        ),
    ] = ""
    cache_copy_layers: Annotated[bool, Flag("Cache the layers of COPY and ADD too.")] = False
    cache_run_layers: Annotated[bool, Flag("Cache the layers of RUN and WORKDIR.")] = True
    no_push_cache: Annotated[bool, Flag("Use cached layers, but add none.")] = False
    compressed_caching: Annotated[
        bool, Flag("Accepted for Go kaniko's users: no layer is ever held in memory here.")
    ] = True
    export_cache: Annotated[
        tuple[CacheExport, ...],
        Flag(
            "Where else to note what was cached: type=inline, in the image itself.",
            parse=cache_export,
            metavar="type=inline",
        ),
    ] = ()
    import_cache: Annotated[
        tuple[CacheImport, ...],
        Flag(
            "Image whose own layers may be reused, as it was exported with type=inline; by "
            "default the first destination; repeatable.",
            parse=cache_import,
            metavar="type=inline[,ref=IMAGE]",
        ),
    ] = ()
    explain: Annotated[
        bool, Flag("Say of each instruction that is not cached what changed since the last build.")
    ] = False
