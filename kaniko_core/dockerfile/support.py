"""What this version does not build yet, in one table.

The whole language is parsed; what the builder cannot do is refused before anything is
fetched, because a build that leaves something out silently is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kaniko_core.dockerfile.instructions import Add, Copy, Instruction, OnBuild, Run
from kaniko_core.dockerfile.stages import Dockerfile
from kaniko_core.errors import DockerfileError

_URL = re.compile(r"https?://", re.IGNORECASE)
_GIT = re.compile(r"git://|ssh://|git@|(?:git\+)?https?://[^#?]*\.git(?:[#?]|$)", re.IGNORECASE)
_MOUNT_HINT = "copy what the command needs with COPY, and remove it in the same stage"
_LATER = "build this Dockerfile with another builder until then"

# What is refused: for which instruction, when, what to call it, and what to do instead.
_REFUSED: tuple[tuple[type[Instruction], Callable[..., bool], str, str], ...] = (
    (Run, lambda run: bool(run.mounts), "RUN --mount", _MOUNT_HINT),
    (Run, lambda run: run.network not in (None, "default"), "RUN --network", _LATER),
    (Run, lambda run: run.security not in (None, "sandbox"), "RUN --security", _LATER),
    (Run, lambda run: bool(run.devices), "RUN --device", _LATER),
    (Run, lambda run: bool(run.heredocs), "a here-document in RUN", "join its lines with &&"),
    (Copy, lambda copy: bool(copy.heredocs), "a here-document in COPY", "copy a file instead"),
    (Copy, lambda copy: copy.parents, "COPY --parents", "copy each directory on its own"),
    (Copy, lambda copy: bool(copy.exclude), "COPY --exclude", "list it in .dockerignore"),
    (Add, lambda add: bool(add.heredocs), "a here-document in ADD", "add a file instead"),
    (Add, lambda add: bool(add.exclude), "ADD --exclude", "list it in .dockerignore"),
    (Add, lambda add: add.checksum is not None, "ADD --checksum", _LATER),
    (Add, lambda add: add.keep_git_dir is not None, "ADD --keep-git-dir", _LATER),
    (Add, lambda add: add.unpack is not None, "ADD --unpack", "leave it out for local archives"),
    (Add, lambda add: any(map(_GIT.match, add.sources)), "ADD of a git repository", _LATER),
    (Add, lambda add: any(map(_URL.match, add.sources)), "ADD of a URL", "download it in a RUN"),
    (OnBuild, lambda _: True, "ONBUILD", "write the instruction where it is to run"),
)


def refuse_unsupported(dockerfile: Dockerfile) -> None:
    """Refuse *dockerfile* if there is anything in its stages that this version cannot build.

    Raises:
        DockerfileError: names the first such place.
    """
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            for what, hint in _unsupported(instruction):
                source = instruction.source
                raise DockerfileError(
                    f"{what} is not supported yet",
                    path=source.path,
                    line=source.line,
                    source=source.text,
                    hint=hint,
                )


def _unsupported(instruction: Instruction) -> Iterator[tuple[str, str]]:
    for kind, wanted, what, hint in _REFUSED:
        if isinstance(instruction, kind) and wanted(instruction):
            yield what, hint
