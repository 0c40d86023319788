"""Each instruction on its own: from its flags and arguments to its dataclass."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from kaniko_core.dockerfile.durations import nanoseconds
from kaniko_core.dockerfile.flags import Flags
from kaniko_core.dockerfile.forms import json_words, split_keyword, split_space, split_words
from kaniko_core.dockerfile.heredocs import opening
from kaniko_core.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    Source,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from kaniko_core.dockerfile.places import PlacedError, did_you_mean
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

_OPENS = re.compile(r"\d*<<-?", re.ASCII)
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
# Shortest duration that Docker accepts for a health check, in nanoseconds.
_SHORTEST = 1_000_000
_MOST_RETRIES = 2**31 - 1
NO_TRIGGERS = frozenset({"ONBUILD", "FROM", "MAINTAINER"})


@dataclass(frozen=True, slots=True)
class Text:
    """One instruction on its way to its dataclass: flags off, arguments still text."""

    source: Source
    name: str
    flags: Flags
    rest: str
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The arguments as a JSON list, or split at white space."""
        found = json_words(self.rest)
        return split_space(self.rest) if found is None else found

    @property
    def command(self) -> Command:
        """The arguments in exec form if they are JSON, else in shell form."""
        return _command(self.rest)


def _command(text: str) -> Command:
    argv = json_words(text)
    return Command((text,), shell=True) if argv is None else Command(argv, shell=False)


def _from(text: Text, _: str) -> From:
    words = split_space(text.rest)
    if len(words) == 1:
        name = None
    elif len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise PlacedError(
                f"{words[2]!r} cannot be the name of a stage",
                hint="a name begins with a letter, and has letters, digits, _, - and .",
                at=(words[2],),
            )
    else:
        raise UsageError("FROM has one image, and perhaps AS and a name")
    description = _described(text.source, name or "")
    return From(text.source, words[0], name, text.flags.text("platform"), description)


def _described(source: Source, name: str) -> str:
    """Return what a comment above an instruction says of *name*: ``# name what it is``."""
    found = (c.removeprefix(f"{name} ") for c in source.comments if c.startswith(f"{name} "))
    return next(found, "") if name else ""


def _arg(text: Text, escape: str) -> Arg:
    pairs: list[tuple[str, str | None]] = []
    for word in split_words(text.rest, escape):
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"ARG {word} has no name", hint="write it as ARG NAME=value")
        pairs.append((name, value if equals else None))
    said = ((name, _described(text.source, name)) for name, _ in pairs)
    descriptions = tuple((name, description) for name, description in said if description)
    return Arg(text.source, tuple(pairs), descriptions)


