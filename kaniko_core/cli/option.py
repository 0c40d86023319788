"""One field of an option dataclass: the flag on the command line, and what its words mean.

typer only splits the command line; what a value means is known by the field's ``Flag.parse`` or
its type, so that every complaint is a UsageError that names the flag, or its variable.
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from enum import Enum
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any

import typer

from kaniko_core.cli.variables import Rank, is_special, lines, variable_of
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.options import Flag
from kaniko_core.values import Secret, SshAgent, boolean, build_arg, secret, ssh_agent

# What stands for a switch's value in the help: nothing. Switches are known by it, too.
SWITCH = ""
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_WORD = re.compile(r"[A-Z][a-z0-9]*")


@dataclass(frozen=True, slots=True)
class Option:
    """A field of an option dataclass, as a flag; *short* is its one-letter spelling, if any."""

    name: str
    flag: Flag
    kind: Any
    default: Any
    optional: bool
    repeatable: bool
    short: str | None = None

    @classmethod
    def of(cls, name: str, annotation: Any, default: Any, short: str | None = None) -> Option:
        """Read the field *name*, which is ``Annotated[type, Flag(…)]``."""
        kind, flag = typing.get_args(annotation)
        assert isinstance(flag, Flag), name
        optional = isinstance(kind, UnionType) and NoneType in typing.get_args(kind)
        if optional:
            # Where there are more, it is Flag.parse that chooses.
            kind, *_ = (item for item in typing.get_args(kind) if item is not NoneType)
        repeatable = typing.get_origin(kind) is tuple
        return cls(name, flag, kind, default, optional, repeatable, short)

    @property
    def spelling(self) -> str:
        """The long spelling, such as ``--cache-dir``."""
        return f"--{self.flag.name or self.name.replace('_', '-')}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that users may write, the short one first."""
        return (*filter(None, (self.short, self.spelling)), *self.flag.aliases)

    @property
    def metavar(self) -> str:
        """What stands for the value in the help; nothing for a switch."""
        return SWITCH if self.kind is bool else self.flag.metavar or self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as a user would write it; nothing where there is nothing to write."""
        return _shown(self.default)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables that stand for the flag: its own, and its aliases'."""
        # Names in mixed case are Go kaniko's old ones, which never had variables.
        aliases = (alias for alias in self.flag.aliases if alias.islower())
        return tuple(variable_of(spelling).name for spelling in (self.spelling, *aliases))

    def parameter(self, panel: str) -> inspect.Parameter:
        """Describe the flag to typer, which is given text only: parsing is ours.

        Args:
            panel: the title above the flag in the help.
        """
        declaration = typer.Option(
            *self.spellings,
            help=self.flag.help + self._remarks(),
            metavar=self.metavar,
            hidden=self.flag.hidden,
            show_default=False,
            rich_help_panel=panel,
            autocompletion=self._choices if _is_enum(self.flag.parse or self.kind) else None,
        )
        kind = list[str] | None if self.repeatable else str | None
        return inspect.Parameter(
            self.name,
            _KEYWORD,
            default=None,
            annotation=Annotated[kind, declaration],
        )

    def _choices(self) -> list[str]:
        return [str(member.value) for member in self.flag.parse or self.kind]  # type: ignore[union-attr]

    def _remarks(self) -> str:
        remarks = []
        if self.shown_default:
            remarks.append(f"default: {self.shown_default}")
        if is_special(self.spelling):
            variable = variable_of(self.spelling)
            remarks.append(", ".join(filter(None, (f"env: {variable.name}", variable.rank.value))))
        return f"  [{'; '.join(remarks)}]" if remarks else ""

    def variable(self, given: object) -> str | None:
        """Return the variable that has a say beside what was *given*, if there is one."""
        if given is not None and variable_of(self.spelling).rank is Rank.BELOW:
            return None
        return next((name for name in self.variables if os.environ.get(name, "").strip()), None)

    def value(self, given: str | list[str] | None) -> Any:
        """Return the field's value: what was given here, or in the environment, or the default.

        Raises:
            UsageError: it cannot be used; the message names the flag, or the variable.
        """
        name = self.variable(given)
        if name is None:
            return self._parsed(self.spelling, given)
        found = self._from_environment(name)
        if variable_of(self.spelling).rank is Rank.BESIDE:
            return (*self._parsed(self.spelling, given), *found)
        return found

    def _from_environment(self, name: str) -> Any:
        text = os.environ[name]
        try:
            return self._parsed(name, lines(text) if self.repeatable else text)
        except UsageError as error:
            if self.flag.parse not in _FROM_ENVIRONMENT:
                raise
            # A variable of such a name may be somebody's own, and hold a secret itself.
            raise UsageError(f"{name} cannot be read", hint=error.hint) from None

    def _parsed(self, source: str, given: str | list[str] | None) -> Any:
        """Return the value of what *source*, a flag or a variable, says."""
        if given is None:
            return self.default
        try:
            if self.repeatable:
                values = [self._one(text) for text in given]
                return tuple(chain.from_iterable(values) if self.flag.several else values)
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
            return read_boolean(text)
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


def read_boolean(text: str) -> bool:
    """Read what Go calls true or false; raise UsageError for anything else."""
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


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """The flags of one option dataclass.

    Attributes:
        kind: the dataclass.
        title: for people, such as ``Layer cache options``.
    """

    kind: type
    title: str
    options: tuple[Option, ...]

    @classmethod
    def of(cls, kind: type, *, short: Mapping[str, str], omit: Iterable[str]) -> OptionGroup:
        """Return the flags of *kind*'s fields without those of *omit*; *short* is by field."""
        annotations = typing.get_type_hints(kind, include_extras=True)
        omitted = frozenset(omit)
        options = tuple(
            Option.of(field.name, annotations[field.name], field.default, short.get(field.name))
            for field in fields(kind)
            if field.name not in omitted
        )
        return cls(kind, " ".join(_WORD.findall(kind.__name__)).capitalize(), options)
