"""One build, from options to a delivered image.

Dockerfile ─▶ Plan ─▶ checks (destinations, kernel) ─▶ stages, side by side ─▶ delivery
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from kaniko_core.builder import history
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.output import BuildResult, open_delivery
from kaniko_core.builder.plan import Plan, make_plan
from kaniko_core.builder.source import CopySource
from kaniko_core.builder.stage import BuiltStage, StageBuilder
from kaniko_core.builder.workspace import open_workspace
from kaniko_core.cache.images import ImageCache
from kaniko_core.context import open_context
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.scope import unused_build_args
from kaniko_core.dockerfile.stages import Dockerfile
from kaniko_core.dockerfile.support import refuse_unsupported
from kaniko_core.oci.image import Image, compose
from kaniko_core.options import BuildOptions, CacheOptions, OutputOptions, RegistryOptions
from kaniko_core.progress import Progress, Warned, silent
from kaniko_core.registry.client import Registry
from kaniko_core.rootfs.tree import Rootfs

# Stages that run at once. Their commands compete for the same cores, but mostly wait for
# networks and disks.
_STAGES = 8


def build(
    build: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions | None = None,
    registry: RegistryOptions | None = None,
    *,
    progress: Progress = silent,
) -> BuildResult:
    """Build the image that *build* describes, and deliver it as *output* says.

    Raises:
        KanikoError: with a sentence for people; nothing half-written is left behind.
    """
    cache = cache or CacheOptions()
    registry = registry or RegistryOptions()
    context, source = open_context(build.context, build.context_sub_path, build.dockerfile)
    dockerfile = parse_dockerfile(source.data, source.path)
    plan = _planned(dockerfile, build, progress)
    with ExitStack() as stack:
        pull = stack.enter_context(Registry(registry, push=False, progress=progress))
        push = stack.enter_context(Registry(registry, push=True, progress=progress))
        delivery = stack.enter_context(open_delivery(output, push, progress))
        workspace = stack.enter_context(
            open_workspace(build.kaniko_dir, _shared(build, cache), progress)
        )
        if plan.needs_root:
            # A kernel that refuses is found out before anything is pulled.
            _ = workspace.sandbox
        images = BaseImages(
            pull,
            ImageCache(cache) if build.cache else None,
            progress,
            cancelled=lambda: pull.cancelled,
        )
        files = CopySource(
            stack.enter_context(Rootfs(context.directory)),
            "the build context",
            context.ignore,
            keep_owners=False,
        )
        builder = StageBuilder(
            plan=plan,
            escape=dockerfile.escape,
            build_args=_given(build),
            context=files,
            named=lambda _: files,
            workspace=workspace,
            images=images,
            delivery=delivery,
            progress=progress,
        )

        def cancel() -> None:
            pull.cancel()
            workspace.cancel()

        return delivery.deliver(_image(_stages(builder, cancel), output))


def _shared(build: BuildOptions, cache: CacheOptions) -> Path | None:
    """Return the directory that later builds share with this one, if there is to be one.

    The default, ``/cache``, is a volume of a pod: where none is mounted, nobody asked for it.
    """
    directory = cache.cache_dir
    wanted = directory != CacheOptions().cache_dir or directory.is_dir()
    return directory if build.cache and wanted else None


def _given(build: BuildOptions) -> dict[str, str]:
    return {name: value for name, value in build.build_arg if value is not None}


def _planned(dockerfile: Dockerfile, build: BuildOptions, progress: Progress) -> Plan:
    for check in dockerfile.warnings:
        progress(Warned(f"{dockerfile.path}:{check.line}: {check.message} ({check.rule})"))
    for name in unused_build_args(dockerfile, (name for name, _ in build.build_arg)):
        progress(Warned(f"--build-arg {name} has no effect: {dockerfile.path} has no ARG {name}"))
    plan = make_plan(
        dockerfile,
        target=build.target,
        build_args=_given(build),
        target_platform=build.custom_platform,
    )
    # A stage that is not built may hold anything.
    needed = tuple(stage.stage for stage in plan.stages.values())
    refuse_unsupported(replace(dockerfile, stages=needed))
    return plan


def _stages(builder: StageBuilder, cancel: Callable[[], None]) -> BuiltStage:
    """Build every stage of the plan, each as soon as those it needs are there.

    Where one fails, *cancel* ends what the others are doing, and its error is raised.
    """
    plan = builder.plan
    order = plan.order()
    order.prepare()
    built: dict[int, BuiltStage] = {}
    running: dict[Future[BuiltStage], int] = {}
    with ThreadPoolExecutor(_STAGES, thread_name_prefix="stage") as pool:
        try:
            while order.is_active():
                for number in order.get_ready():
                    running[pool.submit(builder.build, number, built)] = number
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    number = running.pop(future)
                    built[number] = future.result()
                    order.done(number)
        except BaseException:
            cancel()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return built[plan.target]


def _image(stage: BuiltStage, output: OutputOptions) -> Image:
    config = stage.state.config
    labels = {**config.config.labels, **dict(output.label)}
    config = replace(config, config=replace(config.config, labels=labels), created=history.now())
    return compose(config, stage.tree.layers(), docker=stage.docker)
