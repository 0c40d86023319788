"""The command lines: what both programs share, and the only place that knows typer.

    argv ─ go_booleans ─▶ typer ─ with_options ─▶ BuildOptions(…), LogOptions(…) ─▶ the command
                                                                                      │
    exit status, ``error:`` and ``hint:`` on stderr ◀─ run ◀─ KanikoError, Ctrl-C ◀───┘

A program is made by :func:`new_program`; its commands are decorated by :func:`with_options`, added
by :func:`add_command`, show progress with :func:`console`, and are started by :func:`run`.
"""

from kaniko_core.cli.flags import go_booleans, with_options
from kaniko_core.cli.program import add_command, add_common_commands, commands_of, new_program
from kaniko_core.cli.run import console, leave, run

__all__ = [
    "add_command",
    "add_common_commands",
    "commands_of",
    "console",
    "go_booleans",
    "leave",
    "new_program",
    "run",
    "with_options",
]
