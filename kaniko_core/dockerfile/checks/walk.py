"""Rules about what instructions mean, from the first of a stage to the last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from posixpath import normpath
from typing import assert_never

from kaniko_core.dockerfile.checks.bases import Start
from kaniko_core.dockerfile.checks.findings import Findings, quoted
from kaniko_core.dockerfile.checks.spelling import nearest
from kaniko_core.dockerfile.checks.surroundings import Surroundings
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
from kaniko_core.dockerfile.mounts import parse_mount
from kaniko_core.dockerfile.parser import parse_trigger
from kaniko_core.dockerfile.ports import expose_ports
from kaniko_core.dockerfile.scope import DEFAULT_PATH, Scope, declared
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

# These are told to the builder by ARG, and are in no environment.
_NO_VARIABLES = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_SECRET = re.compile(
    "(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile("(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
# A URL, or a repository as ssh and scp name it: nothing of the build context.
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:", re.IGNORECASE)
# Stands for any file at the top of the build context.
ANY_FILE = "\ue0ff"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a stage between two of its instructions.

    Attributes:
        declared: names of ARGs, whether they have a value or not.
        shell: whether SHELL was set, here or in what the stage starts from.
        workdir: whether a WORKDIR of this Dockerfile was seen.
    """

    scope: Scope
    declared: frozenset[str] = frozenset()
    shell: bool = False
    workdir: bool = False


def check_stages(
    dockerfile: Dockerfile,
    around: Surroundings,
    scope: Scope,
    starts: list[Start],
    findings: Findings,
) -> None:
    """Apply the rules to the instructions of the stages that *around* asks for.

    A stage that is not asked for may still be what another starts from.

    Raises:
        DockerfileError: an instruction cannot be expanded, or means nothing.
    """
    needed = _needed(around.stages, starts)
    ended: dict[int, _Known] = {}
    for stage, start in zip(dockerfile.stages, starts, strict=True):
        if stage.number not in needed:
            continue
        base = None if start.stage is None else dockerfile.stages[start.stage]
        known = _first(scope, start) if base is None else ended[base.number]
        asked = around.stages is None or stage.number in around.stages
        reader = _StageReader(
            dockerfile.escape, around, findings if asked else replace(findings, found=[]), known
        )
        for instruction in (
            *_triggers(stage, base, start, dockerfile.escape),
            *stage.instructions,
        ):
            reader.read(instruction)
        ended[stage.number] = reader.known


def _needed(asked: frozenset[int] | None, starts: list[Start]) -> set[int]:
    needed = set(range(len(starts)) if asked is None else asked)
    # A stage starts from none but those above it.
    for number in reversed(range(len(starts))):
        base = starts[number].stage
        if number in needed and base is not None:
            needed.add(base)
    return needed


def _first(scope: Scope, start: Start) -> _Known:
    runtime = start.config.config if start.config else None
    env = runtime.variables() if runtime else {}
    shell = bool(runtime and runtime.shell)
    return _Known(scope.stage({**env, "PATH": env.get("PATH", DEFAULT_PATH)}), shell=shell)


def _triggers(stage: Stage, base: Stage | None, start: Start, escape: str) -> Iterator[Instruction]:
    """Yield what ONBUILD of the base wants done first; all of it stands where FROM does."""
    where = stage.start.source
    if base is not None:
        texts = [item.text for item in base.instructions if isinstance(item, OnBuild)]
    else:
        texts = list(start.config.config.on_build) if start.config else []
    for text in texts:
        yield parse_trigger(text, where.path, where.line, escape)


