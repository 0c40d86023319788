"""What a Dockerfile is checked with, besides its own text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field

from kaniko_core.dockerfile.stages import Stage
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import ImageConfig

_PREDEFINED = re.compile("TARGETSTAGE|(BUILD|TARGET)(PLATFORM|OS|OSVERSION|ARCH|VARIANT)")


def _unknown(_: Stage) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Dockerfile is checked with.

    Attributes:
        build_args: values given by ``--build-arg``.
        target_stage: the name of the target, as TARGETSTAGE has it.
        base: the config of the image that a stage starts from, for its variables, its SHELL, its
            triggers and its platform; None where it is not known. Never asked about ``scratch``
            and stages that start from others.
        ignored: whether a path of the build context, which may have wildcards, is left out with
            all that it may stand for; None where there is no .dockerignore.
        stages: the numbers of the stages to check; None for all. Rules about FROM, and about how
            instructions are written, are applied to every stage.
    """

    build_args: Mapping[str, str] = field(default_factory=dict)
    build_platform: Platform = field(default_factory=Platform.host)
    target_platform: Platform = field(default_factory=Platform.host)
    target_stage: str = "default"
    base: Callable[[Stage], ImageConfig | None] = _unknown
    ignored: Callable[[str], bool] | None = None
    stages: frozenset[int] | None = None

    @property
    def predefined_args(self) -> Mapping[str, str]:
        """Those build arguments that need no ARG before the first FROM."""
        return {
            name: value for name, value in self.build_args.items() if _PREDEFINED.fullmatch(name)
        }
