"""The seam between option dataclasses and typer: from words to values.

    argv ─ go_booleans ─▶ typer ─ with_options ─▶ BuildOptions(…), LogOptions(…) ─▶ the command

typer only splits the command line; what a value means is known by the field's ``Flag.parse`` or
its type, so that every complaint is a UsageError that names the flag.
"""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any

import typer

from kaniko_core.errors import UsageError
from kaniko_core.options import Flag
from kaniko_core.values import Secret, SshAgent, boolean, build_arg, secret, ssh_agent

# What stands for a switch's value in the help: nothing. Switches are known by it, too.
SWITCH = ""
_NOTHING: Mapping[str, str] = MappingProxyType({})
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True)
class _Variable:
    """An environment variable that stands for a flag, beats it, or adds to it."""

    name: str
    overrides: bool = False
    adds: bool = False


# By field. Go kaniko lets KANIKO_NO_PUSH win over the flag, and the flag over all others.
_ENVIRONMENT = {
    "no_push": _Variable("KANIKO_NO_PUSH", overrides=True),
    "kaniko_dir": _Variable("KANIKO_DIR"),
    "cleanup": _Variable("KANIKO_CLEANUP"),
    "pre_cleanup": _Variable("KANIKO_PRE_CLEANUP"),
    "preserve_context": _Variable("KANIKO_PRESERVE_CONTEXT"),
    "registry_mirror": _Variable("KANIKO_REGISTRY_MIRROR", adds=True),
    "registry_map": _Variable("KANIKO_REGISTRY_MAP", adds=True),
}


@dataclass(frozen=True, slots=True)
class _Option:
    """A field of an option dataclass, as a flag."""

    name: str
    flag: Flag
    kind: Any
    default: Any
    optional: bool
    repeatable: bool

    @classmethod
    def of(cls, name: str, annotation: Any, default: Any) -> _Option:
        kind, flag = typing.get_args(annotation)
        assert isinstance(flag, Flag), name
        optional = isinstance(kind, UnionType) and NoneType in typing.get_args(kind)
        if optional:
            (kind,) = (item for item in typing.get_args(kind) if item is not NoneType)
        repeatable = typing.get_origin(kind) is tuple
        return cls(name, flag, kind, default, optional, repeatable)

    @property
    def spelling(self) -> str:
        return f"--{self.flag.name or self.name.replace('_', '-')}"

    def parameter(self, short: str | None) -> inspect.Parameter:
        """Describe the flag to typer, which is given text only: parsing is ours."""
        declaration = typer.Option(
            *filter(None, (short, self.spelling)),
            *self.flag.aliases,
            help=self.flag.help + self._remarks(),
            metavar=SWITCH if self.kind is bool else self.flag.metavar or self.name.upper(),
            hidden=self.flag.hidden,
            show_default=False,
        )
        kind = list[str] | None if self.repeatable else str | None
        return inspect.Parameter(
            self.name,
            _KEYWORD,
            default=None,
            annotation=Annotated[kind, declaration],
        )

    def _remarks(self) -> str:
        remarks = []
        if shown := _shown(self.default):
            remarks.append(f"default: {shown}")
        if variable := _ENVIRONMENT.get(self.name):
            remarks.append(f"env: {variable.name}")
        return f"  [{'; '.join(remarks)}]" if remarks else ""

    def value(self, given: str | list[str] | None) -> Any:
        """Return the field's value: what was given here, or in the environment, or the default.

        Raises:
            UsageError: it cannot be used; the message names the flag, or the variable.
        """
        variable = _ENVIRONMENT.get(self.name)
        # An empty variable counts as one that is not there.
        set_to = os.environ.get(variable.name) if variable else None
        if variable is None or not set_to:
            return self._parsed(self.spelling, given)
        if variable.adds:
            added = self._parsed(variable.name, [set_to])
            return (*self._parsed(self.spelling, given), *added)
        if variable.overrides or given is None:
            return self._parsed(variable.name, set_to)
        return self._parsed(self.spelling, given)

    def _parsed(self, source: str, given: str | list[str] | None) -> Any:
        """Return the value of what *source*, a flag or a variable, says."""
        if given is None:
            return self.default
        try:
            if self.repeatable:
                return tuple(self._one(text) for text in given)
            assert isinstance(given, str)
            # An empty value is how Go's flags, and shell scripts with unset variables, say none.
            return None if self.optional and not given else self._one(given)
        except UsageError as error:
            raise UsageError(f"{source}: {error}", hint=error.hint) from error

    def _one(self, text: str) -> Any:
        if self.flag.parse in _FROM_ENVIRONMENT:
            return _FROM_ENVIRONMENT[self.flag.parse](text)
        parse = self.flag.parse or (str if self.repeatable else self.kind)
        if parse is bool:
            return _boolean(text)
        if parse is Path and not text:
            raise UsageError("the name is empty")
        try:
            return parse(text.lower() if _is_enum(parse) else text)
        except ValueError as error:
            raise UsageError(f"{text!r} is not {_expected(parse)}") from error


