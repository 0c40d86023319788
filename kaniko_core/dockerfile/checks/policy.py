"""Which checks run, and whether what they find is an error.

    # check=skip=StageNameCasing,FromAsCasing;error=true;experimental=all

stands at the head of the file, or (``skip`` and ``experimental`` alone) in a comment right
above an instruction; the build argument ``BUILDKIT_DOCKERFILE_CHECK`` replaces the former.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Self

from kaniko_core.dockerfile.checks.rules import Rule
from kaniko_core.dockerfile.stages import Check
from kaniko_core.errors import DockerfileError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.values import boolean

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
_ALL = "all"
# What is behind the second semicolon is one option, whatever is in it. Source: BuildKit.
_MOST_OPTIONS = 3
_IN_COMMENT = re.compile(r"check\s*=\s*(\S+).*", re.ASCII | re.IGNORECASE)
_HINT = "it looks like skip=RuleOne,RuleTwo;error=true;experimental=all"


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """Which checks run, and whether findings are errors.

    Attributes:
        skipped: names of rules; ``all`` stands for every rule that is not experimental.
        experimental: names of experimental rules that run all the same; or ``all``.
        errors: whether the build fails where a check finds something.
    """

    skipped: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    errors: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of the directive; raise :class:`UsageError` where it is none.

        Names that no rule has are taken, since a later version may know them.
        """
        policy = cls()
        for option in text.strip().split(";", _MOST_OPTIONS - 1) if text.strip() else ():
            name, equals, value = option.partition("=")
            name, value = name.strip(), value.strip()
            if not equals or name not in ("skip", "error", "experimental"):
                raise UsageError(f"{option!r} is no option of build checks", hint=_HINT)
            if name == "error":
                errors = boolean(value)
                if errors is None:
                    raise UsageError(f"{option!r} is neither true nor false", hint=_HINT)
                policy = replace(policy, errors=errors)
            elif name == "skip":
                policy = replace(policy, skipped=_names(value))
            else:
                policy = replace(policy, experimental=_names(value))
        return policy

    def runs(self, rule: Rule) -> bool:
        """Whether *rule* is to be applied; an experimental one that is asked for always is."""
        if rule.experimental:
            return not self.experimental.isdisjoint((_ALL, rule.name))
        return self.skipped.isdisjoint((_ALL, rule.name))

    def below(self, comments: Iterable[str]) -> CheckPolicy:
        """Return the policy for an instruction with *comments* right above it.

        The first of them that is a check directive counts; one that cannot be read has no effect.
        """
        own = next(filter(None, map(_IN_COMMENT.fullmatch, comments)), None)
        if own is None:
            return self
        try:
            added = CheckPolicy.parse(own[1])
        except UsageError:
            return self
        return replace(
            self,
            skipped=self.skipped | added.skipped,
            experimental=self.experimental | added.experimental,
        )

    def refusal(self, checks: Iterable[Check], path: str) -> DockerfileError | None:
        """Return the error that *checks* are to this policy; None where they are none."""
        found = tuple(checks)
        if not self.errors or not found:
            return None
        rules = ", ".join(dict.fromkeys(check.rule for check in found))
        return DockerfileError(
            f"build checks found something, and error=true makes that an error: {rules}",
            path=path,
            line=found[0].line,
            hint="change what they name, or skip rules with # check=skip=…;error=true",
        )


def is_check(comment: str) -> bool:
    """Whether *comment*, without its ``#``, is a check directive."""
    return _IN_COMMENT.fullmatch(comment) is not None


def check_policy(
    directives: Mapping[str, str], build_args: Mapping[str, str], path: str
) -> CheckPolicy:
    """Return the policy of a Dockerfile with *directives*, built with *build_args*.

    Raises:
        DockerfileError: the directive cannot be read.
        UsageError: the build argument cannot be read.
    """
    given = build_args.get(BUILD_ARG)
    if given:
        try:
            return CheckPolicy.parse(given)
        except UsageError as error:
            raise UsageError(f"--build-arg {BUILD_ARG}: {error}", hint=error.hint) from None
    try:
        # What is behind a space is a remark.
        return CheckPolicy.parse(directives.get("check", "").partition(" ")[0])
    except UsageError as error:
        raise DockerfileError(
            f"the directive check cannot be read: {error}", path=path, hint=error.hint
        ) from None


def _names(value: str) -> frozenset[str]:
    return frozenset(name.strip() for name in value.split(","))
