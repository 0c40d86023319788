"""Every build check, on one Dockerfile."""

from __future__ import annotations

from kaniko_core.dockerfile.checks.bases import check_defaults, check_starts
from kaniko_core.dockerfile.checks.findings import Findings
from kaniko_core.dockerfile.checks.policy import CheckPolicy, check_policy
from kaniko_core.dockerfile.checks.surroundings import Surroundings
from kaniko_core.dockerfile.checks.walk import check_stages
from kaniko_core.dockerfile.checks.written import (
    check_casing,
    check_description,
    check_names,
    check_spelling,
)
from kaniko_core.dockerfile.instructions import Source
from kaniko_core.dockerfile.lines import logical_lines
from kaniko_core.dockerfile.parser import parse_dockerfile, source_of
from kaniko_core.dockerfile.stages import Check, Dockerfile
from kaniko_core.errors import DockerfileError, KanikoError
from kaniko_core.lean import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks say of a Dockerfile.

    Attributes:
        checks: what they found, in the order of the lines.
        error: what a build would fail with, if it was met; the checks are those up to it. That a
            policy makes an error of *checks* is not in it.
    """

    checks: tuple[Check, ...] = ()
    error: KanikoError | None = None


def check_dockerfile(
    dockerfile: Dockerfile, around: Surroundings, policy: CheckPolicy | None = None
) -> Report:
    """Apply every rule that runs by *policy*; without one, by what the Dockerfile says."""
    if policy is None:
        try:
            policy = check_policy(dockerfile.directives, around.build_args, dockerfile.path)
        except KanikoError as error:
            return Report(error=error)
    findings = Findings(policy)
    for source in _sources(dockerfile):
        check_spelling(source, findings)
        check_description(source, dockerfile.escape, findings)
    check_names(dockerfile, findings)
    check_casing(dockerfile, findings)
    check_defaults(dockerfile, around, findings)
    try:
        scope, starts = check_starts(dockerfile, around, findings)
        check_stages(dockerfile, around, scope, starts, findings)
    except DockerfileError as error:
        return Report(findings.checks, error)
    return Report(findings.checks)


def check_source(data: bytes, path: str, around: Surroundings) -> Report:
    """Apply the rules to the bytes of a Dockerfile, which may have mistakes in it.

    What cannot be parsed is checked up to there, as far as that goes.
    """
    try:
        dockerfile = parse_dockerfile(data, path)
    except DockerfileError as error:
        return Report(_before(data, path, around, error.line), error)
    return check_dockerfile(dockerfile, around)


def _before(data: bytes, path: str, around: Surroundings, line: int) -> tuple[Check, ...]:
    """Check how the instructions are written, up to the one at *line*."""
    try:
        directives, lines = logical_lines(data)
        findings = Findings(check_policy(directives.values, around.build_args, path))
    except KanikoError:
        return ()
    for found in lines:
        source = source_of(found, path)
        if source.line <= line:
            check_spelling(source, findings)
        if source.end_line < line:
            check_description(source, directives.escape, findings)
    return findings.checks


def _sources(dockerfile: Dockerfile) -> list[Source]:
    return [
        *(argument.source for argument in dockerfile.arguments),
        *(i.source for stage in dockerfile.stages for i in (stage.start, *stage.instructions)),
    ]
