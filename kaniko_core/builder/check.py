"""Build checks with what they need around them: ``--check``, and the warnings of a build.

Base images are looked up, because their variables, triggers and platform matter to some rules;
of them no more than manifests and configs is fetched.

Source: BuildKit's frontend/subrequests/lint and solver/errdefs, for the form of the report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.plan import ImageBase, LayoutBase, Plan, StageBase
from kaniko_core.builder.project import (
    Project,
    build_arguments,
    open_preview,
    open_project,
    read_sources,
)
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.cache.images import ImageCache
from kaniko_core.context import BuildContext
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.checks.check import check_dockerfile, check_source
from kaniko_core.dockerfile.checks.policy import check_policy
from kaniko_core.dockerfile.checks.surroundings import Surroundings
from kaniko_core.dockerfile.checks.walk import ANY_FILE
from kaniko_core.dockerfile.stages import Check, Stage
from kaniko_core.dockerfile.wildcards import has_wildcard
from kaniko_core.errors import DockerfileError, KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import ImageConfig
from kaniko_core.options import BuildOptions, CacheOptions, RegistryOptions
from kaniko_core.progress import Progress, Warned, silent
from kaniko_core.registry.client import Registry

# Lines that are shown around one line.
_AROUND = 2
_RULE = "-" * 20
# What these rules say of a stage is a guess where its base image cannot be looked at, because
# any variable may be the image's.
_NEED_BASE = frozenset({"UndefinedVar", "WorkdirRelativePath"})


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the build checks say of one Dockerfile.

    Attributes:
        path: how the user named the Dockerfile.
        lines: of the Dockerfile.
        checks: what was found, in the order of the lines.
        error: what a build would fail with; then *checks* may be incomplete.
    """

    path: str
    lines: Sequence[str]
    checks: Sequence[Check]
    error: KanikoError | None = None

    @property
    def status(self) -> int:
        """What a program exits with that does nothing but check."""
        return 1 if self.checks or self.error else 0

    def text(self) -> str:
        """Return the report for people, each place shown with the lines around it."""
        paragraphs = ["\n".join(self._paragraph(check)) for check in self.checks]
        return "\n\n".join([*paragraphs, self._summary()])

    def json(self) -> str:
        """Return the report as one line of JSON, its fields named as BuildKit names them."""
        report: dict[str, object] = {
            "warnings": [
                {
                    "ruleName": check.rule,
                    "description": check.description,
                    "url": check.url,
                    "detail": check.message,
                    "location": {
                        "ranges": [{"start": {"line": check.line}, "end": {"line": check.line}}]
                    },
                }
                for check in self.checks
            ],
            "sources": [{"filename": self.path}],
        }
        if self.error is not None:
            report["buildError"] = {"message": str(self.error)}
        return json.dumps(report, ensure_ascii=False)

    def _summary(self) -> str:
        count = len(self.checks)
        found = (
            "no warnings found."
            if not count
            else "1 warning has been found!"
            if count == 1
            else f"{count} warnings have been found!"
        )
        return f"Check {'incomplete' if self.error else 'complete'}, {found}"

    def _paragraph(self, check: Check) -> Iterator[str]:
        yield f"WARNING: {check.rule} - {check.url}" if check.url else f"WARNING: {check.rule}"
        yield check.message
        if not 1 <= check.line <= len(self.lines):
            return
        yield f"{self.path}:{check.line}"
        yield _RULE
        first = max(1, check.line - _AROUND)
        last = min(len(self.lines), check.line + _AROUND)
        for number in range(first, last + 1):
            mark = ">>>" if number == check.line else "   "
            yield f" {number:3} | {mark} {self.lines[number - 1]}".rstrip()
        yield _RULE


def check(
    build: BuildOptions,
    cache: CacheOptions | None = None,
    registry: RegistryOptions | None = None,
    *,
    progress: Progress = silent,
) -> CheckReport:
    """Check the Dockerfile that *build* names, and build nothing.

    A base image that cannot be looked at is a warning to *progress*: the rest is checked without.

    Raises:
        KanikoError: the context or the Dockerfile cannot be read, or there is no such target.
    """
    registry = registry or RegistryOptions()
    with open_preview(build, registry, progress) as remote:
        return _checked(build, cache, registry, remote, progress)


