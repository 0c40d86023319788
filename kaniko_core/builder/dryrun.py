"""What a build would do, as text: ``--dryrun``.

Base images are looked up, because their ONBUILD is part of the plan and their digests are worth
knowing; nothing is fetched but their manifests and configs, and nothing is run or written.

The text is the same for the same plan: it knows no times, and no width of a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import assert_never

from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.build import shared_directory
from kaniko_core.builder.cached.choice import Choice
from kaniko_core.builder.cached.known import CacheDirectory, known_of, open_layers, reuse_of
from kaniko_core.builder.check import announce_checks
from kaniko_core.builder.plan import (
    ContextBase,
    ImageBase,
    LayoutBase,
    Origin,
    Plan,
    Scratch,
    StageBase,
    StagePlan,
)
from kaniko_core.builder.products import check_products
from kaniko_core.builder.project import Project, open_preview, open_project
from kaniko_core.builder.run import refuse_forbidden
from kaniko_core.cache.images import Freshness, ImageCache
from kaniko_core.context.named import ArchiveContext, GitContext, LocalContext
from kaniko_core.dockerfile.instructions import Add, Copy, Run, Source, Workdir
from kaniko_core.dockerfile.stages import Dockerfile, Stage
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    Destination,
    ImageOptions,
    LayerCacheOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.options.exports import Export, ExportKind
from kaniko_core.progress import Progress, silent
from kaniko_core.registry.client import Registry

_TO_DO = "to do"
_CONFIG = "config"
_CACHED = "cached"


@dataclass(frozen=True, slots=True)
class FoundImage:
    """What is known of an image before it is fetched.

    Attributes:
        digest: of its manifest.
        cached: whether the cache has it, fresh and whole.
    """

    digest: Digest
    cached: bool = False


Found = Mapping[ImageBase | LayoutBase, FoundImage]


def dryrun(
    build: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions | None = None,
    registry: RegistryOptions | None = None,
    layers: LayerCacheOptions | None = None,
    *,
    image: ImageOptions | None = None,
    progress: Progress = silent,
) -> str:
    """Return what :func:`~kaniko_core.builder.build.build` would do with the same options.

    Raises:
        KanikoError: the build would fail before it starts, or an image cannot be found.
    """
    cache, registry = cache or CacheOptions(), registry or RegistryOptions()
    image = image or ImageOptions()
    check_products(build, image, output)
    images_on_disk = ImageCache(cache) if build.cache else None
    # It is only looked at.
    layers = replace(layers or LayerCacheOptions(), no_push_cache=True)
    place = CacheDirectory(path=shared_directory(build, cache))
    with (
        open_preview(build, registry, progress) as remote,
        Registry(registry, push=False, progress=progress) as pull,
        ExitStack() as stack,
    ):
        project = open_project(build, remote, reproducible=image.reproducible)
        images = BaseImages(pull, images_on_disk, progress)
        knowns = known_of(project, build, image, images=images, remote=remote, stack=stack)
        announce_checks(project, knowns[0].plan, images, progress)
        for known in knowns:
            refuse_forbidden(known.plan, build.allow)
        opened = stack.enter_context(
            open_layers(knowns, layers, cache, registry, output, shared=place, progress=progress)
        )
        texts = []
        for known in knowns:
            found = {each: _found(images, images_on_disk, each) for each in known.plan.images}
            reuse = reuse_of(known, layers, opened, output, progress)
            choice = None if reuse is None else reuse.chosen().choice
            texts.append(plan_text(project.dockerfile, known.plan, found, choice))
    return "\n".join([*_context_text(project), *texts, output_text(output)])


def _context_text(project: Project) -> Iterator[str]:
    fetched = project.fetched
    if fetched is not None:
        yield f"context {fetched.name}, {fetched.kind} {fetched.version}\n"


def _found(
    images: BaseImages, cache: ImageCache | None, wanted: ImageBase | LayoutBase
) -> FoundImage:
    digest = images.find(wanted).digest
    cached = cache is not None and cache.freshness(digest) is Freshness.FRESH
    return FoundImage(digest, cached)


def plan_text(
    dockerfile: Dockerfile, plan: Plan, found: Found, choice: Choice | None = None
) -> str:
    """Return the plan for people: what is built in which order, and from what.

    Args:
        dockerfile: with all its stages.
        plan: for those that are needed.
        found: what is known of the images that the plan names.
        choice: what the layer cache has; None where there is none.
    """
    targets = [plan.stages[number] for number in dict.fromkeys(plan.targets)]
    labels = ", ".join(target.stage.label for target in targets)
    what = f"stage {labels}" if len(targets) == 1 else f"stages {labels}"
    writer = _Writer(dockerfile, plan, found, choice)
    paragraphs = [
        [f"{dockerfile.path}: {what} for {targets[0].platform}"],
        *(list(writer.stage(plan.stages[number])) for number in _in_order(plan)),
        [f"skip {_described(s)}" for s in dockerfile.stages if s.number not in plan.stages],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"


def _in_order(plan: Plan) -> Iterator[int]:
    """Yield the stages as they could be built one by one: those that are ready by number."""
    order = plan.order()
    order.prepare()
    while order.is_active():
        ready = sorted(order.get_ready())
        yield from ready
        order.done(*ready)


def _described(stage: Stage) -> str:
    return f"stage {stage.label} (line {stage.start.source.line})"


@dataclass(frozen=True, slots=True)
class _Writer:
    dockerfile: Dockerfile
    plan: Plan
    found: Found
    choice: Choice | None

    def stage(self, planned: StagePlan) -> Iterator[str]:
        """Yield the lines on one stage."""
        if self.choice is not None and planned.stage.number not in self.choice.plan.stages:
            yield f"skip {_described(planned.stage)}: all that is copied from it is cached"
            return
        yield f"build {_described(planned.stage)}"
        where = " in its place" if planned.replaced else ""
        yield f"  from {self._origin(planned.base)}{where}"
        for name, origin in sorted(planned.origins.items()):
            # That a stage is a stage need not be said.
            if not (isinstance(origin, StageBase) and self._label(origin) == name):
                yield f"  --from={name} is {self._origin(origin)}"
        width = len(str(max((i.source.end_line for i in planned.instructions), default=0)))
        for position, instruction in enumerate(planned.instructions):
            line = f"  {instruction.source.line:>{width}}  {self._action(planned, position):<6}"
            note = "  (ONBUILD of the base)" if position < len(planned.triggers) else ""
            yield f"{line}  {_one_line(instruction.source)}{note}"

    def _action(self, planned: StagePlan, position: int) -> str:
        if not isinstance(planned.instructions[position], Run | Copy | Add | Workdir):
            return _CONFIG
        if self.choice is None:
            return _TO_DO
        number = planned.stage.number
        return _CACHED if position in self.choice.plan.stages[number].reused else _TO_DO

    def _label(self, origin: StageBase) -> str:
        return self.dockerfile.stages[origin.number].label

    def _origin(self, origin: Origin) -> str:
        match origin:
            case Scratch():
                return "scratch, the empty image"
            case StageBase():
                return f"stage {self._label(origin)}"
            case ImageBase(reference=reference):
                known = self.found[origin]
                state = "in the cache" if known.cached else "to be fetched"
                pinned = f"{reference.repository}"
                if reference.tag is not None:
                    pinned += f":{reference.tag}"
                return f"image {pinned}@{known.digest}, {origin.platform}, {state}"
            case LayoutBase(path=path):
                return f"image {self.found[origin].digest}, {origin.platform}, in OCI layout {path}"
            case ContextBase(name=name, context=context):
                return f"context {name}: {_context(context)}"
            case _:
                assert_never(origin)


def _one_line(source: Source) -> str:
    # A here-document's lines are not the instruction's own.
    return " ".join(source.text.partition("\n")[0].split())


def _context(context: LocalContext | GitContext | ArchiveContext) -> str:
    match context:
        case LocalContext(directory=directory):
            return f"directory {directory}"
        case GitContext(reference=reference):
            return f"git repository {reference.name}"
        case ArchiveContext(address=address):
            return address.name
        case _:
            assert_never(context)


def output_text(output: OutputOptions) -> str:
    """Return, for people, where what is built goes."""
    return "\n".join(_exported(output)) + "\n"


def _exported(output: OutputOptions) -> Iterator[str]:
    references = [each.reference.with_default_tag for each in output.destination]
    names = f" as {', '.join(map(str, references))}" if references else ""
    if output.tar_path is not None:
        yield f"write {output.tar_path}, a docker-save tarball{names}"
    if output.oci_layout_path is not None:
        yield f"write {output.oci_layout_path}, an OCI layout{names}"
    yield from map(_files, output.output)
    if not output.no_push:
        yield from map(_pushed, output.destination)
    if output.no_push or not references:
        yield "push nowhere"
    for report in output.reports:
        what = "the digest" if report == output.digest_file else "what was made"
        yield f"write {what} to {report}"


def _files(export: Export) -> str:
    if export.dest is None:
        return "write the files of the image to standard output, as a tar"
    if export.kind is ExportKind.TAR:
        return f"write {export.dest}, a tar of the files of the image"
    return f"write the files of the image into {export.dest}"


def _pushed(destination: Destination) -> str:
    what = f"stage {destination.stage} " if destination.stage else ""
    return f"push {what}to {destination.reference.with_default_tag}"


__all__ = ["FoundImage", "dryrun", "output_text", "plan_text"]
