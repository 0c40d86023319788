"""The command line of kaniko-warmer: that of Go kaniko's ``warmer``."""

from __future__ import annotations

import typer

import kaniko_core
from kaniko_core.cli import console, with_options
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

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[list|prune|version]",
)

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


@app.callback(invoke_without_command=True)
@with_options(short=_SHORT, omit=_OMITTED)
def warm(
    warming: WarmOptions, cache: CacheOptions, registry: RegistryOptions, log: LogOptions
) -> None:
    """Fill the cache with base images, so that later builds need not pull them."""
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core import warm
    from kaniko_core.registry.client import Registry

    wanted = warm.wanted_images(warming)
    with (
        console(log) as progress,
        Registry(registry, progress=progress, spool=cache.cache_dir) as pull,
    ):
        warmed = warm.warm(wanted, cache=cache, pull=pull, force=warming.force, progress=progress)
        if warming.unpack:
            warm.unpack(warmed, cache=cache, progress=progress)
    typer.echo(warm.table(warmed))
    failed = sum(item.outcome is warm.Outcome.FAILED for item in warmed)
    if failed:
        raise KanikoError(f"{failed} of {len(warmed)} images could not be warmed")


@app.command(name="list")
@with_options(short=_SHORT_OF_ALL)
def list_(listing: ListOptions, cache: CacheOptions, log: LogOptions) -> None:
    """Show the images in the cache, and how much room everything in it takes."""
    from kaniko_core.cache.listing import list_cache

    with console(log):
        found = list_cache(cache)
    asked_for_json = listing.format is ListFormat.JSON
    typer.echo(found.json() if asked_for_json else printable(found.text()))


@app.command()
@with_options(short=_SHORT_OF_ALL)
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


@app.command()
def version() -> None:
    """Print the version of kaniko-py."""
    typer.echo(f"kaniko-py version: {kaniko_core.__version__}")
