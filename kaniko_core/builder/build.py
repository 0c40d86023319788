"""One build, from options to a delivered image.

Dockerfile ─▶ Plan ─▶ checks (destinations, kernel) ─▶ stages, side by side ─▶ delivery
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from kaniko_core.builder import history
from kaniko_core.builder.agents import Agents, open_agents
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.check import announce_checks
from kaniko_core.builder.isolation import open_trees, protected_paths, put_back
from kaniko_core.builder.output import BuildResult, open_delivery
from kaniko_core.builder.project import ContextFiles, Project, open_project
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.run import commands_of, refuse_forbidden
from kaniko_core.builder.secrets import Secrets, read_secrets
from kaniko_core.builder.stage import BuiltStage, StageBuilder
from kaniko_core.builder.workspace import Workspace, open_workspace
from kaniko_core.cache.images import ImageCache
from kaniko_core.dockerfile.scope import unused_build_args
from kaniko_core.oci.image import Image, compose
from kaniko_core.options import BuildOptions, CacheOptions, OutputOptions, RegistryOptions
from kaniko_core.progress import Noted, Progress, Warned, silent
from kaniko_core.registry.client import Registry

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
    cache, registry = cache or CacheOptions(), registry or RegistryOptions()
    output.require_destination()
    secrets = read_secrets(build.secret)
    shared = _shared(build, cache)
    with ExitStack() as stack:
        workspace = stack.enter_context(open_workspace(build.kaniko_dir, shared, progress))
        put_back(workspace)
        agents = stack.enter_context(open_agents(build.ssh, workspace.directory / "keys"))
        remote = stack.enter_context(_remote(workspace, secrets, agents, registry))
        project = open_project(build, remote)
        plan = project.plan()
        _note(project, build, progress)
        refuse_forbidden(plan, build.allow)
        pull = stack.enter_context(Registry(registry, push=False, progress=progress))
        push = stack.enter_context(Registry(registry, push=True, progress=progress))
        delivery = stack.enter_context(open_delivery(output, push, progress))
        # What this machine refuses is found out before anything is pulled.
        protected = protected_paths(build, output, cache, registry)
        trees = stack.enter_context(open_trees(build, plan, workspace, protected))
        commands = commands_of(
            build, workspace, trees, secrets=secrets, agents=agents, shared=shared
        )
        images = BaseImages(pull, ImageCache(cache) if build.cache else None, progress)
        plan = project.plan_with(images)
        announce_checks(project, plan, images, progress)
        files = ContextFiles(project, remote, stack)
        builder = StageBuilder(
            plan=plan,
            escape=project.dockerfile.escape,
            build_args=project.build_args,
            context=files.main,
            files=files.of,
            remote=remote,
            workspace=workspace,
            trees=trees,
            commands=commands,
            images=images,
            delivery=delivery,
            progress=progress,
            epoch=project.epoch,
            options=build,
        )

        # From the top down, so that nobody begins anew what was ended.
        ends = (pull.cancel, remote.cancel, trees.cancel)
        image = _image(_stages(builder, ends), output, project.epoch)
        trees.close()
        return delivery.deliver(image)


def _remote(
    workspace: Workspace, secrets: Secrets, agents: Agents, registry: RegistryOptions
) -> RemoteSources:
    return RemoteSources(
        workspace.fresh,
        options=registry,
        secrets=secrets.values,
        ssh_socket=lambda: agents.sockets.get("default"),
        progress=workspace.progress,
    )


def _shared(build: BuildOptions, cache: CacheOptions) -> Path | None:
    """Return the directory that later builds share with this one, if there is to be one.

    The default, ``/cache``, is a volume of a pod: where none is mounted, nobody asked for it.
    """
    directory = cache.cache_dir
    wanted = directory != CacheOptions().cache_dir or directory.is_dir()
    return directory if build.cache and wanted else None


def _note(project: Project, build: BuildOptions, progress: Progress) -> None:
    dockerfile = project.dockerfile
    syntax = project.build_args.get("BUILDKIT_SYNTAX") or dockerfile.directives.get("syntax")
    if syntax:
        progress(_syntax_note(syntax))
    for name in unused_build_args(dockerfile, (name for name, _ in build.build_arg)):
        reason = f"{dockerfile.path} has no ARG {name}"
        if name.startswith("BUILDKIT_"):
            reason = "there is nothing in this builder that it could change"
        progress(Warned(f"--build-arg {name} has no effect: {reason}"))


def _syntax_note(syntax: str) -> Noted | Warned:
    name = syntax.split(maxsplit=1)[0].removeprefix("docker.io/")
    if name.startswith(("docker/dockerfile", "dockerfile.v0")):
        return Noted(f"{syntax} is not fetched: the stable Dockerfile language is built in")
    return Warned(
        f"the frontend {syntax} is not run: the file is read as a Dockerfile",
        hint="if it is written in another language, build it with BuildKit",
    )


def _stages(builder: StageBuilder, ends: Iterable[Callable[[], None]]) -> BuiltStage:
    """Build every stage of the plan, each as soon as those it needs are there.

    Where one fails, *ends* end what the others are doing, and its error is raised.
    """
    plan = builder.plan
    order = plan.order()
    order.prepare()
    built: dict[int, BuiltStage] = {}
    running: dict[Future[BuiltStage], int] = {}
    at_once = _STAGES if builder.trees.concurrent else 1
    with ThreadPoolExecutor(at_once, thread_name_prefix="stage") as pool:
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
            for end in ends:
                end()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return built[plan.target]


def _image(stage: BuiltStage, output: OutputOptions, epoch: int | None) -> Image:
    config = stage.state.config
    labels = {**config.config.labels, **dict(output.label)}
    config = replace(
        config, config=replace(config.config, labels=labels), created=history.now(epoch)
    )
    return compose(config, stage.tree.layers(), docker=stage.docker)
