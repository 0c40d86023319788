"""What a build starts from: the Dockerfile, its contexts, and the plan that follows from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import assert_never

from kaniko_core.addresses.url import is_http_address, parse_url
from kaniko_core.builder import epoch
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.plan import ContextBase, ImageBase, LayoutBase, Plan
from kaniko_core.builder.planner import Triggers, make_plan
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.secrets import read_secrets
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.workspace import open_workspace
from kaniko_core.context import (
    BuildContext,
    DockerfileSource,
    open_context,
    open_named,
    read_dockerfile,
)
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
from kaniko_core.oci.platform import Platform
from kaniko_core.options import BuildOptions, RegistryOptions
from kaniko_core.progress import Progress
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.values import boolean

# Configs of base images that are asked for at once.
_CONFIGS = 8
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
    """

    context: BuildContext
    named: NamedContexts
    dockerfile: Dockerfile
    build_args: Mapping[str, str]
    targets: tuple[str, ...] = ("",)
    platform: Platform | None = None
    epoch: int | None = None
    text: bytes = b""

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


Sources = tuple[BuildContext, DockerfileSource]


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
        RemoteSources(
            workspace.fresh,
            options=registry,
            secrets=read_secrets(options.secret).values,
            progress=progress,
        ) as remote,
    ):
        yield remote


def read_sources(options: BuildOptions, remote: RemoteSources) -> Sources:
    """Find the context, and read the Dockerfile, whatever is in it.

    Raises:
        ContextError: one of them cannot be read.
        UsageError: an option is wrong.
    """
    dockerfile: str | DockerfileSource = options.dockerfile
    if is_http_address(options.dockerfile):
        dockerfile = _fetched(options.dockerfile, remote)
    return open_context(options.context, options.context_sub_path, dockerfile)


def _fetched(address: str, remote: RemoteSources) -> DockerfileSource:
    fetched = remote.http_file(address)
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
    context, source = sources or read_sources(options, remote)
    project = Project(
        context,
        named,
        parse_dockerfile(source.data, source.path),
        build_arguments(options),
        options.targets,
        options.platforms[0],
        text=source.data,
    )
    project = _timed(project, remote)
    return _at(project, 0) if reproducible and project.epoch is None else project


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
                return remote.git_tree(reference).time
            case ArchiveContext(url):
                return remote.url_time(url)
            case _:
                # Nobody knows when a directory, or an image, was made.
                return None

    seconds = epoch.epoch_of(
        project.dockerfile,
        arguments,
        project.build_args,
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
        keep = project.build_args.get(_KEEP_GIT_DIR)
        # As BuildKit reads it: what is neither true nor false means yes.
        self._keep_git_dir = None if keep is None else keep != "" and boolean(keep) is not False
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
                if reference.keep_git_dir is None:
                    reference = replace(reference, keep_git_dir=self._keep_git_dir)
                context = BuildContext(self._remote.git_tree(reference).directory)
            case ArchiveContext(url):
                context = BuildContext(self._remote.web_context(url).directory)
            case never:
                assert_never(never)
        return self._source(context, f"the context {wanted.name}")

    def _source(self, context: BuildContext, name: str) -> CopySource:
        root = self._stack.enter_context(Rootfs(context.directory))
        return CopySource(root, name, context.ignore, keep_owners=False)
