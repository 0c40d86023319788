"""What a build starts from: the Dockerfile, its contexts, and the plan that follows from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from kaniko_core.addresses.archives import TarFile, WebFile
from kaniko_core.addresses.git import GitReference
from kaniko_core.addresses.url import is_http_address, parse_url
from kaniko_core.attestations.materials import published
from kaniko_core.builder import epoch
from kaniko_core.builder.agents import Agents
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.plan import ContextBase, ImageBase, LayoutBase, Plan
from kaniko_core.builder.planner import Triggers, make_plan
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.secrets import Secrets, read_secrets
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.workspace import Workspace, open_workspace
from kaniko_core.context import (
    BuildContext,
    DockerfileSource,
    open_context,
    open_named,
    outside_dockerfile,
    read_dockerfile,
)
from kaniko_core.context.fetched import FetchedContext, ignore_files, open_fetched
from kaniko_core.context.location import parse_location
from kaniko_core.context.named import (
    ArchiveContext,
    GitContext,
    LocalContext,
    NamedContext,
    NamedContexts,
)
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.stages import Dockerfile
from kaniko_core.dockerfile.support import refuse_unsupported
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.options import BuildOptions, ImageOptions, RegistryOptions
from kaniko_core.progress import Progress, Warned
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.values import boolean

# Configs of base images that are asked for at once.
_CONFIGS = 8
# Source: OCI image specification, "Annotations".
_SOURCE, _REVISION = "org.opencontainers.image.source", "org.opencontainers.image.revision"
_KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"


@dataclass(frozen=True, slots=True)
class Project:
    """One Dockerfile with all that the user said about it.

    Attributes:
        context: the files of COPY and ADD.
        named: what ``--build-context`` says.
        build_args: values for ARGs.
        epoch: the time that stands for the present, in seconds since 1970.
        text: the Dockerfile as it was written.
        fetched: where the context came from; None for a directory of this machine.
        own: whether the Dockerfile is one of the context's.
    """

    context: BuildContext
    named: NamedContexts
    dockerfile: Dockerfile
    build_args: Mapping[str, str]
    targets: tuple[str, ...] = ("",)
    platform: Platform | None = None
    epoch: int | None = None
    text: bytes = b""
    fetched: FetchedContext | None = None
    own: bool = True

    @property
    def origin(self) -> dict[str, str]:
        """What there is to say of where the context was fetched; empty for a directory."""
        if self.fetched is None:
            return {}
        uri = published(self.fetched.address) or self.fetched.name
        return {"uri": uri, self.fetched.kind: str(self.fetched.version)}

    def each(self, platforms: Iterable[Platform | None]) -> list[Project]:
        """Return this for each of *platforms*."""
        return [replace(self, platform=platform) for platform in platforms]

    def plan(self, triggers: Triggers = lambda _: (), *, every_stage: bool = False) -> Plan:
        """Return what is to be built; *triggers* knows the ONBUILD of base images.

        With *every_stage* it is what the Dockerfile could be built to.

        Raises:
            DockerfileError: a stage or image that is named cannot be, or cannot be built.
            UsageError: there is no such target.
        """
        plan = make_plan(
            self.dockerfile,
            targets=self.targets,
            build_args=self.build_args,
            target_platform=self.platform,
            contexts=self.named,
            triggers=triggers,
            every_stage=every_stage,
        )
        for stage in () if every_stage else plan.stages.values():
            # A stage that is not built may hold anything.
            refuse_unsupported(stage.instructions)
        return plan

    def plan_with(self, images: BaseImages) -> Plan:
        """Return the plan with what the ONBUILD of its base images adds: asks for their configs.

        Raises:
            ContextError: a directory that stands for something does not exist.
            KanikoError: a base image cannot be found.
        """

        def triggers(wanted: ImageBase | LayoutBase) -> tuple[str, ...]:
            return images.find(wanted).config.config.on_build

        plan = _with_directories(self.plan())
        with ThreadPoolExecutor(_CONFIGS, thread_name_prefix="config") as pool:
            # A trigger may need more stages, and those more images: they are asked for in turn.
            try:
                list(pool.map(images.find, sorted(plan.bases, key=lambda base: base.name)))
            except KeyboardInterrupt:
                images.cancel()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return _with_directories(self.plan(triggers))


def _with_directories(plan: Plan) -> Plan:
    """Return *plan*, if the directories that it needs are there: hours later is too late."""
    for stage in plan.stages.values():
        for origin in stage.all_origins:
            if isinstance(origin, ContextBase) and isinstance(origin.context, LocalContext):
                open_named(origin.name, origin.context.directory)
    return plan


@dataclass(frozen=True, slots=True)
class Sources:
    """What a build is made from.

    Attributes:
        context: the files of COPY and ADD.
        dockerfile: as it was written.
        fetched: where the context came from; None for a directory of this machine.
        own: whether the Dockerfile is one of the context's.
    """

    context: BuildContext
    dockerfile: DockerfileSource
    fetched: FetchedContext | None = None
    own: bool = True


@contextmanager
def open_preview(
    options: BuildOptions, registry: RegistryOptions, progress: Progress
) -> Iterator[RemoteSources]:
    """Fetch what only shall be looked at; it is removed at the end of the block.

    Raises:
        DiskError: there is no place for it.
    """
    with (
        open_workspace(options.kaniko_dir, None, progress) as workspace,
        remote_sources(options, registry, workspace, read_secrets(options.secret)) as remote,
    ):
        yield remote


def remote_sources(
    options: BuildOptions,
    registry: RegistryOptions,
    workspace: Workspace,
    secrets: Secrets,
    agents: Agents | None = None,
) -> RemoteSources:
    """Return what fetches for a build, into *workspace*; close it.

    Raises:
        UsageError: the context cannot be what the options say.
    """
    return RemoteSources(
        workspace.fresh,
        options=registry,
        secrets=secrets.values,
        ssh_socket=lambda: None if agents is None else agents.sockets.get("default"),
        progress=workspace.progress,
        limit=options.context_limit,
        own=_own_repository(options),
    )


def read_sources(options: BuildOptions, remote: RemoteSources) -> Sources:
    """Find the context, fetch it if need be, and read the Dockerfile, whatever is in it.

    Raises:
        ContextError: one of them cannot be read, or fetched.
        UsageError: an option is wrong.
    """
    dockerfile: str | DockerfileSource = options.dockerfile
    if is_http_address(options.dockerfile):
        dockerfile = _fetched(options.dockerfile, remote)
    location = remote.location(options.location)
    sub_path = options.context_sub_path
    if isinstance(location, Path):
        return Sources(*open_context(str(location), sub_path, dockerfile))
    if isinstance(location, GitReference):
        location = _with_git_dir(location, build_arguments(options))
    if isinstance(dockerfile, str):
        dockerfile = outside_dockerfile(dockerfile) or dockerfile
    outside = dockerfile if isinstance(dockerfile, DockerfileSource) else None
    leaving = ignore_files(options.dockerfile, sub_path, outside)
    fetched = remote.context(location, leaving, cloning=options.cloning)
    context, source = open_fetched(fetched.directory, fetched.name, leaving, dockerfile)
    if outside is not None and options.dockerfile == BuildOptions().dockerfile:
        remote.progress(
            Warned(f"the Dockerfile is that of this directory, not that of {fetched.name}")
        )
    return Sources(context, source, fetched, own=outside is None)


def _with_git_dir(reference: GitReference, build_args: Mapping[str, str]) -> GitReference:
    """Return *reference* with what the build argument says about ``.git``, where it says nothing.

    As BuildKit reads it, what is neither true nor false means yes.
    """
    keep = build_args.get(_KEEP_GIT_DIR)
    if keep is None or reference.keep_git_dir is not None:
        return reference
    return replace(reference, keep_git_dir=keep != "" and boolean(keep) is not False)


def _own_repository(options: BuildOptions) -> GitReference | None:
    """Return the repository that the credentials of the environment are for: the context's.

    Where the context is none, it is the first that ``--build-context`` names.
    """
    named = NamedContexts.parse(options.build_context)
    found = [parse_location(options.location), *named.repositories]
    return next((item for item in found if isinstance(item, GitReference)), None)


def _fetched(address: str, remote: RemoteSources) -> DockerfileSource:
    fetched = remote.file(WebFile(address))
    # What an address has besides its path may be a password.
    return read_dockerfile(fetched.path, parse_url(address).name)


def open_project(
    options: BuildOptions,
    remote: RemoteSources,
    sources: Sources | None = None,
    *,
    reproducible: bool = False,
) -> Project:
    """Find the context, and read the Dockerfile; unless they are given as *sources*.

    What is *reproducible* is of 1970 where nothing else is said: the present is never the same.

    Raises:
        ContextError: the context or the Dockerfile cannot be read.
        DockerfileError: the Dockerfile is wrong.
        UsageError: an option is.
    """
    named = NamedContexts.parse(options.build_context)
    found = sources or read_sources(options, remote)
    if ArchiveContext(TarFile(None)) in named:
        # Now, because nobody can be woken who waits for somebody to type.
        remote.archive(TarFile(None))
    source = found.dockerfile
    project = Project(
        found.context,
        named,
        parse_dockerfile(source.data, source.path),
        build_arguments(options),
        options.targets,
        options.platforms[0],
        text=source.data,
        fetched=found.fetched,
        own=found.own,
    )
    project = _timed(project, remote)
    return _at(project, 0) if reproducible and project.epoch is None else project


def labelled(image: ImageOptions, options: BuildOptions, project: Project) -> ImageOptions:
    """Return *image* with the labels of the context's commit, if the user asks for them."""
    fetched = project.fetched
    if not options.cloning.labels or fetched is None or isinstance(fetched.version, Digest):
        return image
    source = published(fetched.address).partition("#")[0]
    labels = ((_SOURCE, source), (_REVISION, fetched.version))
    # What the user says himself comes later, and counts.
    return replace(image, label=(*labels, *image.label))


