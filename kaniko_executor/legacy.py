"""What users of Go kaniko still say, and what is left of its meaning."""

from __future__ import annotations

from typing import Annotated

from kaniko_core.lean import dataclass
from kaniko_core.options import Flag


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherOptions:
    """What a build is called with beside everything that matters for its image."""

    print_plan: Annotated[bool, Flag("Print the plan, as --dryrun does, and then build.")] = False
    force_build_metadata: Annotated[
        bool,
        Flag(
            "Accepted for Go kaniko's users.",
            hidden=True,
            notice="the history of an image has all its instructions",
        ),
    ] = False
    skip_unused_stages: Annotated[
        bool,
        Flag(
            "Accepted for Go kaniko's users.",
            hidden=True,
            notice="stages that the image does not need are never built",
        ),
    ] = False
