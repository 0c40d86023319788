"""From the text of a Dockerfile to stages of instructions."""

from __future__ import annotations

from dataclasses import replace

from kaniko_core.dockerfile.directives import DirectiveError, other_syntax
from kaniko_core.dockerfile.flags import read_flags, split_flags
from kaniko_core.dockerfile.instructions import Arg, From, Instruction, Source
from kaniko_core.dockerfile.lines import LineError, LogicalLine, logical_lines
from kaniko_core.dockerfile.makers import MAKERS, NO_TRIGGERS, Text
from kaniko_core.dockerfile.places import PlacedError, did_you_mean
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.errors import DockerfileError, UsageError
from kaniko_core.lean import dataclass

# What a trigger is read with, whatever the Dockerfile that it stands in says: BuildKit hands it
# to a parser of its own.
_ESCAPE = "\\"


def parse_dockerfile(data: bytes, path: str) -> Dockerfile:
    """Read a Dockerfile; *path* is how the user named it, for messages.

    Raises:
        DockerfileError: with the line, the column where that helps, and a suggestion where there
            is one.
    """
    try:
        directives, lines = logical_lines(data)
    except DirectiveError as error:
        raise DockerfileError(str(error), path=path, line=error.line, hint=error.hint) from None
    except LineError as error:
        raise _line_error(path, error) from None
    reader = _Reader(path, directives.escape)
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for line in lines:
        try:
            instruction = reader.read(line)
        except DockerfileError as error:
            raise _of_other_syntax(data, path) or error from None
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise instruction.source.error(
                f"{line.keyword.upper()} stands before the first FROM",
                hint="a Dockerfile begins with FROM; only ARG may stand before it",
            )
    if not stages:
        raise DockerfileError(
            "there is no FROM in it", path=path, hint="a Dockerfile begins with FROM image"
        )
    return Dockerfile(
        path,
        tuple(arguments),
        tuple(Stage(n, start, tuple(found)) for n, (start, found) in enumerate(stages)),
        directives.escape,
        directives.values,
    )


def parse_trigger(text: str, path: str, line: int, escape: str = _ESCAPE) -> Instruction:
    """Read what ONBUILD says, as an instruction of the stage whose FROM brings it.

    *text* is the instruction, with the bodies of its here-documents; *path* and *line* are where
    that FROM stands, which is the place of the trigger in every message. *escape* protects a
    character of ENV, LABEL and ARG.

    Raises:
        DockerfileError: it is not one instruction, or none that may be a trigger.
    """
    where = Source(path, line, line, f"ONBUILD {text}")
    try:
        _, lines = logical_lines(text.encode("utf-8", "surrogateescape"))
    except (DirectiveError, LineError) as error:
        raise where.error(str(error), hint=error.hint) from None
    if len(lines) != 1:
        raise where.error("an ONBUILD trigger of the base has to be one instruction")
    found = lines[0]
    keyword = found.keyword.upper()
    if keyword in NO_TRIGGERS:
        raise where.error(f"{keyword} is not allowed as an ONBUILD trigger")
    instruction = _Reader(path, escape).instruction(found, where)
    # Every other maker makes an instruction, and FROM has been refused.
    assert not isinstance(instruction, From)
    return replace(instruction, source=replace(where, text=found.text))


def source_of(line: LogicalLine, path: str) -> Source:
    """Return where an instruction stands."""
    return Source(path, line.line, line.end_line, line.text, line.comments, line.gap, line.lines)


def _line_error(path: str, error: LineError) -> DockerfileError:
    first = error.lines[0] if error.lines else ""
    where = Source(path, error.line, error.line, first, lines=error.lines)
    return where.error(str(error), hint=error.hint, at=error.at)


def _of_other_syntax(data: bytes, path: str) -> DockerfileError | None:
    frontend = other_syntax(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
    if frontend is None:
        return None
    return DockerfileError(
        f"it is written for the frontend {frontend}, which this builder does not have",
        path=path,
        hint="only Dockerfiles can be built",
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    path: str
    escape: str

    def read(self, line: LogicalLine) -> Instruction | From:
        """Read one instruction of the file."""
        return self.instruction(line, source_of(line, self.path))

    def instruction(self, line: LogicalLine, source: Source) -> Instruction | From:
        """Read one instruction that stands at *source*."""
        name = line.keyword.upper()
        make = MAKERS.get(name)
        if make is None:
            raise source.error(
                f"unknown instruction {line.keyword}",
                hint=did_you_mean(name, list(MAKERS)),
                at=(line.keyword,),
            )
        try:
            words, rest = split_flags(line.rest)
            text = Text(source, name, read_flags(name, words), rest.strip(), line.heredocs)
            if not text.rest and name != "HEALTHCHECK":
                raise UsageError(f"{name} requires at least one argument")
            return make(text, self.escape)
        except PlacedError as error:
            raise source.error(str(error), hint=error.hint, at=error.at) from None
        except UsageError as error:
            raise source.error(str(error), hint=error.hint) from None
