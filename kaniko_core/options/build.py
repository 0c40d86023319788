"""What to build, from what, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kaniko_core.addresses.cloning import GitOptions, git_options, merged
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform, platforms
from kaniko_core.options.flag import Flag
from kaniko_core.values import (
    Entitlement,
    Isolation,
    Secret,
    SnapshotMode,
    SshAgent,
    build_arg,
    named_context,
    names,
    secret,
    size,
    ssh_agent,
)

_CONTEXT = "/workspace/"
_STDIN_ARCHIVE = "tar://stdin"
# Bytes. More than any context has, and less than what a bomb of some kilobytes can hold.
LARGEST_CONTEXT = 128 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """What to build, from what."""

    context: Annotated[
        str,
        Flag(
            "The build context: a directory, tar://FILE, tar://stdin, or a git, https://, s3://, "
            "gs:// or az:// address.",
            metavar="LOCATION",
        ),
    ] = _CONTEXT
    bucket: Annotated[
        str,
        Flag(
            "Bucket with the archive of the build context, instead of --context; gs:// where "
            "nothing else is said.",
            metavar="BUCKET[/KEY]",
        ),
    ] = ""
    git: Annotated[
        tuple[tuple[str, str | int | bool], ...],
        Flag(
            "How to clone a context that is a git repository: branch=NAME, depth=N, "
            "single-branch=BOOL, recurse-submodules=BOOL, insecure-skip-tls=BOOL, labels=BOOL; "
            "repeatable.",
            parse=git_options,
            several=True,
            metavar="KEY=VALUE[,...]",
        ),
    ] = ()
    context_limit: Annotated[
        int,
        Flag(
            "The most that the archive of a context may unpack to.",
            parse=size,
            metavar="SIZE",
        ),
    ] = LARGEST_CONTEXT
    context_sub_path: Annotated[
        str, Flag("Directory below the context to use as the context.", metavar="PATH")
    ] = ""
    dockerfile: Annotated[
        str,
        Flag(
            "The Dockerfile: looked for here, then in the context; or a URL, or - for stdin.",
            metavar="FILE",
        ),
    ] = "Dockerfile"
    target: Annotated[
        tuple[str, ...],
        Flag(
            "Stage to build instead of the last; repeatable. The first is pushed to the "
            "destinations that name no stage.",
            parse=names,
            several=True,
            metavar="STAGE",
        ),
    ] = ()
    build_arg: Annotated[
        tuple[tuple[str, str | None], ...],
        Flag(
            "Value for an ARG; without value it comes from the environment; repeatable.",
            parse=build_arg,
            metavar="NAME[=VALUE]",
        ),
    ] = ()
    source_date_epoch: Annotated[
        str,
        Flag(
            "Time that stands for the present, as the build argument SOURCE_DATE_EPOCH does, "
            "which wins.",
            metavar="SECONDS",
        ),
    ] = ""
    custom_platform: Annotated[
        tuple[Platform, ...],
        Flag(
            "Platform to build for, instead of this machine's; several give an index; repeatable.",
            parse=platforms,
            several=True,
            aliases=("--customPlatform", "--platform"),
            metavar="OS/ARCH[/VARIANT][,...]",
        ),
    ] = ()
    isolation: Annotated[
        Isolation,
        Flag(
            "Where commands run: in a sandbox; in-place, on / of the executor's container; or "
            "auto: in a sandbox where that works.",
            parse=Isolation,
            metavar="MODE",
        ),
    ] = Isolation.AUTO
    force: Annotated[
        bool, Flag("Build in place even where nothing looks like a container: / is cleared.")
    ] = False
    cleanup: Annotated[
        bool, Flag("Remove everything that the build made in this container at its end.")
    ] = False
    pre_cleanup: Annotated[
        bool, Flag("In place, remove what is in / before the build, instead of keeping it aside.")
    ] = False
    preserve_context: Annotated[
        bool, Flag("In place, put / back at the end as it was; even what --pre-cleanup would lose.")
    ] = False
    materialize: Annotated[
        bool, Flag("In place, leave the files of the final stage in / at the end.")
    ] = False
    snapshot_mode: Annotated[
        SnapshotMode,
        Flag(
            "full, redo or time, which are one here: all changes are found, whatever the mode.",
            parse=SnapshotMode,
            aliases=("--snapshotMode",),
            metavar="MODE",
        ),
    ] = SnapshotMode.FULL
    use_new_run: Annotated[
        bool, Flag("Accepted for Go kaniko's users: changes are found at this price anyway.")
    ] = False
    single_snapshot: Annotated[bool, Flag("Make one layer of each stage.")] = False
    ignore_path: Annotated[
        tuple[str, ...],
        Flag("Path whose changes never become part of a layer; repeatable.", metavar="PATH"),
    ] = ()
    ignore_var_run: Annotated[
        bool,
        Flag("Leave changes below /var/run out of layers.", aliases=("--whitelist-var-run",)),
    ] = False
    kaniko_dir: Annotated[
        Path | None,
        Flag(
            "Directory for the build's own files; for a sandbox, not on an overlay file system.",
            metavar="DIRECTORY",
        ),
    ] = None
    cache: Annotated[
        bool,
        Flag(
            "Use the base images cached in --cache-dir, keep them unpacked there, and take from "
            "the layer cache what an earlier build made.",
            aliases=("--use-cache",),
        ),
    ] = False
    build_context: Annotated[
        tuple[tuple[str, str], ...],
        Flag(
            "Another context, or what FROM and --from mean by a name: what --context can be, "
            "docker-image://IMAGE or oci-layout://DIRECTORY; repeatable.",
            parse=named_context,
            metavar="NAME=VALUE",
        ),
    ] = ()
    secret: Annotated[
        tuple[Secret, ...],
        Flag(
            "Secret for RUN --mount=type=secret, from a file or a variable; repeatable.",
            parse=secret,
            metavar="id=ID[,src=FILE|,env=NAME]",
        ),
    ] = ()
    ssh: Annotated[
        tuple[SshAgent, ...],
        Flag(
            "SSH agent's socket, or keys, for RUN --mount=type=ssh; repeatable.",
            parse=ssh_agent,
            metavar="default|ID[=SOCKET|KEY[,KEY]]",
        ),
    ] = ()
    allow: Annotated[
        tuple[Entitlement, ...],
        Flag(
            "What RUN may ask for beyond the usual: security.insecure, network.host; repeatable.",
            parse=Entitlement,
            metavar="RIGHT",
        ),
    ] = ()
    check: Annotated[
        bool, Flag("Only check the Dockerfile; the exit status is 1 if there are warnings.")
    ] = False
    dryrun: Annotated[bool, Flag("Only print what would be done.")] = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The stages to build, each once; the empty name is that of the last stage."""
        return tuple(dict.fromkeys(self.target)) or ("",)

    @property
    def platforms(self) -> tuple[Platform | None, ...]:
        """The platforms to build for, each once; None is this machine's."""
        return tuple(dict.fromkeys(self.custom_platform)) or (None,)

    @property
    def cloning(self) -> GitOptions:
        """What all ``--git`` say together."""
        return merged(self.git)

    @property
    def location(self) -> str:
        """Where the context is."""
        if not self.bucket:
            return self.context
        return self.bucket if "://" in self.bucket else f"gs://{self.bucket}"

    @property
    def stdin_takers(self) -> tuple[str, ...]:
        """What is read from standard input, as people call it."""
        values = (self.location, *(value for _, value in self.build_context))
        takers = [f"the context {value}" for value in values if value == _STDIN_ARCHIVE]
        return (*takers, "the Dockerfile") if self.dockerfile == "-" else tuple(takers)

    def __post_init__(self) -> None:
        if len(self.stdin_takers) > 1:
            raise UsageError(
                f"{' and '.join(self.stdin_takers)} cannot both come from stdin",
                hint="put the Dockerfile into the archive, or name it with --dockerfile",
            )
        if self.bucket and self.context not in ("", _CONTEXT):
            raise UsageError(
                f"--bucket {self.bucket} and --context {self.context} name two build contexts",
                hint="leave --bucket out, and write --context=gs://BUCKET/KEY",
            )
        if self.materialize and self.isolation is Isolation.SANDBOX:
            raise UsageError(
                "--materialize leaves files in /, which a build in a sandbox never touches",
                hint="use --isolation=in-place, or leave it out",
            )
        if self.materialize and (self.cleanup or self.preserve_context):
            raise UsageError(
                "--materialize leaves the files of the final stage in /, and "
                f"--{'cleanup' if self.cleanup else 'preserve-context'} removes them",
                hint="leave one of them out",
            )
