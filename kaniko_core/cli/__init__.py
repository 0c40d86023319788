"""The command lines: what both programs share, and the only place that knows typer.

    argv ─ go_booleans ─▶ typer ─ with_options ─▶ BuildOptions(…), LogOptions(…) ─▶ the command
                                                                                      │
    exit status, ``error:`` and ``hint:`` on stderr ◀─ run ◀─ KanikoError, Ctrl-C ◀───┘

A program is a typer app whose commands are decorated by :func:`with_options`, show progress with
:func:`console`, and is started by :func:`run`.
"""

from kaniko_core.cli.flags import go_booleans, with_options
from kaniko_core.cli.run import console, run

__all__ = ["console", "go_booleans", "run", "with_options"]
