"""Rules about what stages start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kaniko_core.dockerfile.checks.findings import Findings, quoted
from kaniko_core.dockerfile.checks.spelling import nearest
from kaniko_core.dockerfile.checks.surroundings import Surroundings
from kaniko_core.dockerfile.scope import Scope, global_scope
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.dockerfile.words import Expansion, Lexer, WordError
from kaniko_core.errors import DockerfileError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import SCRATCH, Reference
from kaniko_core.oci.spec import ImageConfig

_TARGET = "TARGETPLATFORM"


@dataclass(frozen=True, slots=True)
class Start:
    """What one stage starts from.

    Attributes:
        name: of the image or stage, expanded.
        platform: what FROM says, or None.
        stage: the number of the stage that it starts from, or None.
        config: the image's config; None where it is not known, and for ``scratch``.
    """

    name: str
    platform: Platform | None
    stage: int | None
    config: ImageConfig | None = None


def check_defaults(dockerfile: Dockerfile, around: Surroundings, findings: Findings) -> None:
    """Apply the rule that every FROM means something where no build argument is given."""
    try:
        scope = _scope(dockerfile, around, around.predefined_args)
        for stage in dockerfile.stages:
            image = Lexer(dockerfile.escape).expand(stage.start.image, scope.variables)
            if not _is_reference(image):
                findings.add(
                    "InvalidDefaultArgInFrom",
                    stage.start.source,
                    f"Default value for ARG {stage.start.image} results in empty or invalid "
                    "base image name",
                )
    except (DockerfileError, WordError):
        # Whether that is an error is found out with the build's own arguments.
        return


def check_starts(
    dockerfile: Dockerfile, around: Surroundings, findings: Findings
) -> tuple[Scope, list[Start]]:
    """Apply the rules about FROM; return the global scope, and what the stages start from.

    Raises:
        DockerfileError: a FROM cannot be expanded, or names nothing that can be.
    """
    scope = _scope(dockerfile, around, around.build_args)
    reader = _Reader(dockerfile, around, scope, findings)
    starts = [reader.start(stage) for stage in dockerfile.stages]
    return scope, [
        reader.resolved(stage, start)
        for stage, start in zip(dockerfile.stages, starts, strict=True)
    ]


def _scope(dockerfile: Dockerfile, around: Surroundings, build_args: Mapping[str, str]) -> Scope:
    return global_scope(
        dockerfile,
        build_args=build_args,
        build_platform=around.build_platform,
        target_platform=around.target_platform,
        target_stage=around.target_stage,
    )


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except UsageError:
        return False
    return True


class _Reader:
    def __init__(
        self, dockerfile: Dockerfile, around: Surroundings, scope: Scope, findings: Findings
    ) -> None:
        self._around = around
        self._lexer = Lexer(dockerfile.escape)
        self._variables = scope.variables
        declared = {name for arg in dockerfile.arguments for name, _ in arg.pairs}
        self._known = sorted(declared | set(self._variables))
        self._findings = findings
        self._stages: dict[str, int] = {}

    def start(self, stage: Stage) -> Start:
        """Read one FROM; those above it have been read."""
        image = self._expanded(stage, stage.start.image)
        if not image.text:
            raise stage.start.source.error(
                f"the image is empty: {stage.start.image} has no value here",
                hint="declare it with ARG before the first FROM, or give it with --build-arg",
            )
        platform = None
        if stage.start.platform is not None:
            platform = self._platform(stage, stage.start.platform)
        found = Start(image.text, platform, self._stages.get(image.text))
        if stage.start.name is not None:
            self._stages[stage.start.name] = stage.number
        return found

    def resolved(self, stage: Stage, start: Start) -> Start:
        """Return *start* with the config of the image, if it is one that is known."""
        if start.stage is not None or start.name == SCRATCH:
            return start
        config = self._around.base(stage)
        if config is not None:
            self._check_platform(stage, start, config)
        elif not _is_reference(start.name):
            raise stage.start.source.error(f"{start.name!r} is not an image")
        return Start(start.name, start.platform, None, config)

    def _expanded(self, stage: Stage, text: str) -> Expansion:
        try:
            found = self._lexer.process(text, self._variables)
        except WordError as error:
            raise stage.start.source.error(str(error), hint=error.hint, at=(error.word,)) from None
        self._check_declared(stage, found.unmatched)
        return found

    def _check_declared(self, stage: Stage, unmatched: Iterable[str]) -> None:
        for name in sorted(set(unmatched).difference(self._known)):
            meant = nearest(name, self._known)
            suggestion = f" (did you mean {meant}?)" if meant else ""
            self._findings.add(
                "UndefinedArgInFrom",
                stage.start.source,
                f"FROM argument '{name}' is not declared{suggestion}",
            )

    def _platform(self, stage: Stage, text: str) -> Platform:
        source = stage.start.source
        found = self._expanded(stage, text)
        alone = found.matched == {_TARGET} and not found.unmatched
        if alone and found.text == self._variables[_TARGET]:
            self._findings.add(
                "RedundantTargetPlatform",
                source,
                f"Setting platform to predefined {text} in FROM is redundant as this is the "
                "default behavior",
            )
        try:
            platform = Platform.parse(found.text)
        except UsageError as error:
            raise source.error(str(error), hint=error.hint) from None
        name = stage.start.name or ""
        constant = not found.matched and not found.unmatched
        # A stage for one platform, and named after it, is meant.
        if constant and platform.os not in name and platform.architecture not in name:
            self._findings.add(
                "FromPlatformFlagConstDisallowed",
                source,
                f"FROM --platform flag should not use constant value {quoted(found.text)}",
            )
        return platform

    def _check_platform(self, stage: Stage, start: Start, config: ImageConfig) -> None:
        wanted = start.platform or self._around.target_platform
        found = config.platform
        if (found.os, found.architecture) != (wanted.os, wanted.architecture):
            self._findings.add(
                "InvalidBaseImagePlatform",
                stage.start.source,
                f"Base image {start.name} was pulled with platform {quoted(_normal(found))}, "
                f"expected {quoted(_normal(wanted))} for current build",
            )


def _normal(platform: Platform) -> str:
    text = str(platform)
    try:
        # Alone, the name of a system would stand for this machine.
        return str(Platform.parse(text)) if platform.architecture else text
    except UsageError:
        return text
