"""RUN: from an instruction to what its command changed."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from kaniko_core.builder.agents import Agents
from kaniko_core.builder.binds import Binds
from kaniko_core.builder.caches import Caches
from kaniko_core.builder.configure import StageState, command_line, located
from kaniko_core.builder.history import run_script
from kaniko_core.builder.mounts import Find, Prepared, RunMounts
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.secrets import Secrets
from kaniko_core.builder.trees import Pack, Tree, Trees
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.instructions import Run
from kaniko_core.dockerfile.mounts import Mount, parse_mount
from kaniko_core.dockerfile.scope import DEFAULT_PATH
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.errors import CommandFailed, KanikoError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.options import BuildOptions
from kaniko_core.progress import Output, Progress
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.rootfs.users import Accounts
from kaniko_core.sandbox.runner import DEFAULT_HOSTNAME, FileMount, Process
from kaniko_core.values import Entitlement

# How much of a failing command's output is repeated with the error.
_TAIL_BYTES = 2000
_TAIL_LINES = 20
_PROGRAM_MODE = 0o755
_INSECURE = "insecure"
# What shells, and we, make of a program that cannot be executed.
_NOT_EXECUTABLE = 126
# Build arguments that speak to the builder.
HOSTNAME_ARGUMENT = "BUILDKIT_SANDBOX_HOSTNAME"
_CACHE_NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"
# As the kernel and /etc/hosts can have it.
_HOSTNAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs the commands of one build; safe to use from several threads.

    Attributes:
        allow: what RUN may ask for beyond the usual.
        hostname: what commands see as the name of their machine.
    """

    mounts: RunMounts
    secrets: Secrets
    progress: Progress
    allow: Collection[Entitlement] = ()
    hostname: str = DEFAULT_HOSTNAME

    def run(
        self,
        run: Run,
        state: StageState,
        tree: Tree,
        find: Find,
        *,
        label: str,
        pack: Pack | None,
    ) -> Tree:
        """Run the command of *run*, and return the tree after it.

        Args:
            run: as it was parsed; its mounts are expanded here.
            state: the stage at this instruction.
            tree: the files that the command finds.
            find: what the ``from`` of a mount means.
            label: of the stage, for its output.
            pack: makes a layer of what the command changes; None where nobody wants it.

        Raises:
            DockerfileError: what the instruction asks for cannot be had.
            CommandFailed: the command ended with another status than 0.
        """
        with located(run.source):
            _refuse_forbidden(run, self.allow)
            mounts = parsed_mounts(run, state)
        transcript = _Transcript(self.progress, label, self.secrets)
        with ExitStack() as stack:
            with located(run.source):
                given = stack.enter_context(self.mounts.prepared(mounts, state.workdir, find))

            def command(root: Rootfs) -> Process:
                return _with(process_of(run, state, root, hostname=self.hostname), given)

            try:
                after = tree.ran((*given.mounts, *_program(run)), command, transcript, pack)
            except CommandFailed as error:
                transcript.finish()
                error.hint = _foreign(error, state) or error.hint
                raise transcript.explained(error, run) from None
            transcript.finish()
        return after


def commands_of(
    build: BuildOptions,
    workspace: Workspace,
    trees: Trees,
    *,
    secrets: Secrets,
    agents: Agents,
    shared: Path | None,
) -> Commands:
    """Prepare to run the commands of one build.

    Args:
        build: whose build arguments are wanted.
        workspace: where everything of the build is.
        trees: what the commands run in.
        secrets: read already.
        agents: open as long as commands run.
        shared: the directory in which caches are kept for later builds; None where none is.

    Raises:
        UsageError: the host name cannot be used.
    """
    arguments = dict(build.build_arg)
    hostname = arguments.get(HOSTNAME_ARGUMENT) or DEFAULT_HOSTNAME
    if _HOSTNAMES.fullmatch(hostname) is None:
        raise UsageError(
            f"{HOSTNAME_ARGUMENT}={hostname} is no host name",
            hint="a name has letters, digits, dots and dashes, and at most 64 of them",
        )
    progress = workspace.progress
    caches = Caches(
        shared,
        lambda: workspace.fresh("caches"),
        progress,
        lambda: workspace.cancelled,
        mode=0o711 if trees.lends_paths else 0o700,
        hold=workspace.hold,
    )
    mounts = RunMounts(
        workspace,
        trees,
        Binds(workspace, trees),
        caches,
        secrets,
        agents,
        arguments.get(_CACHE_NAMESPACE) or "",
    )
    return Commands(mounts, secrets, progress, build.allow, hostname)