@dataclass(slots=True)
class _StageReader:
    escape: str
    around: Surroundings
    findings: Findings
    known: _Known
    last: dict[type[Instruction], Source] = field(default_factory=dict)

    def read(self, instruction: Instruction) -> None:
        """Apply the rules to the next instruction."""
        try:
            self._read(instruction)
        except WordError as error:
            raise instruction.source.error(str(error), hint=error.hint, at=(error.word,)) from None
        except UsageError as error:
            raise instruction.source.error(str(error), hint=error.hint) from None

    def _read(self, instruction: Instruction) -> None:
        source = instruction.source
        match instruction:
            case Env(pairs=pairs):
                self._check_legacy(instruction)
                word = self._words(source)
                expanded = [(word(key), word(value)) for key, value in pairs]
                for key, _ in expanded:
                    self._check_secret("ENV", key, source)
                scope = self.known.scope.with_env(dict(expanded))
                self.known = replace(self.known, scope=scope)
            case Label(pairs=pairs):
                self._check_legacy(instruction)
                self._expand(source, (text for pair in pairs for text in pair))
            case Arg():
                self._read_arguments(instruction)
            case Workdir(path=path):
                self._read_workdir(source, self._words(source)(path))
            case Cmd() | Entrypoint():
                self._check_last(instruction)
                if instruction.command.shell and not self.known.shell:
                    self.findings.add(
                        "JSONArgsRecommended",
                        source,
                        f"JSON arguments recommended for {source.keyword} to prevent "
                        "unintended behavior related to OS signals",
                    )
            case Healthcheck():
                self._check_last(instruction)
            case Shell():
                self.known = replace(self.known, shell=True)
            case Expose():
                self._read_ports(instruction)
            case Copy() | Add():
                self._read_copy(instruction)
            case Run(mounts=mounts):
                for mount in mounts:
                    parse_mount(mount, self._words(source))
            case User(name=text) | StopSignal(signal=text):
                self._expand(source, (text,))
            case Volume(paths=paths):
                self._expand(source, paths)
            case Maintainer() | OnBuild():
                pass
            case _:
                assert_never(instruction)

    def _words(self, source: Source, lexer: Lexer | None = None) -> Callable[[str], str]:
        """Return what expands the words of the instruction at *source*."""
        lexer = lexer or Lexer(self.escape)
        variables = self.known.scope.variables

        def word(text: str) -> str:
            found = lexer.process(text, variables)
            self._check_defined(source, found.unmatched, variables)
            return found.text

        return word

    def _expand(self, source: Source, words: Iterable[str | None]) -> None:
        word = self._words(source)
        for text in words:
            if text is not None:
                word(text)

    def _check_defined(
        self, source: Source, unmatched: frozenset[str], variables: Mapping[str, str]
    ) -> None:
        for name in sorted(unmatched - self.known.declared - _NO_VARIABLES):
            meant = nearest(name, variables)
            suggestion = f" (did you mean ${meant}?)" if meant else ""
            self.findings.add(
                "UndefinedVar", source, f"Usage of undefined variable '${name}'{suggestion}"
            )

    def _read_arguments(self, argument: Arg) -> None:
        source = argument.source
        lexer = Lexer(self.escape)
        for name, default in argument.pairs:
            self._check_secret("ARG", name, source)
            if default is not None and name not in self.around.build_args:
                self._expand(source, (default,))
            one = replace(argument, pairs=((name, default),))
            scope, _ = declared(self.known.scope, one, self.around.build_args, lexer)
            self.known = replace(self.known, scope=scope, declared=self.known.declared | {name})

    def _check_secret(self, instruction: str, name: str, source: Source) -> None:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            self.findings.add(
                "SecretsUsedInArgOrEnv",
                source,
                "Do not use ARG or ENV instructions for sensitive data "
                f"({instruction} {quoted(name)})",
            )

    def _check_legacy(self, instruction: Env | Label) -> None:
        keyword = instruction.source.keyword
        if instruction.legacy:
            self.findings.add(
                "LegacyKeyValueFormat",
                instruction.source,
                f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" '
                "format",
            )

    def _check_last(self, instruction: Cmd | Entrypoint | Healthcheck) -> None:
        """Name the instruction before, if there is one: it is the one without effect."""
        source = instruction.source
        before = self.last.get(type(instruction))
        if before is not None:
            where = replace(before, comments=(*before.comments, *source.comments))
            self.findings.add(
                "MultipleInstructionsDisallowed",
                where,
                f"Multiple {source.keyword} instructions should not be used in the same stage "
                "because only the last one will be used",
            )
        self.last[type(instruction)] = source

    def _read_workdir(self, source: Source, path: str) -> None:
        if not self.known.workdir and not path.startswith("/"):
            self.findings.add(
                "WorkdirRelativePath",
                source,
                f"Relative workdir {quoted(path)} can have unexpected results if the base "
                "image changes",
            )
        self.known = replace(self.known, workdir=True)

    def _read_ports(self, expose: Expose) -> None:
        lexer = Lexer(self.escape)
        variables = self.known.scope.variables
        specs = [
            spec for text in sorted(expose.ports) for spec in lexer.expand_words(text, variables)
        ]
        for spec in specs:
            expose_ports(spec)
            host, _, port = spec.rpartition(":")
            protocol = port.partition("/")[2]
            if protocol != protocol.lower():
                self.findings.add(
                    "ExposeProtoCasing",
                    expose.source,
                    f"Defined protocol '{spec}' in EXPOSE instruction should be lowercase",
                )
            if host:
                self.findings.add(
                    "ExposeInvalidFormat",
                    expose.source,
                    "EXPOSE instruction should not define an IP address or host-port mapping, "
                    f"found '{spec}'",
                )

    def _read_copy(self, copy: Copy | Add) -> None:
        source = copy.source
        word = self._words(source)
        checksum = copy.checksum if isinstance(copy, Add) else None
        self._expand(source, (copy.chown, copy.chmod, checksum, *copy.exclude))
        inline = {f"<<{heredoc.name}" for heredoc in copy.heredocs}
        paths = [word(path) for path in copy.sources if path not in inline]
        word(copy.destination)
        # The bodies of here-documents have rules of their own.
        text = self._words(source, Lexer("\\", skip_quotes=True))
        for heredoc in copy.heredocs:
            if heredoc.expand:
                text(heredoc.content)
        if isinstance(copy, Add) or copy.from_ is None:
            self._check_ignored("Add" if isinstance(copy, Add) else "Copy", paths, source)

    def _check_ignored(self, verb: str, paths: Iterable[str], source: Source) -> None:
        ignored = self.around.ignored
        if ignored is None:
            return
        for path in paths:
            if _REMOTE.match(path):
                continue
            tidy = normpath(path) if path else "."
            # The context as a whole is left out by a pattern that any file has, such as *.
            if ignored(ANY_FILE if tidy == "." else tidy):
                self.findings.add(
                    "CopyIgnoredFile",
                    source,
                    f"Attempting to {verb} file {quoted(tidy)} that is excluded by .dockerignore",
                )
