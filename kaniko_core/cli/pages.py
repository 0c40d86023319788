"""What ``--help`` shows: commands first, then the options, in the groups that they are declared in.

There is no line that is wider than the terminal, unless a single word is: two columns where they
have room, and what belongs to an option below it where they have not.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup

from kaniko_core.cli.flags import groups_of
from kaniko_core.cli.option import Option

# Columns. Lines that are longer are hard to read, however wide the terminal is.
WIDEST = 110
# Below this width of a page, an option and what it does are not side by side.
_NARROW = 60
# Characters; a command's whole first sentence is shown.
_SENTENCE = 500
_INDENT = 2
_LEFT = 24
_REST = "Other options"
# Names that options had once, each with the one of today: understood, and shown nowhere.
OLD_NAMES = {"--use-cache": "--cache", "--whitelist-var-run": "--ignore-var-run"}

_VARIABLES = (
    "Every option can be given by an environment variable as well: --cache-dir by "
    "KANIKO_CACHE_DIR. An option beats its variable, and one that is repeatable takes a value "
    "from each line of it."
)

_DEFAULT = re.compile(r"\[default: [^\]]{1,20}\]")
_GLUE = "\N{NO-BREAK SPACE}"

Row = tuple[str, str]


class Command(TyperCommand):
    """A command whose help has its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write what is true of all options."""
        _write_epilog(self, formatter)


class Group(TyperGroup):
    """A program with subcommands, whose help has its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write subcommands, arguments and options."""
        rows = [
            (name, command.get_short_help_str(limit=_SENTENCE))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        _write(formatter, "Commands", rows)
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write what is true of all options."""
        _write_epilog(self, formatter)


def _write_options(command: Any, context: Any, formatter: Any) -> None:
    groups: dict[str, list[Row]] = {}
    known = {item.name: item for group in groups_of(command) for item in group.options}
    rest: list[Row] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        if parameter.param_type_name == "argument":
            groups.setdefault("Arguments", []).append(record)
        elif parameter.name in known:
            spelled = spelled_out(known[parameter.name])
            groups.setdefault(parameter.rich_help_panel, []).append((spelled, parameter.help))
        else:
            rest.append(record)
    groups[_REST] = groups.pop(_REST, []) + rest
    for title, rows in groups.items():
        _write(formatter, title, rows)


def spelled_out(option: Option) -> str:
    """Return how users write *option*, without the names that it had once."""
    shown = (name for name in option.spellings if name.islower() and name not in OLD_NAMES)
    return f"{', '.join(shown)} {option.metavar}".rstrip()


def _write_epilog(command: Any, formatter: Any) -> None:
    if groups_of(command):
        lines = _wrapped(_VARIABLES, formatter.width)
        formatter.write("\n".join(("", *lines, "")))


def _write(formatter: Any, title: str, rows: Iterable[Row]) -> None:
    text = "\n".join(line for row in rows for line in _lines(row, formatter.width))
    if text:
        formatter.write(f"\n{title}:\n{text}\n")


def _lines(row: Row, width: int) -> Iterator[str]:
    """Yield the lines of an option and what it does, in two columns if there is room for them."""
    name, text = row
    # A default stays in one piece.
    text = _DEFAULT.sub(lambda found: found[0].replace(" ", _GLUE), " ".join(text.split()))
    wide = width >= _NARROW
    margin = " " * (_INDENT + _LEFT + 2 if wide else 3 * _INDENT)
    wrapped = [line.replace(_GLUE, " ") for line in _wrapped(text, width - len(margin))]
    start = " " * _INDENT + name
    if wide and wrapped and len(name) <= _LEFT:
        yield start.ljust(len(margin)) + wrapped.pop(0)
    else:
        yield start
    yield from (margin + line for line in wrapped)


def _wrapped(text: str, width: int) -> list[str]:
    # Names of flags are copied from here.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
