"""RUN ``--mount``: from what is written to what the command finds in its root."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from pathlib import Path

from kaniko_core.builder.agents import Agents
from kaniko_core.builder.binds import (
    Binds,
    copied_entries,
    copy_files,
    directory_named,
    fingerprint,
)
from kaniko_core.builder.caches import Caches, Wanted
from kaniko_core.builder.secrets import Secrets
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.trees import Tree, Trees
from kaniko_core.builder.workspace import Workspace
from kaniko_core.dockerfile.mounts import Mount, MountKind, Sharing
from kaniko_core.dockerfile.paths import refuse_zero_bytes
from kaniko_core.errors import KanikoError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.sandbox import runner
from kaniko_core.sandbox.runner import BindMount, FileMount, TmpfsMount

_SECRETS = "/run/secrets"
_SOCKETS = "/run/buildkit/ssh_agent"
_DEFAULT_AGENT = "default"
_SECRET_MODE = 0o400
_SOCKET_MODE = 0o600
_CACHE_MODE = 0o755
_PERMISSIONS = 0o7777


@dataclass(frozen=True, slots=True)
class NamedTree:
    """The files of a stage or an image; *name* is for messages: ``stage builder``."""

    tree: Tree
    name: str

    @property
    def source(self) -> CopySource:
        """The same, to be copied from."""
        return CopySource(self.tree.view, self.name)


# What the ``from`` of a mount means; empty for the build context.
Find = Callable[[str], CopySource | NamedTree]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a command gets by its mounts.

    Attributes:
        mounts: those at one place are one: the last that was written.
        agent: the value of ``SSH_AUTH_SOCK``; None where there is no such mount.
        secret_env: ``NAME=value`` of secrets.
    """

    mounts: tuple[runner.Mount, ...] = ()
    agent: str | None = None
    secret_env: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RunMounts:
    """Prepares the mounts of one build's commands; safe to use from several threads.

    Attributes:
        namespace: keeps the caches of different builds apart: ``BUILDKIT_CACHE_MOUNT_NS``.
    """

    workspace: Workspace
    trees: Trees
    binds: Binds
    caches: Caches
    secrets: Secrets
    agents: Agents
    namespace: str = ""

    @contextmanager
    def prepared(self, mounts: Sequence[Mount], workdir: str, find: Find) -> Iterator[Prepared]:
        """Yield what a command with *mounts* gets as long as the block lasts.

        Args:
            mounts: expanded, in the order of the instruction.
            workdir: what relative targets are below.
            find: what the ``from`` of a mount means.

        Raises:
            KanikoError: something to be mounted is not there, or cannot be had.
        """
        with ExitStack() as stack:
            preparation = _Preparation(self, workdir, find, stack)
            preparation.lend_caches([m for m in mounts if m.kind is MountKind.CACHE])
            for mount in mounts:
                preparation.add(mount)
            yield preparation.finished()


