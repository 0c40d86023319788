"""Completion of command lines by bash, zsh and fish: by typer, and with our forms of flags.

What ``kaniko-executor completion bash`` prints is a function of the shell, which at each Tab
starts the program anew, with what was typed so far in its environment. :func:`answer` answers it,
before anything else is done, where one :func:`is_asked`.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any

import typer

from kaniko_core.cli.option import SWITCH
from kaniko_core.cli.pages import OLD_NAMES
from kaniko_core.errors import UsageError

_SHELLS = ("bash", "zsh", "fish")
_BRACKETS = str.maketrans("[]", "()")
# Characters; a help that is longer would be broken into lines, and each be taken for a flag.
_WIDEST = 70


def variable(name: str) -> str:
    """Return the variable by which a shell asks the program *name* for completions."""
    return f"_{name}_COMPLETE".replace("-", "_").upper()


def is_asked(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a shell asks the program *name* for completions."""
    return bool(environ.get(variable(name)))


def answer(command: Any, name: str, environ: Mapping[str, str]) -> int:
    """Print the completions that a shell asks for, and return the exit status.

    *command* is of no other use afterwards.
    """
    instruction = environ[variable(name)]
    machinery = _machinery()
    machinery.completion_init()
    os.environ.update(without_equals(environ))
    for each in (command, *getattr(command, "commands", {}).values()):
        for parameter in each.params:
            _prepare(parameter)
    status: int = machinery.shell_complete(command, {}, name, variable(name), instruction)
    return status


def without_equals(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return what bash says of ``--flag=value``, three words for it, as if it had no ``=``.

    Source: Bash, "Programmable Completion" (COMP_WORDBREAKS has ``=``).
    """
    if "COMP_WORDS" not in environ:
        return {}
    words, position = environ["COMP_WORDS"].split("\n"), int(environ["COMP_CWORD"])
    before = [word for word in words[:position] if word != "="]
    kept = "\n".join([*before, *words[position:]])
    return {"COMP_WORDS": kept, "COMP_CWORD": str(len(before))}


def _prepare(parameter: Any) -> None:
    """Make a flag one that is completed as Go kaniko's users write it."""
    if parameter.param_type_name != "option":
        return
    if parameter.metavar == SWITCH:
        # It needs no value: the next word is another flag.
        parameter.is_flag = True
    parameter.opts = [name for name in parameter.opts if name.islower() and name not in OLD_NAMES]
    # On one line, and without brackets: they are markup to what shows it.
    text = (parameter.help or "").partition("  [")[0].translate(_BRACKETS)
    parameter.help = textwrap.shorten(text, _WIDEST, placeholder="...")


def completion(
    context: typer.Context,
    shell: Annotated[
        str | None,
        typer.Argument(
            metavar="[bash|zsh|fish]",
            show_default=False,
            help="The shell; eval what is printed, or put it where the shell looks for such.",
            autocompletion=lambda: list(_SHELLS),
        ),
    ] = None,
) -> None:
    """Print a script that lets a shell complete our flags."""
    name = str(context.find_root().info_name)
    if shell not in _SHELLS:
        what = f"{shell!r} is no shell" if shell else "there is no shell"
        raise UsageError(
            f"{what} that completions are for",
            hint=f"there are {', '.join(_SHELLS)}: {name} completion bash",
        )
    script = _machinery().get_completion_script(
        prog_name=name, complete_var=variable(name), shell=shell
    )
    typer.echo(script)


def _machinery() -> ModuleType:
    # Imported here, because it takes as long as everything else together.
    import typer.completion

    return typer.completion