def build_arguments(options: BuildOptions) -> dict[str, str]:
    """Return the values that are given for ARGs."""
    given = {epoch.NAME: options.source_date_epoch} if options.source_date_epoch else {}
    return given | {name: value for name, value in options.build_arg if value is not None}


def _timed(project: Project, remote: RemoteSources) -> Project:
    """Return *project* with its SOURCE_DATE_EPOCH; an ARG of that name has it in seconds."""
    arguments = project.plan().arguments
    if epoch.NAME not in project.build_args and epoch.NAME not in arguments.variables:
        return project

    def time_of(context: NamedContext) -> int | None:
        match context:
            case GitContext(reference):
                return remote.git_tree(reference, own=True).time
            case ArchiveContext(address):
                return remote.archive(address).time
            case _:
                # Nobody knows when a directory, or an image, was made.
                return None

    seconds = epoch.epoch_of(
        project.dockerfile,
        arguments,
        project.build_args,
        context_time=None if project.fetched is None else project.fetched.time,
        named=lambda name: project.named.find(name, project.platform or Platform.host()),
        named_time=time_of,
        added_time=remote.time_of,
    )
    return _at(project, seconds)


def _at(project: Project, seconds: int | None) -> Project:
    """Return *project* with its SOURCE_DATE_EPOCH, which commands may ask for."""
    text = "" if seconds is None else str(seconds)
    return replace(project, epoch=seconds, build_args={**project.build_args, epoch.NAME: text})


