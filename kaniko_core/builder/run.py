"""RUN: from an instruction to a process."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from kaniko_core.builder.configure import DEFAULT_PATH, StageState, command_line, located
from kaniko_core.dockerfile.instructions import Run
from kaniko_core.errors import KanikoError
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.users import Accounts
from kaniko_core.sandbox.runner import Process


def process_of(run: Run, state: StageState, root: Rootfs) -> Process:
    """Return the process that *run* starts in the tree *root*.

    It sees the image's ENV, and every build argument that is declared; where both have a name,
    the scope knows which one counts. PATH and HOME are there always.

    Raises:
        DockerfileError: USER names nobody whom the image knows.
    """
    with located(run.source):
        argv = command_line(state, run)
        if not argv:
            raise KanikoError("RUN has nothing to run", hint="give it a command")
        identity = Accounts.of(root).identity(state.user)
        return Process(
            argv=argv,
            env=_environment(state.scope.process_variables, identity.home),
            cwd=posixpath.normpath("/" + state.workdir.lstrip("/")),
            uid=identity.uid,
            gid=identity.gid,
            groups=identity.groups,
            network=run.network != "none",
        )


def _environment(variables: Mapping[str, str], home: str) -> tuple[str, ...]:
    env = {"PATH": DEFAULT_PATH, "HOME": home, **variables}
    return tuple(f"{name}={value}" for name, value in env.items())