@dataclass(slots=True)
class _Preparation:
    """The mounts of one command in the making; *placed* is by target."""

    given: RunMounts
    workdir: str
    find: Find
    stack: ExitStack
    placed: dict[str, runner.Mount] = field(default_factory=dict)
    secret_env: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    wanted: dict[int, Wanted] = field(default_factory=dict)
    caches: Mapping[str, Path] = field(default_factory=dict)

    def lend_caches(self, mounts: Sequence[Mount]) -> None:
        """Take every cache at once, so that nobody waits for one while holding another."""
        self.wanted = {id(mount): self._wanted(mount) for mount in mounts}
        self.caches = self.stack.enter_context(self.given.caches.lent([*self.wanted.values()]))

    def add(self, mount: Mount) -> None:
        match mount.kind:
            case MountKind.BIND:
                self._place(self._bind(mount))
            case MountKind.CACHE:
                path = self.caches[self.wanted[id(mount)].directory_name]
                target = self._target(mount.target)
                self._place(BindMount(target, path, writable=not mount.read_only, lasting=True))
            case MountKind.TMPFS:
                target = self._target(mount.target)
                self._place(TmpfsMount(target, mount.size, read_only=mount.read_only))
            case MountKind.SECRET:
                self._secret(mount)
            case MountKind.SSH:
                self._agent(mount)

    def finished(self) -> Prepared:
        agent = self.sockets[0] if self.sockets else None
        return Prepared(tuple(self.placed.values()), agent, tuple(self.secret_env))

    def _place(self, mount: runner.Mount) -> None:
        self.placed.pop(mount.target, None)
        self.placed[mount.target] = mount

    def _target(self, text: str) -> str:
        refuse_zero_bytes(text)
        path = "/" + posixpath.normpath(posixpath.join("/", self.workdir, text)).lstrip("/")
        if path == "/":
            raise UsageError(
                "nothing can be mounted in the place of the root directory",
                hint="give the mount a target= below it, or the stage a WORKDIR",
            )
        return path

    def _bind(self, mount: Mount) -> BindMount:
        origin, target = self.find(mount.from_), self._target(mount.target)
        binds, write = self.given.binds, not mount.read_only
        if isinstance(origin, NamedTree):
            tree, name = origin.tree, origin.name
            return binds.tree(tree, name, mount.source, target, self.stack, write=write)
        return binds.files(origin, mount.source, target, self.stack, write=write)

    def _wanted(self, mount: Mount) -> Wanted:
        self._target(mount.target)
        name = mount.id or posixpath.normpath(mount.target)
        wanted = Wanted(
            name,
            (self.given.namespace,),
            mount.sharing or Sharing.SHARED,
            (_CACHE_MODE if mount.mode is None else mount.mode) & _PERMISSIONS,
            (mount.uid or 0, mount.gid or 0),
        )
        if not mount.from_:
            if posixpath.normpath("/" + mount.source).strip("/"):
                raise UsageError(
                    f"the cache {name} is to show its {mount.source}, and a new cache is empty",
                    hint="name with from= where its first files are",
                )
            return wanted
        origin = self.find(mount.from_)
        source = origin.source if isinstance(origin, NamedTree) else origin
        entries = copied_entries(source, directory_named(source, mount.source))
        whiteouts, check = self.given.trees.whiteouts, self.given.workspace.check
        return replace(
            wanted,
            key=(*wanted.key, fingerprint(entries)),
            fill=lambda directory: copy_files(entries, directory, whiteouts, check),
        )

    def _secret(self, mount: Mount) -> None:
        id_ = mount.source or mount.id or posixpath.basename(posixpath.normpath(mount.target))
        value = self.given.secrets.values.get(id_)
        if value is None:
            if mount.required:
                raise UsageError(
                    f"the secret {id_} is required, and the build was given none of that id",
                    hint=f"give it with --secret id={id_},src=FILE",
                )
            return
        if mount.env is not None:
            self.secret_env.append(_variable(id_, mount.env, value))
        if mount.env is None or mount.target:
            target = mount.target or f"{_SECRETS}/{posixpath.basename(id_)}"
            mode = (_SECRET_MODE if mount.mode is None else mount.mode) & _PERMISSIONS
            owner = (mount.uid or 0, mount.gid or 0)
            self._place(FileMount(self._target(target), value, mode, *owner))

    def _agent(self, mount: Mount) -> None:
        if mount.source:
            raise UsageError("source does not go with an ssh mount", hint="name the agent with id=")
        id_ = mount.id or _DEFAULT_AGENT
        target = self._target(mount.target or f"{_SOCKETS}.{len(self.sockets)}")
        self.sockets.append(target)
        if id_ not in self.given.agents.sockets:
            if mount.required:
                raise UsageError(
                    f"the SSH agent {id_} is required, and the build was given none of that id",
                    hint=f"give it with --ssh {id_}=SOCKET, or --ssh {id_}=KEYFILE",
                )
            return
        socket = self.stack.enter_context(
            self.given.agents.offered(
                id_,
                self.given.workspace.fresh("agents"),
                mode=(_SOCKET_MODE if mount.mode is None else mount.mode) & _PERMISSIONS,
                owner=(mount.uid or 0, mount.gid or 0),
            )
        )
        bind = BindMount(target, socket.parent, socket.name, writable=True, lasting=True)
        self._place(bind)


def _variable(id_: str, name: str, value: bytes) -> str:
    if not name or not {"=", "\0"}.isdisjoint(name) or b"\0" in value:
        raise KanikoError(
            f"the secret {id_} cannot be the value of a variable {name!r}",
            hint="mount it as a file: leave env= out",
        )
    return f"{name}={os.fsdecode(value)}"
