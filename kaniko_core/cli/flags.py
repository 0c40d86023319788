"""The seam between option dataclasses and typer: from words to values.

    argv ─ go_booleans ─▶ typer ─ with_options ─▶ BuildOptions(…), LogOptions(…) ─▶ the command

``option.py`` knows what the words of one flag mean, and ``variables.py`` what stands for it in the
environment.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import Any

import typer

from kaniko_core.cli.option import SWITCH, OptionGroup, read_boolean
from kaniko_core.errors import UsageError

_NOTHING: Mapping[str, str] = MappingProxyType({})
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
# Where a command keeps its groups, for the help and for whoever lists all flags.
_GROUPS = "option_groups"


def with_options(
    *, short: Mapping[str, str] = _NOTHING, omit: frozenset[str] = frozenset()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a typer command take option dataclasses: each of their fields becomes a flag.

    ::

        @dataclass(frozen=True, kw_only=True, slots=True)
        class WarmOptions:
            image: Annotated[tuple[str, ...], Flag("Image to cache; repeatable.")] = ()
            force: Annotated[bool, Flag("Replace entries that exist.")] = False

        @app.command()
        @with_options(short={"image": "-i", "force": "-f", "cache_dir": "-c"})
        def warm(warming: WarmOptions, cache: CacheOptions, log: LogOptions) -> None:
            '''Fill the cache with base images.'''
            with console(log) as progress:
                ...

    Fields are ``Annotated[type, Flag(…)]`` and have a default; *type* is bool, str, int, Path,
    an Enum, any of these ``| None``, or whatever ``Flag.parse`` returns; ``tuple[…, ...]`` makes
    the flag repeatable. Other parameters of the command go to typer as they are: its own bool
    flags do not know ``--flag=true``, so declare flags of a program in a dataclass, too.

    A subcommand of an app whose callback is decorated is not bothered with the callback's
    options: they are not even checked.

    Args:
        short: one-letter spellings, by field: ``{"cache_dir": "-c"}``.
        omit: fields that are no flags of this command, and keep their defaults.
    """
    return functools.partial(_expanded, short=short, omit=omit)


def _expanded(
    command: Callable[..., None], *, short: Mapping[str, str], omit: frozenset[str]
) -> Callable[..., None]:
    parameters = inspect.signature(command, eval_str=True).parameters
    groups = {
        name: OptionGroup.of(parameter.annotation, short=short, omit=omit)
        for name, parameter in parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }
    options = [option for group in groups.values() for option in group.options]
    names = {option.name for option in options}
    assert len(names) == len(options), f"a field is declared twice: {sorted(names)}"
    assert set(short) <= names, f"short spellings of unknown fields: {dict(short)}"

    @functools.wraps(command)
    def wrapper(*, typer_context: typer.Context, **given: Any) -> None:
        if typer_context.invoked_subcommand is not None:
            return
        for name, group in groups.items():
            words = {item.name: given.pop(item.name) for item in group.options}
            values = {item.name: item.value(words[item.name]) for item in group.options}
            try:
                given[name] = group.kind(**values)
            except UsageError as error:
                # It may speak of flags that nobody sees on the command line.
                said = (item.variable(words[item.name]) for item in group.options)
                for variable in filter(None, said):
                    error.add_note(f"{variable} is set")
                raise
        command(**given)

    shown = [
        inspect.Parameter("typer_context", _KEYWORD, annotation=typer.Context),
        *(p.replace(kind=_KEYWORD) for p in parameters.values() if p.name not in groups),
        *(item.parameter(group.title) for group in groups.values() for item in group.options),
    ]
    wrapper.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    # The signature says it all, and nothing in it is a text that typer would have to evaluate.
    wrapper.__annotations__ = {}
    setattr(wrapper, _GROUPS, tuple(groups.values()))
    return wrapper


def groups_of(command: Any) -> tuple[OptionGroup, ...]:
    """Return the groups of options that *command*, one of typer's, was given by with_options."""
    return getattr(command.callback, _GROUPS, ())


def spellings_of(command: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return the spellings of switches, and of flags with a value, each with its long one.

    Those of subcommands are among them: none of theirs means something else elsewhere.
    """
    switches: dict[str, str] = {}
    valued: dict[str, str] = {}
    commands = (command, *getattr(command, "commands", {}).values())
    for parameter in (item for each in commands for item in each.params):
        # A flag of typer's own kind, such as --help, has no value and no Go form.
        if parameter.param_type_name == "option" and not parameter.is_flag:
            kind = switches if parameter.metavar == SWITCH else valued
            long = next(spelling for spelling in parameter.opts if spelling.startswith("--"))
            kind.update(dict.fromkeys(parameter.opts, long))
    return switches, valued


def go_booleans(
    argv: Sequence[str], switches: Mapping[str, str], valued: Mapping[str, str] = _NOTHING
) -> list[str]:
    """Rewrite Go's forms of flags to ``--flag=value``, the one form that typer has for all.

    ``--cache``, ``--cache=1`` and ``--cache=TRUE`` become ``--cache=true``; ``-d=x`` and ``-d x``
    become ``--destination=x``. What is not known stays as it is, and so does what follows ``--``.

    Args:
        argv: without the program's name.
        switches: spellings of flags that need no value, each with its long one.
        valued: the same for flags with a value; the word that follows one is no flag.

    Raises:
        UsageError: a switch is given a value that is neither true nor false.

    Source: package github.com/spf13/pflag, "Command line flag syntax"; Go's strconv.ParseBool.
    """
    rewritten: list[str] = []
    words = deque(argv)
    while words:
        word = words.popleft()
        name, equals, value = word.partition("=")
        if word == "--":
            rewritten += [word, *words]
            break
        if name in switches:
            rewritten.append(f"{switches[name]}={_switched(name, value if equals else 'true')}")
        elif name in valued and (equals or words):
            rewritten.append(f"{valued[name]}={value if equals else words.popleft()}")
        elif word[:2] in switches and len(word) > 2:
            # Several letters behind one dash: -fv debug.
            words.extendleft((f"-{word[2:]}", word[:2]))
        else:
            rewritten.append(word)
    return rewritten


def _switched(name: str, value: str) -> str:
    try:
        return "true" if read_boolean(value) else "false"
    except UsageError as error:
        hint = f"write {name} alone, {name}=true or {name}=false"
        raise UsageError(f"{name}: {error}", hint=hint) from None
