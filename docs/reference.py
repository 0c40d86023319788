"""FLAGS.md, made from the options themselves: ``python -m docs.reference`` writes it anew."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import kaniko_executor.cli
import kaniko_warmer.cli
from kaniko_core.cli import commands_of
from kaniko_core.cli.option import Option, OptionGroup
from kaniko_core.cli.variables import Rank, variable_of

HERE = Path(__file__).parent
PAGE = HERE / "FLAGS.md"
# What Go kaniko has, row by row.
ROWS = HERE / "kaniko.toml"

PROGRAMS = {
    "kaniko-executor": commands_of(kaniko_executor.cli.app),
    "kaniko-warmer": commands_of(kaniko_warmer.cli.app),
}
# The programs of Go kaniko, by the names of ours.
_THEIRS = {"kaniko-executor": "executor", "kaniko-warmer": "warmer"}
Cells = tuple[str, ...]

_HEAD = """\
# Flags and variables

*Made by `python -m docs.reference` from the options themselves, and from
[kaniko.toml](kaniko.toml); a test fails where it is not up to date.*

## How they are read

- A flag's value follows `=` or a blank: `--cache-dir=/cache`, `--cache-dir /cache`, `-c=/cache`.
  A switch needs none: `--cache` is `--cache=true`; `--cache false` is not `--cache=false`.
  What Go calls true and false counts: `1 t T TRUE true True`, `0 f F FALSE false False`.
- A flag that may be empty means nothing at all with an empty value: `--digest-file=`.
- **Every flag has an environment variable**, which is named as it: `--cache-dir` is
  `KANIKO_CACHE_DIR`.
  The flag wins over its variable, and the variable over the default; the tables have the
  exceptions.
  A repeatable flag takes a value from each line of its variable; blanks around it, and empty
  lines, count for nothing.
  An empty variable counts as one that is not there; what only an empty value says, as
  `--credential-helpers=`, takes the flag.
- A variable that cannot be used is an error that names it.
  One that begins with `KANIKO_` and is almost the name of one of these is a warning; others are
  told at `--verbosity=debug`.
  What Kubernetes sets for a service that is called kaniko (`KANIKO_PORT`, `KANIKO_SERVICE_HOST`,
  …) disturbs nothing.
- Other variables: those of credentials are in [CREDENTIALS.md](CREDENTIALS.md), those of traces
  in [TRACES.md](TRACES.md); `NO_COLOR` and `TERM=dumb` keep colours away; proxies, `SSL_CERT_FILE`
  and `SSL_CERT_DIR` are as everywhere.
- `--help` shows the flags of a program or of a command, `help COMMAND` does the same, and
  `eval "$(kaniko-executor completion bash)"` lets bash complete them (zsh and fish likewise).
"""

_GO_KANIKO = """\
# Go kaniko's flags and variables

All that [osscontainertools/kaniko](https://github.com/osscontainertools/kaniko) has after
v1.28.3, and what each row is here.
*yes* means: as there, unless the row says otherwise; *no effect*: accepted, and a line says why
nothing follows from it.
Tests are named as in [DOCKERFILE.md](DOCKERFILE.md).
"""


def page() -> str:
    """Return the whole page."""
    rows = tomllib.loads(ROWS.read_text())
    parts = [_HEAD]
    for program, commands in PROGRAMS.items():
        parts += _program(program, commands)
    parts.append(_GO_KANIKO)
    for program in PROGRAMS:
        name = _THEIRS[program]
        parts += (f"## {name}'s flags\n", _flags(program, rows[name]))
    parts += ("## Subcommands\n", _others("Command", rows["commands"]))
    parts += ("## Environment variables\n", _others("Variable", rows["variables"]))
    parts += (
        "## Feature flags\n",
        "`FF_KANIKO_…` switch what Go kaniko does; here, each is as if it were:\n",
        _others("Feature", rows["features"], prefix="FF_KANIKO_"),
    )
    return "\n".join(parts)


def _program(program: str, commands: Mapping[str, tuple[OptionGroup, ...]]) -> Iterator[str]:
    own = {group.kind for group in commands[""]}
    for command, groups in commands.items():
        if not groups:
            continue
        yield f"## {program} {command}".rstrip() + "\n"
        shared = [group for group in groups if command and group.kind in own]
        start = "Those" if len(shared) == len(groups) else "And those"
        for group in groups:
            if group not in shared and (options := _shown(group)):
                yield f"### {group.title}\n"
                yield _table(("Flag", "Variable", "Default", "What it does"), map(_row, options))
        if names := [option.spelling for group in shared for option in _shown(group)]:
            text = f"{start} of `{program}`: {', '.join(f'`{name}`' for name in names)}."
            yield textwrap.fill(text, 100, break_on_hyphens=False, break_long_words=False) + "\n"


def _shown(group: OptionGroup) -> list[Option]:
    return [option for option in group.options if not option.flag.hidden]


def _row(option: Option) -> Cells:
    names = ", ".join(f"`{name}`" for name in option.spellings)
    metavar = f" `{option.metavar}`" if option.metavar else ""
    rank = variable_of(option.spelling).rank
    variables = ", ".join(f"`{name}`" for name in option.variables)
    note = f", {rank.value}" if rank is not Rank.BELOW else ""
    default = f"`{option.shown_default}`" if option.shown_default else ""
    return names + metavar, variables + note, default, option.flag.help


def _flags(program: str, rows: Mapping[str, list[str]]) -> str:
    known = {
        spelling: option
        for group in PROGRAMS[program][""]
        for option in group.options
        for spelling in option.spellings
    }
    return _table(
        ("Flag", "Here", "What differs", "Tests"),
        (
            (f"`{flag}`", *_state(flag, known[flag], note), _tests(tests))
            for flag, (note, *tests) in rows.items()
        ),
    )


def _state(flag: str, option: Option, note: str) -> Cells:
    if option.flag.notice:
        return "no effect", f"{option.flag.notice.capitalize()}."
    return "yes", note or (f"Now `{option.spelling}`." if flag != option.spelling else "")


def _others(what: str, rows: Mapping[str, list[str]], prefix: str = "") -> str:
    return _table(
        (what, "Here", "How", "Tests"),
        (
            (f"`{prefix}{name}`", state, note, _tests(tests))
            for name, (state, note, *tests) in rows.items()
        ),
    )


def _tests(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Cells, rows: Iterable[Cells]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_escaped, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def _escaped(text: str) -> str:
    # Outside of code, angle brackets would be markup.
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
