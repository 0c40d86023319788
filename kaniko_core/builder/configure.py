"""What instructions mean for the image config: pure, one arm per instruction.

A :class:`StageState` is everything that an instruction can see of those before it but for the
files: the config, the variables in force, and whether this stage has a CMD of its own.
Source: the Dockerfile reference; the texts in the history are BuildKit's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar, assert_never, cast

from kaniko_core.builder import history
from kaniko_core.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
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
from kaniko_core.dockerfile.paths import workdir_path
from kaniko_core.dockerfile.ports import expose_ports
from kaniko_core.dockerfile.scope import DEFAULT_PATH, Scope, declared
from kaniko_core.dockerfile.signals import signal_number
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import (
    ContentError,
    ContextError,
    DiskError,
    DockerfileError,
    KanikoError,
    UsageError,
)
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import SECOND
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import History, ImageConfig, RuntimeConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
_WINDOWS_SHELL = ("cmd", "/S", "/C")

AnyInstruction = TypeVar("AnyInstruction", bound=Instruction)


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage after some of its instructions.

    Attributes:
        config: the image config so far; its history has an entry per instruction, without
            times, and its diff IDs are those of the base: layers are not this module's.
        scope: the variables in force.
        escape: the Dockerfile's escape character.
        cmd_set: whether a CMD of this stage was seen; ENTRYPOINT voids only inherited ones.
        declared: the names of its ARGs, and of those of the stage that it starts from, each with
            the value that the ARG gave it: empty where it gave none.
        top_mtime_ns: the time of the root directory, which no layer tells: that when the base
            image was made, so that the same instructions make the same directories in it.
    """

    config: ImageConfig
    scope: Scope
    escape: str = "\\"
    cmd_set: bool = False
    declared: tuple[tuple[str, str], ...] = ()
    top_mtime_ns: int = 0

    @property
    def workdir(self) -> str:
        """The working directory, as WORKDIR left it: absolute, but perhaps not tidy."""
        return self.config.config.working_dir or "/"

    @property
    def shell(self) -> tuple[str, ...]:
        """What the shell form is handed to."""
        windows = self.config.platform.os == "windows"
        return self.config.config.shell or (_WINDOWS_SHELL if windows else DEFAULT_SHELL)

    @property
    def user(self) -> str:
        """What USER said; empty means root."""
        return self.config.config.user


def scratch(platform: Platform) -> ImageConfig:
    """Return the config that ``FROM scratch`` starts from."""
    return ImageConfig(platform, RuntimeConfig(working_dir="/"))


def start_stage(base: ImageConfig, arguments: Scope, escape: str = "\\") -> StageState:
    """Return the state of a stage before its first instruction.

    Args:
        base: the config of the base image.
        arguments: the Dockerfile's global scope.
        escape: the Dockerfile's escape character.
    """
    runtime = base.config
    # Windows knows its own.
    if "PATH" not in runtime.variables() and base.platform.os != "windows":
        runtime = replace(runtime, env=(*runtime.env, f"PATH={DEFAULT_PATH}"))
    if runtime.working_dir:
        runtime = replace(runtime, working_dir=workdir_path("", runtime.working_dir))
    # Triggers are for the stage that starts from the image, not for those that start from that.
    runtime = replace(runtime, on_build=())
    scope = arguments.stage(runtime.variables())
    made = _seconds(base.created) * SECOND
    state = StageState(replace(base, config=runtime, created=None), scope, escape)
    return replace(state, top_mtime_ns=made)


def _seconds(created: str | None) -> int:
    """Return a time of a config in seconds since 1970; 0 where there is none."""
    try:
        return max(0, int(datetime.fromisoformat(created or "").timestamp()))
    except (ValueError, OverflowError):
        return 0


def follow_stage(base: StageState) -> StageState:
    """Return the state of a stage that starts from another, after that one's last instruction."""
    # Triggers are for this stage alone, and an ENTRYPOINT of its own voids the other's CMD.
    runtime = replace(base.config.config, on_build=())
    return replace(base, config=replace(base.config, config=runtime), cmd_set=False)


def configure(
    state: StageState, instruction: Instruction, build_args: Mapping[str, str]
) -> StageState:
    """Return *state* as *instruction* leaves it: config, variables and history.

    RUN, COPY, ADD and WORKDIR change files too; here they only leave their marks.

    Args:
        state: the stage before it.
        instruction: as it was parsed; its words are expanded here.
        build_args: values given by ``--build-arg``.

    Raises:
        DockerfileError: a word of the instruction cannot be expanded, or means nothing.
    """
    instruction = expand(state, instruction)
    with located(instruction.source):
        return _configured(state, instruction, build_args)


