"""Instructions as data: one frozen dataclass each, nothing expanded yet.

Values are as the user wrote them, quotes and ``$VARIABLES`` included, except where noted;
:mod:`kaniko_core.dockerfile.words` expands them when the stage's variables are known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field

from kaniko_core.errors import DockerfileError
from kaniko_core.lean import dataclass

_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an instruction stands, and its text (continuations joined, comments gone).

    Attributes:
        path: how the user named the Dockerfile.
        line, end_line: where it begins and ends, here-documents included; counted from 1.
        comments: those right above it, without their ``#``; an empty one starts anew.
        gap: where a blank line is inside it, the line on which its text ends; 0 elsewhere.
        lines: the lines of the file that it takes, as they stand there.
    """

    path: str
    line: int
    end_line: int
    text: str
    comments: tuple[str, ...] = ()
    gap: int = 0
    lines: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def keyword(self) -> str:
        """The instruction's name as it was written."""
        return self.text.partition(" ")[0]

    def error(
        self, message: str, *, hint: str | None = None, at: Sequence[str] = ()
    ) -> DockerfileError:
        """Return an error that names this place.

        *at* is what is wrong, in the spellings to look for: the first that stands in one of the
        lines, better at the beginning of a word, gives line and column.
        """
        for wrong in map(re.escape, filter(None, at)):
            for pattern in (rf"(?<!\S){wrong}", wrong):
                for number, line in enumerate(self.lines):
                    if match := re.search(pattern, line):
                        return DockerfileError(
                            message,
                            path=self.path,
                            line=self.line + number,
                            column=match.start() + 1,
                            source=line,
                            hint=hint,
                        )
        return DockerfileError(message, path=self.path, line=self.line, source=self.text, hint=hint)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: ``<<NAME``; ``expand`` is False for a quoted name, ``chomp`` for ``<<-``.

    ``content`` is as it stands in the file; leading tabs are still there when ``chomp``.
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    file_descriptor: int = 0

    @property
    def body(self) -> str:
        """What is meant: the content, without leading tabs for ``<<-``."""
        return _TABS.sub("", self.content) if self.chomp else self.content


@dataclass(frozen=True, slots=True)
class Command:
    """What RUN, CMD or ENTRYPOINT executes.

    ``shell`` form: *argv* is one string, handed to the stage's SHELL. Exec form: a JSON list.
    """

    argv: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True)
class From:
    """``FROM [--platform=…] image [AS name]``; *name* is lower-cased.

    *description* is what a comment above it says behind the name: ``# name what it is for``.
    """

    source: Source
    image: str
    name: str | None = None
    platform: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Arg:
    """``ARG name[=value] …``: None where there is no ``=``.

    *descriptions* are by name: what a comment above says, ``# name what it is for``.
    """

    source: Source
    pairs: tuple[tuple[str, str | None], ...]
    descriptions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Env:
    """``ENV name=value …``; *legacy* where it was written ``ENV name value``."""

    source: Source
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """``LABEL key=value …``: keys are expanded too; *legacy* as with ENV."""

    source: Source
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """``RUN [--mount=…] [--network=…] [--security=…] [--device=…] command``."""

    source: Source
    command: Command
    mounts: tuple[str, ...] = ()
    network: str | None = None
    security: str | None = None
    heredocs: tuple[Heredoc, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """``COPY [flags] source … destination``; heredoc sources stand in *sources* as ``<<NAME``."""

    source: Source
    sources: tuple[str, ...]
    destination: str
    from_: str | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """``ADD [flags] source … destination``."""

    source: Source
    sources: tuple[str, ...]
    destination: str
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool | None = None
    unpack: bool | None = None
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Cmd:
    """``CMD command``."""

    source: Source
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """``ENTRYPOINT command``."""

    source: Source
    command: Command


@dataclass(frozen=True, slots=True)
class Workdir:
    """``WORKDIR path``."""

    source: Source
    path: str


@dataclass(frozen=True, slots=True)
class User:
    """``USER name[:group]``."""

    source: Source
    name: str


@dataclass(frozen=True, slots=True)
class Expose:
    """``EXPOSE port[/protocol] …``."""

    source: Source
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """``VOLUME path …``."""

    source: Source
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopSignal:
    """``STOPSIGNAL signal``."""

    source: Source
    signal: str


@dataclass(frozen=True, slots=True)
class Shell:
    """``SHELL ["executable", "parameter", …]``."""

    source: Source
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """``HEALTHCHECK``; durations in nanoseconds, 0 where not given; *command* None for NONE."""

    source: Source
    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class OnBuild:
    """``ONBUILD instruction``: *text* is the instruction."""

    source: Source
    text: str


@dataclass(frozen=True, slots=True)
class Maintainer:
    """``MAINTAINER name``."""

    source: Source
    name: str


ConfigInstruction = (
    Env
    | Label
    | Cmd
    | Entrypoint
    | User
    | Expose
    | Volume
    | StopSignal
    | Shell
    | Healthcheck
    | OnBuild
    | Maintainer
)
FilesystemInstruction = Run | Copy | Add | Workdir
Instruction = ConfigInstruction | FilesystemInstruction | Arg
