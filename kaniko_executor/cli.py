"""The command line of kaniko-executor: that of Go kaniko's ``executor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

import kaniko_core
from kaniko_core.cli import console, with_options
from kaniko_core.console.words import printable
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    LayerCacheOptions,
    LogFormat,
    LogOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Progress
from kaniko_executor.login import login, logout

if TYPE_CHECKING:
    from kaniko_core.builder.check import CheckReport

_SHORT = {"context": "-c", "dockerfile": "-f", "destination": "-d", "verbosity": "-v"}


def _build(
    building: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    layers: LayerCacheOptions,
    *,
    progress: Progress,
) -> None:
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core.builder.build import build

    build(building, output, cache, registry, layers, progress=progress)


def _plan(
    building: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    layers: LayerCacheOptions,
    *,
    progress: Progress,
) -> str:
    from kaniko_core.builder.dryrun import dryrun

    return dryrun(building, output, cache, registry, layers, progress=progress)


def _check(
    building: BuildOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    *,
    progress: Progress,
) -> CheckReport:
    from kaniko_core.builder.check import check

    return check(building, cache, registry, progress=progress)


def _show(report: CheckReport, log: LogOptions) -> None:
    """Write *report* to stdout, and end with its status."""
    text = report.json() if log.log_format is LogFormat.JSON else printable(report.text())
    typer.echo(text)
    if report.error is not None:
        raise report.error
    raise typer.Exit(report.status)


def application(build: Callable[..., None] = _build) -> typer.Typer:
    """Return the commands; *build* is what the root command calls with its options."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        subcommand_metavar="[login|logout|version]",
    )

    @app.callback(invoke_without_command=True)
    @with_options(short=_SHORT)
    def root(
        *,
        building: BuildOptions,
        output: OutputOptions,
        cache: CacheOptions,
        registry: RegistryOptions,
        layers: LayerCacheOptions,
        log: LogOptions,
    ) -> None:
        """Build an image from a Dockerfile, without a daemon, and push it to a registry."""
        if building.check:
            with console(log) as progress:
                report = _check(building, cache, registry, progress=progress)
            _show(report, log)
        elif building.dryrun:
            with console(log) as progress:
                plan = _plan(building, output, cache, registry, layers, progress=progress)
            typer.echo(printable(plan), nl=False)
        else:
            output.require_destination()
            with console(log) as progress:
                build(building, output, cache, registry, layers, progress=progress)

    app.command()(login)
    app.command()(logout)

    @app.command()
    def version() -> None:
        """Print the version of kaniko-py."""
        typer.echo(f"kaniko-py version: {kaniko_core.__version__}")

    return app


app = application()