class ContextFiles:
    """The files of all contexts, each opened by the first who asks; safe between threads."""

    def __init__(self, project: Project, remote: RemoteSources, stack: ExitStack) -> None:
        self._remote = remote
        self._build_args = project.build_args
        self._stack = stack
        self._lock = threading.Lock()
        self._open: dict[ContextBase, CopySource] = {}
        self.main = self._source(project.context, "the build context")

    def of(self, wanted: ContextBase) -> CopySource:
        """Return the files of a named context.

        Raises:
            ContextError: it cannot be fetched, or read.
        """
        with self._lock:
            if wanted not in self._open:
                self._open[wanted] = self._opened(wanted)
            return self._open[wanted]

    def _opened(self, wanted: ContextBase) -> CopySource:
        match wanted.context:
            case LocalContext(directory):
                context = open_named(wanted.name, directory)
            case GitContext(reference):
                reference = _with_git_dir(reference, self._build_args)
                context = BuildContext(self._remote.git_tree(reference, own=True).directory)
            case ArchiveContext(address):
                context = BuildContext(self._remote.archive(address).directory)
            case never:
                assert_never(never)
        return self._source(context, f"the context {wanted.name}")

    def _source(self, context: BuildContext, name: str) -> CopySource:
        root = self._stack.enter_context(Rootfs(context.directory))
        return CopySource(root, name, context.ignore, keep_owners=False)
