"""What every program of ours has: a root command, and ``completion``, ``help`` and ``version``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.main

from kaniko_core.cli.completion import completion
from kaniko_core.cli.flags import groups_of
from kaniko_core.cli.option import OptionGroup
from kaniko_core.cli.pages import Command, Group
from kaniko_core.errors import UsageError


def new_program() -> typer.Typer:
    """Return a program without commands, whose help has options in groups."""
    return typer.Typer(
        cls=Group,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        subcommand_metavar="[COMMAND]",
    )


def add_command(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Give *app* a subcommand, which is called as its function unless it has a *name*."""
    app.command(name=name, cls=Command)(command)


def add_common_commands(app: typer.Typer, version: str) -> None:
    """Give *app*, which is of *version*, what all programs have; they are last in the help."""

    def show_version() -> None:
        """Print the version of kaniko-py."""
        typer.echo(f"kaniko-py version: {version}")

    add_command(app, completion)
    add_command(app, help_, "help")
    add_command(app, show_version, "version")


def commands_of(app: typer.Typer) -> dict[str, tuple[OptionGroup, ...]]:
    """Return the options of every command of *app* by its name; ``""`` is the program itself."""
    root: Any = typer.main.get_command(app)
    return {"": groups_of(root)} | {name: groups_of(root.commands[name]) for name in root.commands}


def help_(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", show_default=False, help="The command to explain."),
    ] = None,
) -> None:
    """Explain a command, or the whole program."""
    # Any: click's own types, which typer carries under names that change.
    root: Any = context.find_root()
    wanted = root.command
    if command is None:
        typer.echo(root.get_help())
        return
    if command not in wanted.commands:
        close = difflib.get_close_matches(command, wanted.commands, n=1)
        hint = f"did you mean {close[0]}?" if close else f"{root.info_name} --help lists them all"
        raise UsageError(f"there is no command {command}", hint=hint)
    found = wanted.commands[command]
    with found.make_context(command, [], parent=root, resilient_parsing=True) as shown:
        typer.echo(found.get_help(shown))
