"""A Dockerfile as stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from kaniko_core.dockerfile.checks.rules import RULES
from kaniko_core.dockerfile.instructions import Arg, From, Instruction
from kaniko_core.lean import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One ``FROM`` and what follows it; *number* counts from 0."""

    number: int
    start: From
    instructions: tuple[Instruction, ...]

    @property
    def label(self) -> str:
        """What to call the stage in messages: its name, or its number."""
        return self.start.name or f"stage-{self.number}"


@dataclass(frozen=True, slots=True)
class Check:
    """A build check that found something: *rule* is BuildKit's name for it."""

    rule: str
    message: str
    line: int

    @property
    def description(self) -> str:
        """What the rule asks for."""
        return RULES[self.rule].description

    @property
    def url(self) -> str:
        """The page about the rule; empty where there is none."""
        return RULES[self.rule].url


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile.

    Attributes:
        arguments: the ARGs before the first FROM, in order.
        escape: the escape character in force: a backslash or a backquote.
        directives: parser directives by lower-case name.
    """

    path: str
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    directives: Mapping[str, str] = field(default_factory=dict)
