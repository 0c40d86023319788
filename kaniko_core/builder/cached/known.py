"""What is known of a build before it begins: what it reads, and what earlier builds made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.cached.explain import explain
from kaniko_core.builder.cached.keys import graph_keys
from kaniko_core.builder.cached.records import record, record_name
from kaniko_core.builder.cached.reuse import Reuse
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.project import ContextFiles, Project
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.errors import KanikoError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    ImageOptions,
    LayerCacheOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Noted, Progress
from kaniko_core.steps.cache import LayerCache
from kaniko_core.steps.opening import open_layer_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a build will read.

    Attributes:
        plan: all that the targets need.
    """

    build: BuildOptions
    image: ImageOptions
    project: Project
    plan: Plan
    images: BaseImages
    remote: RemoteSources
    files: ContextFiles


def known_of(
    project: Project,
    build: BuildOptions,
    image: ImageOptions,
    *,
    images: BaseImages,
    remote: RemoteSources,
    stack: ExitStack,
) -> list[Known]:
    """Return, for each platform, what a build of *project* will read; files close with *stack*.

    Raises:
        KanikoError: a base image cannot be found, or a context not be read.
    """
    return [
        Known(
            build=build,
            image=image,
            project=one,
            plan=one.plan_with(images),
            images=images,
            remote=remote,
            files=ContextFiles(one, remote, stack),
        )
        for one in project.each(build.platforms)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDirectory:
    """The cache directory, where there is one.

    Attributes:
        path: the directory; None where there is none.
        hold: called with a path below it before that is used: nobody removes it then.
        make_room: called with a number of bytes when its disk is full; says whether it helped.
    """

    path: Path | None = None
    hold: Callable[[str], None] = lambda _: None
    make_room: Callable[[int], bool] = lambda _: False


def is_cached(build: BuildOptions, layers: LayerCacheOptions) -> bool:
    """Whether what earlier builds made is looked up."""
    moved = bool(layers.import_cache or layers.export_cache)
    return _keeps(layers) and (build.cache or moved)


def _keeps(layers: LayerCacheOptions) -> bool:
    return layers.cache_run_layers or layers.cache_copy_layers


@contextmanager
def open_layers(
    knowns: Sequence[Known],
    layers: LayerCacheOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    *,
    shared: CacheDirectory,
    progress: Progress,
) -> Iterator[LayerCache | None]:
    """Yield the layer cache of a build for one or several platforms, if there is one.

    At the end, what the build made is kept. What several platforms have in common is made once,
    even where nothing is kept.

    Raises:
        UsageError: an option does not go with the others.
    """
    build = knowns[0].build
    if layers.explain and not build.cache:
        raise UsageError(
            "--explain tells why the layer cache was not used, and this build has none",
            hint="add --cache",
        )
    several = len(knowns) > 1
    if not is_cached(build, layers) and not (several and _keeps(layers)):
        yield None
        return
    with open_layer_cache(
        layers,
        cache,
        registry,
        output,
        platforms=[known.plan.stages[known.plan.target].platform for known in knowns],
        shared=shared.path,
        keep=build.cache,
        remember=several,
        hold=shared.hold,
        make_room=shared.make_room,
        progress=progress,
    ) as opened:
        try:
            yield opened
        except KanikoError:
            # A later instruction failed: those before it need not be done again.
            if opened is not None:
                opened.finish()
            raise


def path_in_context(project: Project) -> str:
    """Return where the Dockerfile is, wherever its context is checked out; else, its name."""
    if project.fetched is not None and project.own:
        return project.dockerfile.path
    path = Path(project.dockerfile.path).absolute()
    top = project.context.directory.absolute()
    return str(path.relative_to(top) if path.is_relative_to(top) else path.name)


def _identity(project: Project, output: OutputOptions) -> str:
    """Return what tells a Dockerfile from others."""
    name = path_in_context(project)
    repositories = [str(first.reference.repository) for first in output.destination[:1]]
    return " ".join([*repositories, name])


def reuse_of(
    known: Known,
    layers: LayerCacheOptions,
    opened: LayerCache | None,
    output: OutputOptions,
    progress: Progress,
) -> Reuse | None:
    """Return what *known* has to do with the layer cache, if there is one: keys are made now.

    Raises:
        KanikoError: an instruction reads something that cannot be read.
    """
    if opened is None:
        return None
    plan, project = known.plan, known.project
    keys = graph_keys(
        plan,
        escape=project.dockerfile.escape,
        build_args=project.build_args,
        images=known.images.find,
        context=known.files.main,
        files=known.files.of,
        remote=known.remote,
        epoch=project.epoch,
        rewritten=known.image.reproducible,
        options=known.build,
    )
    single = plan.packed if known.build.single_snapshot else frozenset()
    whole = frozenset(number for number in single if plan.stages[number].changes_files)
    reuse = Reuse(opened, layers, plan, keys, whole=whole, progress=progress)
    target = plan.stages[plan.target]
    name = record_name(_identity(project, output), target.stage.label, target.platform)
    if layers.explain:
        text = explain(plan, keys, reuse.chosen().outcomes(), opened.read_record(name))
        for line in text.splitlines():
            progress(Noted(line))
    opened.write_record(name, lambda: record(plan, keys))
    return reuse