def _checked(
    build: BuildOptions,
    cache: CacheOptions | None,
    registry: RegistryOptions,
    remote: RemoteSources,
    progress: Progress,
) -> CheckReport:
    sources = read_sources(build, remote)
    context, source = sources.context, sources.dockerfile
    build_args = build_arguments(build)
    error: KanikoError | None = None
    plan: Plan | None = None
    try:
        project = open_project(build, remote, sources)
        build_args = dict(project.build_args)
        plan = project.plan()
        if not build.target:
            # Any stage may be built one day, so without a target all are looked at.
            plan = project.plan(every_stage=True)
    except DockerfileError as caught:
        error = caught
    on_disk = ImageCache(cache or CacheOptions()) if build.cache else None
    with Registry(registry, push=False, progress=progress) as pull:
        bases = _Bases(plan, BaseImages(pull, on_disk, progress), progress)
        around = _surroundings(context, build_args, build.platforms[0], plan, bases.config)
        report = check_source(source.data, source.path, around)
    lines = source.data.decode("utf-8", "replace").removesuffix("\n").split("\n")
    return CheckReport(
        source.path,
        tuple(line.removesuffix("\r") for line in lines),
        tuple(found for found in report.checks if not bases.guessed(found)),
        report.error or error,
    )


def announce_checks(project: Project, plan: Plan, images: BaseImages, progress: Progress) -> None:
    """Tell *progress* what the build checks find, before *plan* is built.

    Raises:
        DockerfileError: they found something, and the Dockerfile says ``check=error=true``.
        UsageError: the build argument about checks cannot be read.
    """
    config = _Bases(plan, images, progress).config
    around = _surroundings(project.context, project.build_args, project.platform, plan, config)
    dockerfile = project.dockerfile
    policy = check_policy(dockerfile.directives, project.build_args, dockerfile.path)
    # An error in the Dockerfile is met again, and told, where its instruction is built.
    checks = check_dockerfile(dockerfile, around, policy).checks
    for found in checks:
        message = f"{dockerfile.path}:{found.line}: {found.message} ({found.rule})"
        progress(Warned(message, hint=f"see {found.url}" if found.url else None))
    refusal = policy.refusal(checks, dockerfile.path)
    if refusal is not None:
        raise refusal


def _surroundings(
    context: BuildContext,
    build_args: Mapping[str, str],
    platform: Platform | None,
    plan: Plan | None,
    config: Callable[[Stage], ImageConfig | None],
) -> Surroundings:
    host = Platform.host()
    name = None if plan is None else plan.stages[plan.target].stage.start.name
    return Surroundings(
        build_args=build_args,
        build_platform=host,
        target_platform=platform or host,
        target_stage=name or "default",
        base=config,
        ignored=_left_out_by(context.ignore),
        stages=None if plan is None else frozenset(plan.stages),
    )


def _left_out_by(patterns: IgnorePatterns) -> Callable[[str], bool]:
    """Return whether a source of COPY has nothing that *patterns* leave in."""

    def left_out(path: str) -> bool:
        if not patterns.ignored(path):
            return False
        if not patterns.has_exclusions:
            return True
        # Whatever a wildcard or the whole context stands for, a pattern with ! may take back.
        several = path == ANY_FILE or has_wildcard(path)
        return not several and not patterns.may_include_below(path)

    return left_out


class _Bases:
    """The configs of the base images of a plan, as far as they can be had."""

    def __init__(self, plan: Plan | None, images: BaseImages, progress: Progress) -> None:
        self._stages = {} if plan is None else dict(plan.stages)
        self._images = images
        self._progress = progress
        self._unknown: set[ImageBase | LayoutBase] = set()

    def config(self, stage: Stage) -> ImageConfig | None:
        """Return the config of what *stage* starts from, where it is an image of the plan."""
        planned = self._stages.get(stage.number)
        base = None if planned is None else planned.base
        if not isinstance(base, ImageBase | LayoutBase) or base in self._unknown:
            return None
        try:
            return self._images.find(base).config
        except KanikoError as error:
            self._unknown.add(base)
            self._progress(Warned(f"{base.name} is not looked at: {error}", hint=error.hint))
            return None

    def guessed(self, check: Check) -> bool:
        """Whether *check* says something of a stage that only its base image could say."""
        if check.rule not in _NEED_BASE:
            return False
        starts = [(s.stage.start.source.line, s.stage.number) for s in self._stages.values()]
        above = [number for line, number in sorted(starts) if line <= check.line]
        if not above:
            return True
        base = self._stages[above[-1]].base
        while isinstance(base, StageBase):
            base = self._stages[base.number].base
        return base in self._unknown
