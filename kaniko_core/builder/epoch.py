"""SOURCE_DATE_EPOCH: the time that stands for the present in what a build makes.

    --build-arg SOURCE_DATE_EPOCH=1704067200    seconds since 1970
    ARG SOURCE_DATE_EPOCH=context               when the build context was made, if it was fetched
    ARG SOURCE_DATE_EPOCH=sources               when a named context was made; or the source of a
                                                stage of FROM scratch and one remote ADD only

Source: the Dockerfile reference, "SOURCE_DATE_EPOCH"; https://reproducible-builds.org/specs/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from kaniko_core.builder.configure import located
from kaniko_core.context.named import NamedContext
from kaniko_core.dockerfile.instructions import Add, Arg
from kaniko_core.dockerfile.scope import Scope, declared
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.errors import KanikoError, UsageError
from kaniko_core.oci.reference import SCRATCH

NAME = "SOURCE_DATE_EPOCH"
_CONTEXT = "context"
_SECONDS = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_HINT = "it is a number of seconds, context, or the name of a named context or of a stage"


def epoch_of(
    dockerfile: Dockerfile,
    arguments: Scope,
    build_args: Mapping[str, str],
    *,
    context_time: int | None = None,
    named: Callable[[str], NamedContext | None],
    named_time: Callable[[NamedContext], int | None],
    added_time: Callable[[Add], int | None],
) -> int | None:
    """Return the seconds since 1970 that stand for the present; None where nothing says so.

    Args:
        dockerfile: whose stages may be named.
        arguments: its global scope.
        build_args: values given for ARGs.
        context_time: when the build context was made, if that is known: of a directory, it is not.
        named: returns a named context.
        named_time: returns when that was made.
        added_time: returns when the one source of an ADD was made; its words are expanded.

    Raises:
        UsageError: the value means nothing.
        DockerfileError: the stage that it names does more than to fetch one source.
    """
    value = build_args.get(NAME, arguments.variables.get(NAME, ""))
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return int(value)
    if value == _CONTEXT:
        return context_time
    context = named(value)
    if context is not None:
        return named_time(context)
    for stage in dockerfile.stages:
        if stage.start.name == value.lower():
            return added_time(_only_source(stage, arguments, build_args, dockerfile.escape))
    raise UsageError(f"{NAME}={value} means nothing", hint=_HINT)


def _only_source(stage: Stage, arguments: Scope, build_args: Mapping[str, str], escape: str) -> Add:
    """Return the ADD that is all there is in *stage*, its words expanded."""
    lexer = Lexer(escape)
    scope = arguments
    found: list[Add] = []
    with located(stage.start.source):
        if lexer.expand(stage.start.image, arguments.variables) != SCRATCH:
            raise KanikoError(f"the stage that {NAME} names must start FROM scratch")
    for instruction in stage.instructions:
        with located(instruction.source):
            if isinstance(instruction, Arg):
                scope, _ = declared(scope, instruction, build_args, lexer)
            elif isinstance(instruction, Add) and not found:
                found.append(_expanded(instruction, lexer, scope.variables))
            else:
                raise KanikoError(
                    f"the stage that {NAME} names must hold one remote ADD, and nothing else",
                    hint="copy from that stage in another one",
                )
    with located(stage.start.source):
        if not found:
            raise KanikoError(f"the stage that {NAME} names has no remote ADD")
    return found[0]


def _expanded(add: Add, lexer: Lexer, variables: Mapping[str, str]) -> Add:
    if len(add.sources) != 1 or add.heredocs:
        raise KanikoError(f"the stage that {NAME} names must add exactly one source")
    return replace(
        add,
        sources=(lexer.expand(add.sources[0], variables),),
        checksum=add.checksum and lexer.expand(add.checksum, variables),
    )
