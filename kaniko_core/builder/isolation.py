"""Where a build's commands run: in a sandbox, or in place; found out by trying."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kaniko_core.builder.configure import located
from kaniko_core.builder.container import found_container, missing_capabilities
from kaniko_core.builder.overlays import OverlayTrees
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.premises import Housekeeping, Premises, place_for
from kaniko_core.builder.trees import Trees
from kaniko_core.builder.workspace import Workspace
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
from kaniko_core.rootfs.ignore import IgnoreRules, mount_points

_ROOT = Path("/")
_SANDBOX_HINT = "use --isolation=sandbox, which touches nothing outside of its own directory"


@contextmanager
def open_trees(
    build: BuildOptions, plan: Plan, workspace: Workspace, protected: Iterable[Path]
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
    build: BuildOptions, plan: Plan, workspace: Workspace, protected: Iterable[Path]
) -> Trees:
    if build.isolation is Isolation.IN_PLACE or build.materialize:
        return _in_place(build, plan, workspace, protected, "as --isolation says")
    if not plan.needs_root and build.isolation is Isolation.AUTO:
        return OverlayTrees(workspace)
    try:
        if plan.needs_root:
            _ = workspace.sandbox
    except SandboxError as error:
        if build.isolation is Isolation.SANDBOX:
            raise
        if plan.runs_commands:
            _refuse(build, error)
        return _in_place(build, plan, workspace, protected, str(error))
    if plan.runs_commands:
        workspace.progress(Noted("commands run in a sandbox: namespaces and overlays work here"))
    return OverlayTrees(workspace)


def _in_place(
    build: BuildOptions,
    plan: Plan,
    workspace: Workspace,
    protected: Iterable[Path],
    reason: str,
) -> Trees:
    # Not at the top: most builds need none of it.
    from kaniko_core.builder.inplace import InPlaceTrees

    if plan.runs_commands or build.materialize:
        _refuse(build, None)
        workspace.progress(Noted(f"commands run in place, on / of this container: {reason}"))
    for stage in plan.stages.values():
        for instruction in stage.instructions:
            if isinstance(instruction, Run):
                with located(instruction.source):
                    _refuse_impossible(instruction)
    base = workspace.directory.parent
    carried = home()
    # Where nothing is carried, the root is never entered: no later build has to find the place.
    place = place_for(base, _ROOT) if carried else workspace.directory / "in-place"
    covered = [base, place, Path(f"{place}.lock"), *([carried] if carried else []), *protected]
    rules = IgnoreRules(mount_points(_ROOT)).and_paths(_relative(covered))
    housekeeping = Housekeeping(
        forget=build.pre_cleanup and not build.preserve_context,
        tidy=build.cleanup or build.preserve_context,
        leave=build.materialize,
    )
    workspace.directory.chmod(0o711)  # commands of any user find what is lent to them
    premises = Premises(_ROOT, place, rules, housekeeping, workspace.progress)
    return InPlaceTrees(workspace, premises, lambda: _refuse(build, None))


def _refuse(build: BuildOptions, cause: SandboxError | None) -> None:
    """Refuse to build in place where that would do harm, or cannot work.

    Args:
        build: what the user wants.
        cause: why there can be no sandbox, if the user left the choice to us.

    Raises:
        SandboxError: *cause*, where only a sandbox could have done.
    """
    if found_container() is None and not build.force:
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


def _relative(paths: Iterable[Path]) -> set[bytes]:
    """Return *paths*, their links followed, relative to the root; what is the root is left out."""
    found = {os.fsencode(path.resolve()).strip(b"/") for path in paths}
    return found - {b""}


def protected_paths(
    build: BuildOptions, output: OutputOptions, cache: CacheOptions, registry: RegistryOptions
) -> list[Path]:
    """Return every path of this machine that the options name: what a build needs to its end."""
    found = [cache.cache_dir] if build.cache else []
    with suppress(RuntimeError):  # nobody's home is known here
        found.append(Path("~/.docker").expanduser())
    found += [Path(text) for _, text in registry.registry_certificate]
    found += [Path(secret.path) for secret in build.secret if secret.path is not None]
    found += [path for agent in build.ssh for path in agent.paths]
    texts = (build.context, build.dockerfile, *(value for _, value in build.build_context))
    found += [Path(text.partition("://")[2] if "://" in text else text) for text in texts]
    # What is not there cannot be needed; the image may have something of that name.
    there = [path for path in found if path.exists()]
    written = (output.tar_path, output.oci_layout_path, output.digest_file)
    return [*there, *(path for path in written if path is not None)]
