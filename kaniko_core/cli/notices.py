"""What users are told before a command runs: old names, flags without effect, slips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from kaniko_core import options
from kaniko_core.cli.flags import groups_of
from kaniko_core.cli.option import Option, OptionGroup
from kaniko_core.cli.pages import OLD_NAMES
from kaniko_core.cli.variables import PREFIX, features, strangers
from kaniko_core.lean import dataclass
from kaniko_core.progress import Noted, Warned

_HELP = frozenset({"-h", "--help"})


@dataclass(frozen=True, slots=True)
class Called:
    """A command line, and what surrounds it.

    Attributes:
        program: its name.
        command: of the program, by typer.
        words: as :func:`~kaniko_core.cli.go_booleans` rewrote them.
        environ: the variables.
        everything: returns the program with all of its commands.
    """

    program: str
    command: Any
    words: Sequence[str]
    environ: Mapping[str, str]
    everything: Callable[[], Any]

    @property
    def options(self) -> tuple[Option, ...]:
        """The options of the very command that is called; none of it only prints its help."""
        if _HELP & set(self.words):
            return ()
        first = next((word for word in self.words if not word.startswith("-")), "")
        called = getattr(self.command, "commands", {}).get(first, self.command)
        return tuple(item for group in groups_of(called) for item in group.options)


def notices(called: Called, argv: Sequence[str], *, details: bool) -> Iterator[Noted | Warned]:
    """Yield what is worth telling before the command runs.

    Args:
        called: the command line.
        argv: as the user wrote it.
        details: whether everything is wanted.
    """
    given = {word.partition("=")[0] for word in argv}
    spelled = {spelling for item in called.options for spelling in item.spellings}
    for old in sorted(given & OLD_NAMES.keys() & spelled):
        yield Noted(f"{old} is the old name of {OLD_NAMES[old]}")
    for item in called.options:
        if item.flag.notice and _is_given(item, given, called.environ):
            yield Noted(f"{item.spelling} has no effect: {item.flag.notice}")
    if called.options:
        yield from _of_variables(called, details=details)


def _is_given(item: Option, words: Iterable[str], environ: Mapping[str, str]) -> bool:
    return not {*item.spellings}.isdisjoint(words) or any(map(environ.get, item.variables))


def _of_variables(called: Called, *, details: bool) -> Iterator[Noted | Warned]:
    if found := features(called.environ):
        verb = "change" if len(found) > 1 else "changes"
        yield Noted(f"{', '.join(found)} {verb} nothing: here, features have no switches")
    mine = {name for item in called.options for name in item.variables}
    # Most are of this command. What all others have takes longer to find out.
    rest = [name for name in called.environ if name.startswith(PREFIX) and name not in mine]
    for name, like in strangers(rest, _known(called.everything()) if rest else ()):
        if like is not None:
            yield Warned(f"{name} is no variable of {called.program}", hint=f"did you mean {like}?")
        elif details:
            # Most likely somebody's own: CI jobs are full of them.
            yield Noted(f"{name} is no variable of {called.program}")


def _known(command: Any) -> set[str]:
    """Return the variables of all options: those of the other program are no mistake here."""
    commands = (command, *getattr(command, "commands", {}).values())
    declared = (getattr(options, name) for name in options.__all__)
    groups = (
        *(group for each in commands for group in groups_of(each)),
        *(OptionGroup.of(kind, short={}, omit=()) for kind in declared if _holds_options(kind)),
    )
    return {name for group in groups for item in group.options for name in item.variables}


def _holds_options(kind: Any) -> bool:
    # Flag, and what options hold, are dataclasses too.
    return isinstance(kind, type) and is_dataclass(kind) and kind.__name__.endswith("Options")
