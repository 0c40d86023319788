"""The command line of kaniko-warmer: that of Go kaniko's ``warmer``."""

from __future__ import annotations

import typer

import kaniko_core
from kaniko_core.cli import (
    add_command,
    add_common_commands,
    console,
    new_program,
    with_options,
)
from kaniko_core.console.words import printable
from kaniko_core.errors import KanikoError
from kaniko_core.options import (
    CacheOptions,
    ListFormat,
    ListOptions,
    LogOptions,
    PruneOptions,
    RegistryOptions,
    WarmOptions,
)
from kaniko_core.tracing import Trace

_SHORT = {
    "image": "-i",
    "dockerfile": "-d",
    "cache_dir": "-c",
    "force": "-f",
    "verbosity": "-v",
}
# A warmer pushes nothing.
_OMITTED = frozenset({"insecure", "skip_tls_verify", "push_retry"})
_SHORT_OF_ALL = {"cache_dir": "-c", "verbosity": "-v"}


def _add_others(program: typer.Typer) -> None:
    add_command(program, with_options(short=_SHORT_OF_ALL)(list_), "list")
    add_command(program, with_options(short=_SHORT_OF_ALL)(prune))
    add_common_commands(program, kaniko_core.__version__)


app = new_program(_add_others)


@app.callback(invoke_without_command=True)
@with_options(short=_SHORT, omit=_OMITTED)
def warm(
    warming: WarmOptions, cache: CacheOptions, registry: RegistryOptions, log: LogOptions
) -> None:
    """Fill the cache with base images, so that later builds need not pull them."""
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core import warm
    from kaniko_core.registry.client import Registry

    with (
        console(log, trace=Trace("warm", kaniko_core.__version__)) as progress,
        Registry(registry, progress=progress, spool=cache.cache_dir) as pull,
    ):
        wanted = warm.wanted_images(warming, registry, progress=progress)
        warmed = warm.warm(wanted, cache=cache, pull=pull, force=warming.force, progress=progress)
        if warming.unpack:
            warm.unpack(warmed, cache=cache, progress=progress)
    typer.echo(warm.table(warmed))
    failed = sum(item.outcome is warm.Outcome.FAILED for item in warmed)
    if failed:
        raise KanikoError(f"{failed} of {len(warmed)} images could not be warmed")


def list_(listing: ListOptions, cache: CacheOptions, log: LogOptions) -> None:
    """Show the images in the cache, and how much room everything in it takes."""
    from kaniko_core.cache.listing import list_cache

    with console(log):
        found = list_cache(cache)
    asked_for_json = listing.format is ListFormat.JSON
    typer.echo(found.json() if asked_for_json else printable(found.text()))


def prune(pruning: PruneOptions, cache: CacheOptions, log: LogOptions) -> None:
    """Remove from the cache what is of no use, and what was not used for longest.

    Without a limit that is: what no build used for as long as --cache-ttl says, damaged images,
    and what was left by processes that were killed. What running builds use always stays.
    """
    from kaniko_core.cache.prune import prune

    with console(log) as progress:
        pruned = prune(cache, pruning, progress=progress)
    typer.echo(printable(pruned.text()))
    if pruned.failed:
        total = pruned.failed + len(pruned.removed)
        raise KanikoError(f"{pruned.failed} of {total} things could not be removed")