def _pairs(text: Text, escape: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Return the pairs, and whether they are in the legacy form."""
    words = split_words(text.rest, escape)
    if words and "=" not in words[0]:
        # The legacy form: one name, and all that follows is its value.
        name, value = split_keyword(text.rest)
        if not value:
            raise UsageError(
                f"{text.name} {name} has no value", hint=f"write it as {text.name} {name}=value"
            )
        return ((name, value),), True
    pairs: list[tuple[str, str]] = []
    for word in words:
        name, equals, value_text = word.partition("=")
        if not equals:
            raise PlacedError(
                f"{word!r} has no value in {text.name}",
                hint="write each as NAME=value",
                at=(word,),
            )
        if not name:
            raise UsageError(f"{text.name} {word} has no name", hint="write each as NAME=value")
        pairs.append((name, value_text))
    return tuple(pairs), False


def _run(text: Text, _: str) -> Run:
    flags = text.flags
    return Run(
        text.source,
        text.command,
        flags.texts("mount"),
        flags.choice("network", _NETWORKS),
        flags.choice("security", _SECURITIES),
        text.heredocs,
        flags.texts("device"),
    )


def _sources(text: Text) -> tuple[tuple[str, ...], str]:
    """Return sources and destination; a here-document is ``<<NAME`` among the sources."""
    names = {heredoc.name for heredoc in text.heredocs}
    waiting = list(text.paths)
    words: list[str] = []
    inline = False
    while waiting:
        word = waiting.pop(0)
        if names and _OPENS.fullmatch(word) and waiting:
            word += waiting.pop(0)
        start = opening(word)
        inline = start is not None and start.name in names
        words.append(f"<<{start.name}" if start is not None and inline else word)
    if len(words) < 2:
        raise UsageError(
            f"{text.name} requires at least two arguments",
            hint=f"write it as {text.name} SOURCE DESTINATION",
        )
    if inline:
        raise PlacedError(f"a here-document cannot be the destination of {text.name}", at=("<<",))
    return tuple(words[:-1]), words[-1]


def _copy(text: Text, _: str) -> Copy:
    sources, destination = _sources(text)
    flags = text.flags
    return Copy(
        text.source,
        sources,
        destination,
        flags.text("from"),
        flags.text("chown"),
        flags.text("chmod"),
        bool(flags.switch("link")),
        bool(flags.switch("parents")),
        flags.texts("exclude"),
        text.heredocs,
    )


def _add(text: Text, _: str) -> Add:
    sources, destination = _sources(text)
    flags = text.flags
    return Add(
        text.source,
        sources,
        destination,
        flags.text("chown"),
        flags.text("chmod"),
        bool(flags.switch("link")),
        flags.texts("exclude"),
        flags.text("checksum"),
        flags.switch("keep-git-dir"),
        flags.switch("unpack"),
        text.heredocs,
    )


def _shell(text: Text, _: str) -> Shell:
    argv = json_words(text.rest)
    if argv is None:
        raise PlacedError(
            "SHELL requires the arguments to be in JSON form",
            hint='write it as SHELL ["/bin/bash", "-c"]',
            at=_json_places(text.rest),
        )
    if not argv:
        raise UsageError("SHELL requires at least one argument")
    return Shell(text.source, argv)


def _json_places(rest: str) -> tuple[str, ...]:
    """Return where *rest* stops being JSON, as what stands there, and where it begins."""
    try:
        json.loads(rest)
    except json.JSONDecodeError as error:
        return (rest[error.pos :], rest)
    return (rest,)


def _volume(text: Text, _: str) -> Volume:
    paths = text.paths
    if not paths:
        raise UsageError("VOLUME requires at least one argument")
    paths = tuple(path.strip() for path in paths)
    if "" in paths:
        raise UsageError("VOLUME names an empty path")
    return Volume(text.source, paths)


def _expose(text: Text, _: str) -> Expose:
    return Expose(text.source, split_space(text.rest))


def _onbuild(text: Text, _: str) -> OnBuild:
    keyword = split_keyword(text.rest)[0]
    trigger = keyword.upper()
    if trigger in NO_TRIGGERS:
        raise PlacedError(f"{trigger} is not allowed as an ONBUILD trigger", at=(keyword,))
    if trigger not in MAKERS:
        raise PlacedError(
            f"unknown instruction {keyword} in ONBUILD",
            hint=did_you_mean(trigger, list(MAKERS)),
            at=(keyword,),
        )
    body = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in text.heredocs)
    return OnBuild(text.source, text.rest + body)


def _healthcheck(text: Text, _: str) -> Healthcheck:
    kind, rest = split_keyword(text.rest)
    if not kind:
        raise UsageError("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise UsageError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(text.source, None)
    if kind.upper() != "CMD":
        raise UsageError(
            f"unknown type {kind} in HEALTHCHECK", hint="it is NONE, or CMD with a command"
        )
    command = _command(rest)
    if command.argv in ((), ("",)):
        raise UsageError("HEALTHCHECK CMD has no command")
    return Healthcheck(
        text.source,
        command,
        _span(text.flags, "interval"),
        _span(text.flags, "timeout"),
        _span(text.flags, "start-period"),
        _span(text.flags, "start-interval"),
        _retries(text.flags),
    )


def _span(flags: Flags, name: str) -> int:
    value = flags.text(name)
    if not value:
        return 0
    found = nanoseconds(value)
    if found < 0 or 0 < found < _SHORTEST:
        raise UsageError(f"HEALTHCHECK --{name}={value} is less than 1ms")
    return found


def _retries(flags: Flags) -> int:
    value = flags.text("retries")
    if not value:
        return 0
    if not re.fullmatch(r"\+?\d{1,10}", value, re.ASCII) or int(value) > _MOST_RETRIES:
        raise UsageError(f"HEALTHCHECK --retries={value} is not a number of retries")
    return int(value)


MAKERS: Mapping[str, Callable[[Text, str], Instruction | From]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": lambda text, _: Cmd(text.source, text.command),
    "COPY": _copy,
    "ENTRYPOINT": lambda text, _: Entrypoint(text.source, text.command),
    "ENV": lambda text, escape: Env(text.source, *_pairs(text, escape)),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda text, escape: Label(text.source, *_pairs(text, escape)),
    "MAINTAINER": lambda text, _: Maintainer(text.source, text.rest),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda text, _: StopSignal(text.source, text.rest),
    "USER": lambda text, _: User(text.source, text.rest),
    "VOLUME": _volume,
    "WORKDIR": lambda text, _: Workdir(text.source, text.rest),
}