def expand(state: StageState, instruction: AnyInstruction) -> AnyInstruction:
    """Return *instruction* with its words expanded by the variables in force.

    RUN, CMD, ENTRYPOINT, SHELL, HEALTHCHECK and MAINTAINER are not expanded: what looks like a
    variable there is the shell's, or plain text. EXPOSE and ARG have rules of their own.

    Raises:
        DockerfileError: a word cannot be expanded.
    """
    lexer = Lexer(state.escape)
    variables = state.scope.variables

    def word(text: str) -> str:
        return lexer.expand(text, variables)

    with located(instruction.source):
        return cast(AnyInstruction, _expanded(instruction, word))


def _expanded(instruction: Instruction, word: Callable[[str], str]) -> Instruction:
    match instruction:
        case Env() | Label():
            pairs = tuple((word(key), word(value)) for key, value in instruction.pairs)
            return replace(instruction, pairs=pairs)
        case User():
            return replace(instruction, name=word(instruction.name))
        case Workdir():
            return replace(instruction, path=word(instruction.path))
        case Volume():
            return replace(instruction, paths=tuple(map(word, instruction.paths)))
        case StopSignal():
            return replace(instruction, signal=word(instruction.signal))
        case Copy() | Add():
            inline = {f"<<{heredoc.name}" for heredoc in instruction.heredocs}
            if isinstance(instruction, Add) and instruction.checksum:
                instruction = replace(instruction, checksum=word(instruction.checksum))
            return replace(
                instruction,
                sources=tuple(s if s in inline else word(s) for s in instruction.sources),
                destination=word(instruction.destination),
                chown=instruction.chown and word(instruction.chown),
                chmod=instruction.chmod and word(instruction.chmod),
                exclude=tuple(map(word, instruction.exclude)),
            )
        case _:
            return instruction


def _configured(
    state: StageState, instruction: Instruction, build_args: Mapping[str, str]
) -> StageState:
    runtime = state.config.config
    match instruction:
        case Env(pairs=pairs):
            runtime = replace(runtime, env=_with_variables(runtime.env, pairs))
            state = replace(state, scope=state.scope.with_env(dict(pairs)))
            return _noted(state, runtime, f"ENV {_pairs_text(pairs)}")
        case Arg():
            return _declared(state, instruction, build_args)
        case Maintainer(name=name):
            state = replace(state, config=replace(state.config, author=name))
            return _noted(state, runtime, f"MAINTAINER {name}")
        case OnBuild(text=text):
            # A trigger leaves no trace in the history before it fires.
            runtime = replace(runtime, on_build=(*runtime.on_build, text))
            return replace(state, config=replace(state.config, config=runtime))
        case Workdir(path=path):
            runtime = replace(runtime, working_dir=workdir_path(runtime.working_dir, path))
            return _with(state, runtime, history.workdir_entry(runtime.working_dir))
        case Run():
            variables = state.scope.variables
            arguments = dict(state.declared)  # each name once, where it stood first
            seen = [(name, variables.get(name, value)) for name, value in arguments.items()]
            argv = command_line(state, instruction)
            return _with(state, runtime, history.run_entry(argv, seen))
        case Copy() | Add():
            return _with(state, runtime, history.copy_entry(instruction))
        case Cmd() | Entrypoint():
            return _with_command(state, instruction)
        case _:
            return _noted(state, *_described(state, instruction))


def _with_command(state: StageState, instruction: Cmd | Entrypoint) -> StageState:
    runtime = state.config.config
    command = instruction.command
    argv = (*state.shell, " ".join(command.argv)) if command.shell else command.argv
    words = history.quoted_words(argv)
    if isinstance(instruction, Cmd):
        # What Docker for Windows meant by ArgsEscaped is long gone, but every image that Docker
        # or BuildKit makes has it.
        runtime = replace(runtime, cmd=argv, extra={**runtime.extra, "ArgsEscaped": True})
        return replace(_noted(state, runtime, f"CMD {words}"), cmd_set=True)
    # An inherited CMD was written for the ENTRYPOINT that goes with it.
    cmd = runtime.cmd if state.cmd_set else None
    runtime = replace(runtime, entrypoint=argv, cmd=cmd)
    return _noted(state, runtime, f"ENTRYPOINT {words}")


