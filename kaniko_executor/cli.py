"""The command line of kaniko-executor: that of Go kaniko's ``executor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
from kaniko_core.errors import UsageError
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    ImageOptions,
    LayerCacheOptions,
    LogFormat,
    LogOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Progress, silent
from kaniko_core.tracing import Trace
from kaniko_executor.legacy import OtherOptions

if TYPE_CHECKING:
    from kaniko_core.builder.check import CheckReport

_SHORT = {
    "context": "-c",
    "bucket": "-b",
    "dockerfile": "-f",
    "destination": "-d",
    "output": "-o",
    "verbosity": "-v",
}


def _build(
    building: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    layers: LayerCacheOptions,
    *,
    image: ImageOptions,
    progress: Progress,
) -> None:
    # Imported here, because --help and wrong options need none of it.
    from kaniko_core.builder.build import build

    build(building, output, cache, registry, layers, image=image, progress=progress)


def _plan(
    building: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    layers: LayerCacheOptions,
    *,
    image: ImageOptions,
    progress: Progress = silent,
) -> str:
    from kaniko_core.builder.dryrun import dryrun

    return dryrun(building, output, cache, registry, layers, image=image, progress=progress)


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
    app = new_program(_add_others)

    @app.callback(invoke_without_command=True)
    @with_options(short=_SHORT)
    def root(
        *,
        building: BuildOptions,
        output: OutputOptions,
        image: ImageOptions,
        cache: CacheOptions,
        registry: RegistryOptions,
        layers: LayerCacheOptions,
        log: LogOptions,
        other: OtherOptions,
    ) -> None:
        """Build an image from a Dockerfile, without a daemon, and push it to a registry."""
        if building.check:
            with console(log) as progress:
                report = _check(building, cache, registry, progress=progress)
            _show(report, log)
        elif building.dryrun:
            with console(log) as progress:
                plan = _plan(
                    building, output, cache, registry, layers, image=image, progress=progress
                )
            typer.echo(printable(plan), nl=False)
        else:
            output.require_destination()
            if other.print_plan and building.stdin_takers:
                raise UsageError(
                    f"--print-plan reads {building.stdin_takers[0]} from stdin, and nothing is "
                    "left of it for the build",
                    hint="use --dryrun, or name a file instead of stdin",
                )
            if other.print_plan:
                # What there is to warn of, the build itself tells.
                plan = _plan(building, output, cache, registry, layers, image=image)
                typer.echo(printable(plan), nl=False, err=output.takes_stdout)
            with console(log, trace=Trace("build", kaniko_core.__version__)) as progress:
                build(building, output, cache, registry, layers, image=image, progress=progress)

    return app


def _add_others(program: typer.Typer) -> None:
    from kaniko_executor.login import login, logout
    from kaniko_executor.manifest import manifest
    from kaniko_executor.push import push

    for command in (login, logout, push, manifest):
        add_command(program, command)
    add_common_commands(program, kaniko_core.__version__)


app = application()
