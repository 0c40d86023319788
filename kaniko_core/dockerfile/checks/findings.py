"""What checks found so far."""

from __future__ import annotations

from dataclasses import field

from kaniko_core.dockerfile.checks.policy import CheckPolicy
from kaniko_core.dockerfile.checks.rules import RULES
from kaniko_core.dockerfile.instructions import Source
from kaniko_core.dockerfile.stages import Check
from kaniko_core.lean import dataclass


@dataclass(slots=True)
class Findings:
    """Collects what rules say, and leaves out the rules that do not run."""

    policy: CheckPolicy
    found: list[Check] = field(default_factory=list)

    def add(self, rule: str, where: Source, message: str, *, line: int = 0) -> None:
        """Note that *rule* found something; it names *line*, or where the instruction begins."""
        if self.policy.below(where.comments).runs(RULES[rule]):
            self.found.append(Check(rule, message, line or where.line))

    @property
    def checks(self) -> tuple[Check, ...]:
        """What was found, in the order of the lines."""
        return tuple(sorted(self.found, key=lambda check: check.line))


def quoted(text: str) -> str:
    """Return *text* in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