def _described(
    state: StageState,
    instruction: Label | User | Expose | Volume | StopSignal | Shell | Healthcheck,
) -> tuple[RuntimeConfig, str]:
    """Return the config after an instruction that changes nothing else, and its history."""
    runtime = state.config.config
    match instruction:
        case Label(pairs=pairs):
            labels = {**runtime.labels, **dict(pairs)}
            return replace(runtime, labels=labels), f"LABEL {_pairs_text(pairs)}"
        case User(name=name):
            return replace(runtime, user=name), f"USER {name}"
        case Expose():
            ports = _ports(state, instruction)
            exposed = tuple(dict.fromkeys((*runtime.exposed_ports, *ports)))
            return replace(runtime, exposed_ports=exposed), f"EXPOSE {history.words(ports)}"
        case Volume(paths=paths):
            if "" in paths:
                raise UsageError("VOLUME names an empty path", hint="is a variable not set?")
            volumes = tuple(dict.fromkeys((*runtime.volumes, *paths)))
            return replace(runtime, volumes=volumes), f"VOLUME {history.words(paths)}"
        case StopSignal(signal=signal):
            signal_number(signal)
            return replace(runtime, stop_signal=signal), f"STOPSIGNAL {signal}"
        case Shell(argv=argv):
            return replace(runtime, shell=argv), f"SHELL {history.words(argv)}"
        case Healthcheck():
            check, text = history.healthcheck(instruction)
            return replace(runtime, healthcheck=check), f"HEALTHCHECK {text}"
        case _:
            assert_never(instruction)


def command_line(state: StageState, run: Run) -> tuple[str, ...]:
    """Return what RUN executes: its own words, or the stage's SHELL with its text."""
    if not run.command.shell:
        return run.command.argv
    return (*state.shell, history.run_text(" ".join(run.command.argv), run.heredocs))


def _with_variables(env: Sequence[str], pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    # A variable keeps the place that it first had.
    places = {item.partition("=")[0]: item for item in env}
    places.update((name, f"{name}={value}") for name, value in pairs)
    return tuple(places.values())


def _pairs_text(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs)


def _ports(state: StageState, instruction: Expose) -> tuple[str, ...]:
    lexer = Lexer(state.escape)
    variables = state.scope.variables
    # A variable may hold several ports: words are split after they are expanded. BuildKit
    # sorts them as they are written, which shows in the history.
    words = [lexer.expand_words(text, variables) for text in sorted(instruction.ports)]
    return tuple(port for specs in words for spec in specs for port in expose_ports(spec))


def _declared(state: StageState, instruction: Arg, build_args: Mapping[str, str]) -> StageState:
    scope, pairs = declared(state.scope, instruction, build_args, Lexer(state.escape))
    values = [
        (name, build_args.get(name, scope.inherited.get(name) if default is None else default))
        for name, default in pairs
    ]
    text = " ".join(name if value is None else f"{name}={value}" for name, value in values)
    own = ((name, value or "") for name, value in values)
    state = replace(state, scope=scope, declared=(*state.declared, *own))
    return _noted(state, state.config.config, f"ARG {text}")


def _noted(state: StageState, runtime: RuntimeConfig, text: str) -> StageState:
    return _with(state, runtime, history.entry(text))


def changes_files(instruction: Instruction, state: StageState) -> bool:
    """Whether *instruction* may change files; *state* is the stage after it."""
    if isinstance(instruction, Workdir):
        return state.workdir != "/"
    return isinstance(instruction, Run | Copy | Add)


def noted(state: StageState, entry: History) -> StageState:
    """Return *state* with one more entry in its history."""
    return _with(state, state.config.config, entry)


def _with(state: StageState, runtime: RuntimeConfig, entry: History) -> StageState:
    config = replace(state.config, config=runtime, history=(*state.config.history, entry))
    return replace(state, config=config)


@contextmanager
def located(source: Source) -> Iterator[None]:
    """Say where in the Dockerfile an error of the block belongs.

    Errors about the world rather than the Dockerfile, such as an unreadable file or a full
    disk, pass as they are.
    """
    try:
        yield
    except (DockerfileError, ContextError, ContentError, DiskError):
        raise
    except KanikoError as error:
        at = (error.word,) if isinstance(error, WordError) else ()
        raise source.error(str(error), hint=error.hint, at=at) from error
