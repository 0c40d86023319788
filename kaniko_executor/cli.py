"""The command line of kaniko-executor: that of Go kaniko's ``executor``."""

from __future__ import annotations

from collections.abc import Callable

import typer

import kaniko_core
from kaniko_core.cli import console, with_options
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    LogOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Progress

_SHORT = {"context": "-c", "dockerfile": "-f", "destination": "-d", "verbosity": "-v"}


def _build(
    building: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    *,
    progress: Progress,
) -> None:
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core.builder.build import build

    build(building, output, cache, registry, progress=progress)


def application(build: Callable[..., None] = _build) -> typer.Typer:
    """Return the commands; *build* is what the root command calls with its options."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        subcommand_metavar="[version]",
    )

    @app.callback(invoke_without_command=True)
    @with_options(short=_SHORT)
    def root(
        building: BuildOptions,
        output: OutputOptions,
        cache: CacheOptions,
        registry: RegistryOptions,
        log: LogOptions,
    ) -> None:
        """Build an image from a Dockerfile, without a daemon, and push it to a registry."""
        with console(log) as progress:
            build(building, output, cache, registry, progress=progress)

    @app.command()
    def version() -> None:
        """Print the version of kaniko-py."""
        typer.echo(f"kaniko-py version: {kaniko_core.__version__}")

    return app


app = application()
