"""Where a build's commands run: in a sandbox, or in place; found out by trying."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kaniko_core.builder.configure import located
from kaniko_core.builder.container import found_container, missing_capabilities
from kaniko_core.builder.overlays import OverlayTrees
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.trees import Trees
from kaniko_core.builder.workspace import Workspace
from kaniko_core.context.named import LayoutContext, LocalContext, parse_named
from kaniko_core.dockerfile.instructions import Run
from kaniko_core.errors import SandboxError
from kaniko_core.home import home
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    Isolation,
    OutputOptions,
    RegistryOptions,
)
from kaniko_core.progress import Noted
from kaniko_core.registry.auth import config_files
from kaniko_core.rootfs.ignore import IgnoreRules, mount_points
from kaniko_core.rootfs.tree import MOST_LINKS

if TYPE_CHECKING:
    from kaniko_core.builder.premises import Housekeeping, Premises

_ROOT = Path("/")
_SANDBOX_HINT = "use --isolation=sandbox, which touches nothing outside of its own directory"


def begin_isolation(build: BuildOptions, plans: Iterable[Plan], workspace: Workspace) -> None:
    """Begin to find out whether there can be a sandbox, if *plans* are sure to need one.

    It is another process that starts, while this one has registries to ask.
    """
    in_place = build.isolation is Isolation.IN_PLACE or build.materialize
    if not in_place and any(plan.needs_root for plan in plans):
        workspace.begin_sandbox()


@contextmanager
def open_trees(
    build: BuildOptions, plan: Plan, workspace: Workspace, protected: Collection[Path]
) -> Iterator[Trees]:
    """Choose how trees are made, and say why; the machine is left as it was found.

    Args:
        build: what the user wants.
        plan: what is to be built; ONBUILD may add to it.
        workspace: the build's own directory.
        protected: what the build needs of ``/`` to the end, if it is in place.

    Raises:
        SandboxError: commands cannot be run as the user wants, or not at all.
        DockerfileError: an instruction asks for what cannot be had in place.
    """
    trees = _chosen(build, plan, workspace, protected)
    try:
        yield trees
    finally:
        trees.close()


def _chosen(
    build: BuildOptions, plan: Plan, workspace: Workspace, protected: Collection[Path]
) -> Trees:
    if build.isolation is Isolation.IN_PLACE or build.materialize:
        flag = "--isolation" if build.isolation is Isolation.IN_PLACE else "--materialize"
        return _in_place(build, plan, workspace, protected, f"as {flag} says")
    if not plan.needs_root and build.isolation is Isolation.AUTO:
        return OverlayTrees(workspace)
    try:
        if plan.needs_root:
            _ = workspace.sandbox
    except SandboxError as error:
        if build.isolation is Isolation.SANDBOX:
            raise
        if plan.runs_commands:
            _refuse(build, workspace, error)
        return _in_place(build, plan, workspace, protected, str(error))
    if plan.runs_commands:
        workspace.progress(Noted("commands run in a sandbox: namespaces and overlays work here"))
    return OverlayTrees(workspace)


def _in_place(
    build: BuildOptions,
    plan: Plan,
    workspace: Workspace,
    protected: Collection[Path],
    reason: str,
) -> Trees:
    # Not at the top: most builds need none of it.
    from kaniko_core.builder.inplace import InPlaceTrees
    from kaniko_core.builder.premises import Housekeeping

    if plan.runs_commands or build.materialize:
        _refuse(build, workspace, None)
        _refuse_root(protected)
        workspace.progress(Noted(f"commands run in place, on / of this container: {reason}"))
    for stage in plan.stages.values():
        for instruction in stage.instructions:
            if isinstance(instruction, Run):
                with located(instruction.source):
                    _refuse_impossible(instruction)
    housekeeping = Housekeeping(
        forget=build.pre_cleanup and not build.preserve_context,
        tidy=build.cleanup or build.preserve_context,
        leave=build.materialize,
    )
    workspace.directory.chmod(0o711)  # commands of any user find what is lent to them
    premises = _premises(workspace, housekeeping, protected)
    return InPlaceTrees(workspace, premises, lambda: _refuse(build, workspace, None))


def _premises(
    workspace: Workspace, housekeeping: Housekeeping, protected: Collection[Path] = ()
) -> Premises:
    """Return the root of this container, not entered yet."""
    from kaniko_core.builder.premises import Premises, place_for

    base = workspace.directory.parent
    carried = home()
    # Where nothing is carried, the root is never entered: no later build has to find the place.
    place = place_for(base, _ROOT) if carried else workspace.directory / "in-place"
    covered = [base, place, *([carried] if carried else []), *protected]
    rules = IgnoreRules(mount_points(_ROOT)).and_paths(_relative(covered))
    return Premises(_ROOT, place, rules, housekeeping, workspace.progress, workspace.check)


def put_back(workspace: Workspace) -> None:
    """Put back what a build in this container did not: the context may be among it.

    Raises:
        DiskError: something cannot be moved.
    """
    if home() is None:
        return
    from kaniko_core.builder.premises import Housekeeping

    premises = _premises(workspace, Housekeeping())
    try:
        premises.recover()
    finally:
        premises.close()


def _refuse(build: BuildOptions, workspace: Workspace, cause: SandboxError | None) -> None:
    """Refuse to build in place where that would do harm, or cannot work.

    Args:
        build: what the user wants.
        workspace: the build's own directory.
        cause: why there can be no sandbox, if the user left the choice to us.

    Raises:
        SandboxError: *cause*, where only a sandbox could have done.
    """
    from kaniko_core.builder.premises import place_for, was_lent

    # A build that was killed has left an image in the root, which does not look like anything.
    wiped_already = was_lent(place_for(workspace.directory.parent, _ROOT))
    if found_container() is None and not build.force and not wiped_already:
        raise cause or SandboxError(
            "in-place mode clears / for the image's files, and this does not look like a "
            "container: it would wipe the machine",
            hint=f"{_SANDBOX_HINT}; if the machine may be wiped, say --force",
        )
    if home() is None:
        raise cause or SandboxError(
            "in-place mode clears / for the image's files, and this Python is installed there: "
            "it would lose its own files",
            hint=f"{_SANDBOX_HINT}; or use the executor's container image, which carries its own "
            "Python",
        )
    if (lack := _lack()) is not None:
        if cause is not None:
            lack.add_note(str(cause))
        raise lack


def _lack() -> SandboxError | None:
    """Return what a container must have, and this one was denied."""
    if os.geteuid() != 0:
        return SandboxError(
            "in-place mode takes root in the container",
            hint="run the container as root: in Kubernetes, runAsUser: 0",
        )
    if missing := missing_capabilities():
        return SandboxError(
            f"in-place mode takes capabilities that this container has not: {', '.join(missing)}",
            hint="containers have them unless they are dropped: in Kubernetes, leave "
            "capabilities.drop out, or add these to capabilities.add",
        )
    if os.statvfs(_ROOT).f_flag & os.ST_RDONLY:
        return SandboxError(
            "in-place mode unpacks images onto /, which is mounted read-only here",
            hint="let the container write there: in Kubernetes, leave readOnlyRootFilesystem out",
        )
    return None


def _refuse_impossible(run: Run) -> None:
    for flag, value in (("network", run.network), ("security", run.security)):
        if value in ("none", "insecure"):
            raise SandboxError(
                f"RUN --{flag}={value} needs a sandbox, and this build runs in place",
                hint="leave the flag out, or give the container the rights that a sandbox needs",
            )


def _refuse_root(protected: Collection[Path]) -> None:
    if any([*_way_to(path)][-1] == _ROOT for path in protected):
        raise SandboxError(
            "in-place mode clears / for the image's files, and / is named as the build context, "
            "or by another option",
            hint="put the context into a directory of its own, or into a volume",
        )


def _relative(paths: Iterable[Path]) -> set[bytes]:
    """Return *paths* and the links on the way there, relative to the root; not the root itself."""
    found = {os.fsencode(name).strip(b"/") for path in paths for name in _way_to(path)}
    return found - {b""}


def _way_to(path: Path) -> Iterator[Path]:
    """Yield the symbolic links that *path* leads through, each at its real place, and its end."""
    here = Path("/")
    waiting = [*reversed(path.absolute().parts[1:])]
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            here = here.parent
            continue
        if links < MOST_LINKS and (here / part).is_symlink():
            links += 1
            yield here / part
            target = (here / part).readlink()
            here = Path("/") if target.is_absolute() else here
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        else:
            here = here / part
    yield here


def protected_paths(
    build: BuildOptions, output: OutputOptions, cache: CacheOptions, registry: RegistryOptions
) -> list[Path]:
    """Return every path of this machine that the options name: what a build needs to its end."""
    found = [*config_files(), *([cache.cache_dir] if build.cache else [])]
    found += [Path(text) for _, text in registry.registry_certificate]
    for own in registry.registry_client_cert:
        found += [Path(own.certificate), Path(own.key)]
    found += [Path(secret.path) for secret in build.secret if secret.path is not None]
    found += [path for agent in build.ssh for path in agent.paths]
    for name, value in build.build_context:
        match parse_named(name, value):
            case LocalContext(directory):
                found.append(directory)
            case LayoutContext(path):
                found.append(path)
    texts = (build.context, build.dockerfile)
    found += [Path(text.partition("://")[2] if "://" in text else text) for text in texts]
    # What is not there cannot be needed; the image may have something of that name.
    there = [path for path in found if os.path.lexists(path)]
    return [*there, *output.written]
