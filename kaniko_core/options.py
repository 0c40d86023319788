"""Every knob, declared once: name, type, default and help.

``cli.py`` turns these dataclasses into command line flags (``cache_dir`` is ``--cache-dir``);
users of the library construct them. Rules between fields live in ``__post_init__``, so that
both get them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from kaniko_core.errors import UsageError
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.values import (
    Entitlement,
    Isolation,
    Secret,
    SnapshotMode,
    SshAgent,
    build_arg,
    duration,
    key_value,
    named_context,
    secret,
    ssh_agent,
)


@dataclass(frozen=True, slots=True)
class Flag:
    """How a field appears on the command line.

    Args:
        help: one sentence.
        parse: from the text given by the user to the field's type; raises UsageError.
        aliases: other long spellings, such as ``--customPlatform``.
        metavar: what stands for the value in the help.
        name: the flag's name, where it is not the field's.
        hidden: accepted, but left out of the help.
    """

    help: str
    parse: Callable[[str], Any] | None = None
    aliases: tuple[str, ...] = ()
    metavar: str | None = None
    name: str | None = None
    hidden: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """Where base images are cached on disk, and for how long they stay fresh.

    One type for both executables: the warmer writes what the executor reads.
    """

    cache_dir: Annotated[
        Path, Flag("Directory that holds cached base images.", metavar="DIRECTORY")
    ] = Path("/cache")
    cache_ttl: Annotated[
        timedelta,
        Flag("Age at which a cached image counts as stale.", parse=duration, metavar="DURATION"),
    ] = timedelta(weeks=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryOptions:
    """How registries are talked to."""

    insecure: Annotated[bool, Flag("Push over plain HTTP.")] = False
    insecure_pull: Annotated[bool, Flag("Pull over plain HTTP.")] = False
    insecure_registry: Annotated[
        tuple[str, ...], Flag("Registry to talk to over plain HTTP; repeatable.", metavar="HOST")
    ] = ()
    skip_tls_verify: Annotated[
        bool, Flag("Do not verify registries' TLS certificates, neither for push nor pull.")
    ] = False
    skip_tls_verify_pull: Annotated[
        bool, Flag("Do not verify registries' TLS certificates when pulling.")
    ] = False
    skip_tls_verify_registry: Annotated[
        tuple[str, ...],
        Flag("Registry whose TLS certificate is not verified; repeatable.", metavar="HOST"),
    ] = ()
    registry_certificate: Annotated[
        tuple[tuple[str, str], ...],
        Flag("CA certificate for a registry; repeatable.", parse=key_value, metavar="HOST=FILE"),
    ] = ()
    image_download_retry: Annotated[
        int, Flag("How often a failing download is tried again.", metavar="N")
    ] = 4
    push_retry: Annotated[int, Flag("How often a failing upload is tried again.", metavar="N")] = 4

    def __post_init__(self) -> None:
        for name in ("image_download_retry", "push_retry"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} cannot be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """What to build, from what."""

    context: Annotated[str, Flag("Directory with the build context.", metavar="DIRECTORY")] = (
        "/workspace/"
    )
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
    target: Annotated[str, Flag("Stage to build instead of the last.", metavar="STAGE")] = ""
    build_arg: Annotated[
        tuple[tuple[str, str | None], ...],
        Flag(
            "Value for an ARG; without value it comes from the environment; repeatable.",
            parse=build_arg,
            metavar="NAME[=VALUE]",
        ),
    ] = ()
    custom_platform: Annotated[
        Platform | None,
        Flag(
            "Platform to build for, instead of this machine's.",
            parse=Platform.parse,
            aliases=("--customPlatform",),
            metavar="OS/ARCH[/VARIANT]",
        ),
    ] = None
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
        bool, Flag("Use the base images cached in --cache-dir, and keep them unpacked there.")
    ] = False
    build_context: Annotated[
        tuple[tuple[str, str], ...],
        Flag(
            "Another context, or what FROM and --from mean by a name: a directory, a git or "
            "https:// address, docker-image://IMAGE or oci-layout://DIRECTORY; repeatable.",
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

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmOptions:
    """Which images to put into the cache."""

    image: Annotated[
        tuple[Reference, ...],
        Flag("Image to cache; repeatable.", parse=Reference.parse, metavar="IMAGE"),
    ] = ()
    dockerfile: Annotated[
        Path | None,
        Flag("Cache every image that this Dockerfile names in FROM and COPY.", metavar="FILE"),
    ] = None
    build_arg: Annotated[
        tuple[tuple[str, str | None], ...],
        Flag(
            "Value for an ARG of the Dockerfile; without value it comes from the environment; "
            "repeatable.",
            parse=build_arg,
            metavar="NAME[=VALUE]",
        ),
    ] = ()
    custom_platform: Annotated[
        Platform | None,
        Flag(
            "Platform to cache images for, instead of this machine's.",
            parse=Platform.parse,
            aliases=("--customPlatform",),
            metavar="OS/ARCH[/VARIANT]",
        ),
    ] = None
    force: Annotated[bool, Flag("Fetch and replace images that are cached already.")] = False
    unpack: Annotated[
        bool,
        Flag(
            "Unpack the images too, for builds in a sandbox: then not even the first one has to. "
            "Needs root, and the disk space."
        ),
    ] = False

    def __post_init__(self) -> None:
        if not self.image and self.dockerfile is None:
            raise UsageError(
                "no image to warm",
                hint="name one with --image, or a Dockerfile with --dockerfile",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """Where the image goes, and what is said about it."""

    destination: Annotated[
        tuple[Reference, ...],
        Flag("Where to push the image; repeatable.", parse=Reference.parse, metavar="IMAGE"),
    ] = ()
    no_push: Annotated[bool, Flag("Build, but do not push.")] = False
    tar_path: Annotated[
        Path | None,
        Flag("Write the image as a docker-save tarball.", aliases=("--tarPath",), metavar="FILE"),
    ] = None
    oci_layout_path: Annotated[
        Path | None, Flag("Write the image as an OCI image layout.", metavar="DIRECTORY")
    ] = None
    digest_file: Annotated[
        Path | None, Flag("Write the image's digest to this file.", metavar="FILE")
    ] = None
    label: Annotated[
        tuple[tuple[str, str], ...],
        Flag("Label of the image; repeatable.", parse=key_value, metavar="KEY=VALUE"),
    ] = ()

    def __post_init__(self) -> None:
        for reference in self.destination:
            if reference.digest is not None:
                raise UsageError(
                    f"{reference} names a digest; a destination has a tag",
                    hint=f"push to {reference.repository}:TAG",
                )

    def require_destination(self) -> None:
        """Refuse to build for nobody; ``--check`` and ``--dryrun`` build nothing.

        Raises:
            UsageError: the image would go nowhere, and not on purpose.
        """
        if not self.destination and not self.no_push:
            raise UsageError(
                "nowhere to push the image to", hint="name a --destination, or use --no-push"
            )


class LogFormat(Enum):
    """How progress is shown."""

    AUTO = "auto"
    TEXT = "text"
    COLOR = "color"
    JSON = "json"


class Verbosity(Enum):
    """How much is shown; the names are those of Go kaniko's users."""

    PANIC = "panic"
    FATAL = "fatal"
    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"
    TRACE = "trace"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """What the user sees, on stderr."""

    verbosity: Annotated[
        Verbosity,
        Flag(
            "How much to show: panic, fatal, error, warn, info, debug, trace.",
            parse=Verbosity,
            metavar="LEVEL",
        ),
    ] = Verbosity.INFO
    log_format: Annotated[
        LogFormat,
        Flag(
            "How to show it: text, color, json; auto shows live progress on a terminal.",
            parse=LogFormat,
            metavar="FORMAT",
        ),
    ] = LogFormat.AUTO
    log_timestamp: Annotated[bool, Flag("Begin each line with the time.")] = False


__all__ = [
    "BuildOptions",
    "CacheOptions",
    "Flag",
    "Isolation",
    "LogFormat",
    "LogOptions",
    "OutputOptions",
    "RegistryOptions",
    "SnapshotMode",
    "Verbosity",
    "WarmOptions",
]