def refuse_forbidden(plan: Plan, allow: Collection[Entitlement]) -> None:
    """Refuse the first instruction of *plan* that asks for rights that the user does not allow.

    The network of the builder is what every command has, so asking for it is no matter.

    Raises:
        DockerfileError: there is one.
    """
    for stage in plan.stages.values():
        for instruction in stage.instructions:
            if isinstance(instruction, Run):
                with located(instruction.source):
                    _refuse_forbidden(instruction, allow)


def _refuse_forbidden(run: Run, allow: Collection[Entitlement]) -> None:
    if run.security == _INSECURE and Entitlement.INSECURE not in allow:
        raise UsageError(
            f"RUN --security={_INSECURE} is not allowed: the command would get every right "
            "that the builder has",
            hint=f"if you trust the Dockerfile, allow it with --allow {Entitlement.INSECURE.value}",
        )


def parsed_mounts(run: Run, state: StageState) -> list[Mount]:
    """Return the mounts of *run*, expanded by the variables in force.

    Raises:
        UsageError: one of them cannot be.
        WordError: a variable cannot be expanded.
    """
    lexer = Lexer(state.escape)
    variables = state.scope.variables
    return [parse_mount(text, lambda word: lexer.expand(word, variables)) for text in run.mounts]


def process_of(
    run: Run, state: StageState, root: Rootfs, *, hostname: str = DEFAULT_HOSTNAME
) -> Process:
    """Return the process that *run* starts in the tree *root*, but for what its mounts add.

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
            hostname=hostname,
            privileged=run.security == _INSECURE,
        )


def _foreign(error: CommandFailed, state: StageState) -> str | None:
    """Return a hint for a command of another platform than this machine's."""
    ours, wanted = Platform.host(), state.config.platform
    if error.exit_status != _NOT_EXECUTABLE or wanted.serves(ours):
        return None
    return (
        f"the image is for {wanted} and this machine is {ours}: choose another base image, or "
        "build on a machine of its kind"
    )


def _environment(variables: Mapping[str, str], home: str) -> tuple[str, ...]:
    env = {"PATH": DEFAULT_PATH, "HOME": home, **variables}
    return tuple(f"{name}={value}" for name, value in env.items())


def _program(run: Run) -> tuple[FileMount, ...]:
    """Return the file of a here-document that is a program."""
    if not run.command.shell:
        return ()
    script = run_script(" ".join(run.command.argv), run.heredocs)
    if script is None:
        return ()
    path, content = script
    return (FileMount(path, content.encode("utf-8", "surrogateescape"), _PROGRAM_MODE),)


def _with(process: Process, given: Prepared) -> Process:
    env = process.env
    if given.agent is not None and not any(pair.startswith("SSH_AUTH_SOCK=") for pair in env):
        env = (*env, f"SSH_AUTH_SOCK={given.agent}")
    return replace(process, env=env, secret_env=given.secret_env)


class _Transcript:
    """Passes a command's output on as it comes, without secrets, and remembers how it ended."""

    def __init__(self, progress: Progress, label: str, secrets: Secrets) -> None:
        self._progress = progress
        self._label = label
        self._masks = {stderr: secrets.mask() for stderr in (False, True)}
        self._kept = b""

    def __call__(self, data: bytes, stderr: bool) -> None:
        self._pass_on(self._masks[stderr](data), stderr)

    def finish(self) -> None:
        """Pass on what was held back because it might have become a secret."""
        for stderr, mask in self._masks.items():
            self._pass_on(mask.finish(), stderr)

    def explained(self, error: CommandFailed, run: Run) -> CommandFailed:
        """Return *error* with the command's place and the last lines of its output."""
        mask = self._masks[False]
        message = f"{run.source.path}:{run.source.line}: {mask.text(str(error))}"
        lines = self._kept.decode(errors="replace").splitlines()[-_TAIL_LINES:]
        if lines:
            message += "; its last output was:" + "".join(f"\n    {line}" for line in lines)
        argv = [mask.text(word) for word in error.argv]
        return CommandFailed(message, argv=argv, exit_status=error.exit_status, hint=error.hint)

    def _pass_on(self, data: bytes, stderr: bool) -> None:
        if data:
            self._progress(Output(self._label, data, stderr))
            self._kept = (self._kept + data)[-_TAIL_BYTES:]