def _is_enum(parse: Any) -> bool:
    return isinstance(parse, type) and issubclass(parse, Enum)


def _expected(parse: Any) -> str:
    if _is_enum(parse):
        return f"one of {', '.join(member.value for member in parse)}"
    return "a whole number" if parse is int else "usable here"


def _boolean(text: str) -> bool:
    value = boolean(text)
    if value is None:
        raise UsageError(f"{text!r} is neither true nor false")
    return value


def _build_argument(text: str) -> tuple[str, str | None]:
    name, value = build_arg(text)
    return name, os.environ.get(name) if value is None else value


def _secret(text: str) -> Secret:
    """Read a secret with the value of its variable; an id alone is a variable's, or a file's."""
    parsed = secret(text)
    name = parsed.variable or (parsed.id if parsed.path is None else "")
    value = os.environ.get(name)
    if value is None:
        return parsed
    return replace(parsed, variable=name, value=os.fsencode(value))


def _agent(text: str) -> SshAgent:
    """Read an SSH agent; without a path it is the agent of the user's session."""
    parsed = ssh_agent(text)
    socket = os.environ.get("SSH_AUTH_SOCK")
    return parsed if parsed.paths or not socket else replace(parsed, paths=(Path(socket),))


# What the environment has a say in, beside the variables that stand for whole flags.
_FROM_ENVIRONMENT: Mapping[Callable[[str], Any] | None, Callable[[str], Any]] = {
    build_arg: _build_argument,
    secret: _secret,
    ssh_agent: _agent,
}


def _shown(default: Any) -> str:
    """Return a default as a user would write it; nothing where there is nothing to write."""
    match default:
        case bool():
            return "true" if default else ""
        case Enum():
            return str(default.value)
        case timedelta():
            hours, seconds = divmod(int(default.total_seconds()), 3600)
            return f"{seconds}s" if not hours else f"{hours}h{seconds}s" if seconds else f"{hours}h"
        case None | ():
            return ""
        case _:
            return str(default)


def _options_of(kind: Any) -> tuple[_Option, ...]:
    annotations = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        _Option.of(field.name, annotations[field.name], field.default) for field in fields(kind)
    )


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
        name: tuple(option for option in _options_of(kind) if option.name not in omit)
        for name, kind in ((p.name, p.annotation) for p in parameters.values())
        if is_dataclass(kind)
    }
    options = [option for group in groups.values() for option in group]
    names = {option.name for option in options}
    assert len(names) == len(options), f"a field is declared twice: {sorted(names)}"
    assert set(short) <= names, f"short spellings of unknown fields: {dict(short)}"

    @functools.wraps(command)
    def wrapper(*, typer_context: typer.Context, **given: Any) -> None:
        if typer_context.invoked_subcommand is not None:
            return
        for name, group in groups.items():
            values = {option.name: option.value(given.pop(option.name)) for option in group}
            given[name] = parameters[name].annotation(**values)
        command(**given)

    shown = [
        inspect.Parameter("typer_context", _KEYWORD, annotation=typer.Context),
        *(p.replace(kind=_KEYWORD) for p in parameters.values() if p.name not in groups),
        *(option.parameter(short.get(option.name)) for option in options),
    ]
    wrapper.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in shown}
    return wrapper


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
        return "true" if _boolean(value) else "false"
    except UsageError as error:
        hint = f"write {name} alone, {name}=true or {name}=false"
        raise UsageError(f"{name}: {error}", hint=hint) from None
