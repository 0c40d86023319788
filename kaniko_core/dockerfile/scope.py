"""Which variables are in force where.

    global ARGs and predefined ones ──▶ FROM
              │ imported by an ARG without default
              ▼
    stage:  ENV of the base image, then ARG and ENV in the order of its instructions (and of
            the stage that it starts from): the later one counts

Source: the Dockerfile reference, "ARG", "Using ARG variables", "Scope".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace

from kaniko_core.dockerfile.instructions import Arg
from kaniko_core.dockerfile.stages import Dockerfile
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform

# What every command finds as PATH where the image says nothing.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# These reach RUN without being declared, and leave no trace in the image.
PROXY_ARGUMENTS = frozenset(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)
# These speak to the builder, and mean something here without being declared.
_FOR_BUILDER = re.compile(
    "BUILDKIT_(SYNTAX|CACHE_MOUNT_NS|CONTEXT_KEEP_GIT_DIR|DOCKERFILE_CHECK|SANDBOX_HOSTNAME)|"
    "SOURCE_DATE_EPOCH|TARGETSTAGE|"
    "(BUILD|TARGET)(PLATFORM|OS|OSVERSION|ARCH|VARIANT)"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables at one point of a Dockerfile.

    Attributes:
        variables: what words are expanded with: of ENV and ARG the later one counts.
        inherited: what an ARG without a default takes its value from: the global scope.
        proxies: proxy settings given for the build.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    inherited: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)

    @property
    def process_variables(self) -> Mapping[str, str]:
        """What the command of a RUN finds in its environment.

        A proxy given for the build is there in both cases, whichever was given, and wins over ENV.
        """
        given = {name: value for name, value in self.proxies.items() if value}
        lower = {name.lower(): value for name, value in given.items()}
        upper = {name.upper(): value for name, value in given.items()}
        return {**self.variables, **lower, **upper, **given}

    def stage(self, env: Mapping[str, str]) -> Scope:
        """Return the scope of a stage from an image with *env*; this is the global scope."""
        return Scope(dict(env), self.variables, self.proxies)

    def with_env(self, pairs: Mapping[str, str]) -> Scope:
        """Return this scope after ENV; the values are expanded."""
        return replace(self, variables={**self.variables, **pairs})

    def with_argument(self, name: str, value: str | None) -> Scope:
        """Return this scope after an ARG; None leaves a variable that is there as it was."""
        return self if value is None else self.with_env({name: value})


def declared(
    scope: Scope, argument: Arg, given: Mapping[str, str], lexer: Lexer
) -> tuple[Scope, tuple[tuple[str, str | None], ...]]:
    """Return *scope* after ARG, and each name with its expanded default, if that is used.

    The value given for the build counts first, then the default, then the global scope's.

    Raises:
        WordError: a default cannot be expanded.
    """
    pairs: list[tuple[str, str | None]] = []
    for name, default in argument.pairs:
        # A default that is not used may be one that cannot be expanded.
        used = None if name in given else default
        value = None if used is None else lexer.expand(used, scope.variables)
        pairs.append((name, value))
        if name in given:
            value = given[name]
        elif value is None:
            value = scope.inherited.get(name)
        # Unlike ENV, an ARG with several names sees those before it.
        scope = scope.with_argument(name, value)
    return scope, tuple(pairs)


def global_scope(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str],
    build_platform: Platform,
    target_platform: Platform,
    target_stage: str = "default",
) -> Scope:
    """Return the scope that FROM instructions are expanded in.

    Raises:
        DockerfileError: the default of a global ARG cannot be expanded.
    """
    predefined = {
        **_platform_arguments("BUILD", build_platform),
        **_platform_arguments("TARGET", target_platform),
        "TARGETSTAGE": target_stage,
    }
    predefined.update((name, build_args[name]) for name in predefined if name in build_args)
    proxies = {name: build_args[name] for name in sorted(PROXY_ARGUMENTS) if name in build_args}
    scope = Scope(predefined, proxies=proxies)
    lexer = Lexer(dockerfile.escape)
    for argument in dockerfile.arguments:
        try:
            scope, _ = declared(scope, argument, build_args, lexer)
        except WordError as error:
            raise argument.source.error(str(error), hint=error.hint, at=(error.word,)) from None
    return scope


def unused_build_args(dockerfile: Dockerfile, given: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names *given* for the build that no ARG declares, in their order.

    Proxy settings, predefined arguments and those that speak to the builder are never unused.
    """
    own = [i for stage in dockerfile.stages for i in stage.instructions if isinstance(i, Arg)]
    declared_names = {name for arg in (*dockerfile.arguments, *own) for name, _ in arg.pairs}
    return tuple(
        name
        for name in given
        if name not in declared_names
        and name not in PROXY_ARGUMENTS
        and _FOR_BUILDER.fullmatch(name) is None
    )


def _platform_arguments(prefix: str, platform: Platform) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": platform.complete,
        f"{prefix}OS": platform.os,
        f"{prefix}OSVERSION": platform.os_version,
        f"{prefix}ARCH": platform.architecture,
        f"{prefix}VARIANT": platform.variant,
    }
