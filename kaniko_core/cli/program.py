"""What every program of ours has: a root command, and ``completion``, ``help`` and ``version``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
import typer.main
from typer.models import CommandInfo

from kaniko_core.cli.completion import completion
from kaniko_core.cli.flags import go_booleans, groups_of, spellings_of
from kaniko_core.cli.option import OptionGroup
from kaniko_core.cli.pages import Command, Group
from kaniko_core.errors import UsageError


class Program(typer.Typer):
    """A program whose commands, besides its own, are added when somebody wants to have them.

    Its own is what nearly every start is about, and the others have as many options again.

    Args:
        others: adds the commands; called once at most.
    """

    def __init__(self, others: Callable[[typer.Typer], None] | None = None) -> None:
        self._others = others
        self._added: list[CommandInfo] = []
        super().__init__(
            cls=Group,
            add_completion=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
            subcommand_metavar="[COMMAND]",
        )

    @property
    def registered_commands(self) -> list[CommandInfo]:
        """All commands: what typer reads, and adds to."""
        others, self._others = self._others, None
        if others is not None:
            others(self)
        return self._added

    @registered_commands.setter
    def registered_commands(self, commands: list[CommandInfo]) -> None:
        self._added = commands

    def alone(self) -> Any:
        """Return the command of the program itself, without the others; None if they are known."""
        if self._others is None:
            return None
        program = Program()
        program.registered_callback = self.registered_callback
        return typer.main.get_command(program)


def new_program(others: Callable[[typer.Typer], None] | None = None) -> typer.Typer:
    """Return a program whose help has options in groups; *others* adds its commands, if any."""
    return Program(others)


def command_for(app: typer.Typer, argv: Sequence[str]) -> Any:
    """Return the command, one of typer's, that understands *argv*.

    It knows no others where *argv* has flags of the program only: there is no word that could name
    one of them, and no question for help, which lists them.
    """
    if isinstance(app, Program) and "".join(argv[:1]).startswith("-"):
        alone = app.alone()
        if alone is not None and _are_flags(argv, alone):
            return alone
    return typer.main.get_command(app)


def _are_flags(argv: Sequence[str], command: Any) -> bool:
    """Whether *argv* consists of flags, and nothing asks for help; *command* knows its flags."""
    try:
        words = go_booleans(argv, *spellings_of(command))
    except UsageError:
        return False
    return all(word.startswith("--") and word not in ("--", "--help") for word in words)


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
        import difflib

        close = difflib.get_close_matches(command, wanted.commands, n=1)
        hint = f"did you mean {close[0]}?" if close else f"{root.info_name} --help lists them all"
        raise UsageError(f"there is no command {command}", hint=hint)
    found = wanted.commands[command]
    with found.make_context(command, [], parent=root, resilient_parsing=True) as shown:
        typer.echo(found.get_help(shown))
