"""The command line of kaniko-warmer: that of Go kaniko's ``warmer``."""

from __future__ import annotations

import typer

from kaniko_core.cli import console, with_options
from kaniko_core.errors import KanikoError
from kaniko_core.options import CacheOptions, LogOptions, RegistryOptions, WarmOptions

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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


@app.command()
@with_options(short=_SHORT, omit=_OMITTED)
def warm(
    warming: WarmOptions, cache: CacheOptions, registry: RegistryOptions, log: LogOptions
) -> None:
    """Fill the cache with base images, so that later builds need not pull them."""
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core import warm
    from kaniko_core.registry.client import Registry

    wanted = warm.wanted_images(warming)
    with console(log) as progress, Registry(registry, push=False, progress=progress) as pull:
        warmed = warm.warm(wanted, cache=cache, pull=pull, force=warming.force, progress=progress)
        if warming.unpack:
            warm.unpack(warmed, cache=cache, progress=progress)
    typer.echo(warm.table(warmed))
    failed = sum(item.outcome is warm.Outcome.FAILED for item in warmed)
    if failed:
        raise KanikoError(f"{failed} of {len(warmed)} images could not be warmed")
