"""What is known of a build before it begins: what it reads, and what earlier builds made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@contextmanager
def open_reuse(
    known: Known,
    layers: LayerCacheOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    *,
    shared: CacheDirectory,
    progress: Progress,
) -> Iterator[Reuse | None]:
    """Yield the layer cache, if there is one; at the end, what the build made is kept.

    Raises:
        UsageError: an option does not go with the others.
        KanikoError: an instruction reads something that cannot be read.
    """
    if layers.explain and not known.build.cache:
        raise UsageError(
            "--explain tells why the layer cache was not used, and this build has none",
            hint="add --cache",
        )
    moved = layers.import_cache or layers.export_cache
    wanted = layers.cache_run_layers or layers.cache_copy_layers
    if not wanted or not (known.build.cache or moved):
        yield None
        return
    platform = known.plan.stages[known.plan.target].platform
    with open_layer_cache(
        layers,
        cache,
        registry,
        output,
        platform=platform,
        shared=shared.path,
        keep=known.build.cache,
        hold=shared.hold,
        make_room=shared.make_room,
        progress=progress,
    ) as opened:
        if opened is None:
            yield None
            return
        reuse = _reuse(known, layers, opened, output, progress)
        try:
            yield reuse
        except KanikoError:
            # A later instruction failed: those before it need not be done again.
            opened.finish()
            raise


def _identity(project: Project, output: OutputOptions) -> str:
    """Return what tells a Dockerfile from others, wherever its context is checked out."""
    path = Path(project.dockerfile.path).absolute()
    top = project.context.directory.absolute()
    name = str(path.relative_to(top) if path.is_relative_to(top) else path.name)
    repositories = [str(first.reference.repository) for first in output.destination[:1]]
    return " ".join([*repositories, name])


def _reuse(
    known: Known,
    layers: LayerCacheOptions,
    opened: LayerCache,
    output: OutputOptions,
    progress: Progress,
) -> Reuse:
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
