"""One build, from options to a delivered image.

Dockerfile ─▶ checks (destinations) ─▶ for each platform: plan ─▶ keys ─▶ stages ─▶ delivery
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kaniko_core.builder.agents import open_agents
from kaniko_core.builder.base import BaseImages
from kaniko_core.builder.cached.known import (
    CacheDirectory,
    is_cached,
    known_of,
    open_layers,
    reuse_of,
)
from kaniko_core.builder.check import announce_checks
from kaniko_core.builder.isolation import begin_isolation, protected_paths, put_back
from kaniko_core.builder.jobs import Job, finish
from kaniko_core.builder.output import BuildResult, open_delivery
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.products import check_products
from kaniko_core.builder.project import Project, labelled, open_project, remote_sources
from kaniko_core.builder.run import refuse_forbidden
from kaniko_core.builder.secrets import read_secrets
from kaniko_core.builder.work import Work
from kaniko_core.builder.workspace import open_workspace
from kaniko_core.cache.images import ImageCache
from kaniko_core.cacheplaces import CacheExport
from kaniko_core.dockerfile.scope import unused_build_args
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    ImageOptions,
    LayerCacheOptions,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Noted, Progress, Warned, silent
from kaniko_core.registry.client import Registry


def build(
    build: BuildOptions,
    output: OutputOptions,
    cache: CacheOptions | None = None,
    registry: RegistryOptions | None = None,
    layers: LayerCacheOptions | None = None,
    *,
    image: ImageOptions | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build the images that *build* describes, and deliver them as *output* says.

    Raises:
        KanikoError: with a sentence for people; nothing half-written is left behind.
    """
    cache, registry = cache or CacheOptions(), registry or RegistryOptions()
    layers, image = layers or LayerCacheOptions(), image or ImageOptions()
    started = datetime.now(UTC)
    output.require_destination()
    check_products(build, image, output)
    secrets = read_secrets(build.secret)
    shared = shared_directory(build, cache)
    with ExitStack() as stack:
        workspace = stack.enter_context(open_workspace(build.kaniko_dir, shared, progress))
        put_back(workspace)
        agents = stack.enter_context(open_agents(build.ssh, workspace.directory / "keys"))
        remote = stack.enter_context(remote_sources(build, registry, workspace, secrets, agents))
        project = open_project(build, remote, reproducible=image.reproducible)
        image = labelled(image, build, project)
        _note(project, build, progress)
        plans = _allowed(project, build)
        if not is_cached(build, layers):
            begin_isolation(build, plans, workspace)
        spool = workspace.directory
        pull = stack.enter_context(Registry(registry, progress=progress, spool=spool))
        push = stack.enter_context(Registry(registry, push=True, progress=progress))
        on_disk = ImageCache(cache) if build.cache else None
        images = BaseImages(pull, on_disk, progress, hold=workspace.hold)
        with images.asked(frozenset().union(*(plan.bases for plan in plans))):
            delivery = stack.enter_context(open_delivery(output, push, progress, build.targets))
        begin = partial(
            Work,
            workspace=workspace,
            secrets=secrets,
            agents=agents,
            shared=shared,
            protected=protected_paths(build, output, cache, registry),
            inline=CacheExport.INLINE in layers.export_cache,
            pull=pull,
            delivery=delivery,
        )
        place = CacheDirectory(path=shared, hold=workspace.hold, make_room=workspace.make_room)
        knowns = known_of(project, build, image, images=images, remote=remote, stack=stack)
        announce_checks(project, knowns[0].plan, images, progress)
        opened = stack.enter_context(
            open_layers(knowns, layers, cache, registry, output, shared=place, progress=progress)
        )
        jobs = [
            Job(begin(known=known), reuse_of(known, layers, opened, output, progress))
            for known in knowns
        ]
        return finish(jobs, output, started)


def _allowed(project: Project, build: BuildOptions) -> list[Plan]:
    """Return the plan for each platform, as far as nobody was asked yet; none is refused."""
    plans = [one.plan() for one in project.each(build.platforms)]
    for plan in plans:
        refuse_forbidden(plan, build.allow)
    return plans


def shared_directory(build: BuildOptions, cache: CacheOptions) -> Path | None:
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
