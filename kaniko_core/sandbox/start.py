"""Start the sandbox server, and say in a sentence why it cannot work where it cannot.

Nothing is decided by version numbers: the server tries what a build will do. It first tries
with the rights that it has, and where those do not allow mounting, in a user namespace that
has every id of this one.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack
from errno import EACCES, EINVAL, ENODEV, ENOSPC, EPERM
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

from kaniko_core import linux
from kaniko_core.errors import SandboxError, disk_errors
from kaniko_core.home import interpreter
from kaniko_core.lean import dataclass
from kaniko_core.sandbox import wire

Whiteouts = Literal["trusted", "user"]

# The server's process imports a few modules of this package and none of its __init__ files,
# which would cost it more time than everything else: empty packages stand in for them.
_BOOT = """
import sys
package = sys.argv.pop(1)
for name, path in ("kaniko_core", package), ("kaniko_core.sandbox", package + "/sandbox"):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [path]
from kaniko_core.sandbox.server import main
main(sys.argv[1:])
"""

_PRIVILEGE_HINT = (
    "run in a container with CAP_SYS_ADMIN, or in one with Docker's default capabilities "
    "whose seccomp and AppArmor profiles allow user namespaces and mounts"
)
_IDS_HINT = (
    "run as root, or in a user namespace that maps at least 65536 users and groups, "
    "such as `podman unshare` gives"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the server could not do: *step* names it, *number* is errno or 0."""

    step: str
    number: int
    path: str


@dataclass(frozen=True)
class Started:
    """A server that is ready, and what it found out.

    Attributes:
        directory: what the server keeps below the builder's directory; removed at the end.
        whiteouts: which extended attributes its overlays understand.
        user_namespace: whether it made one.
    """

    process: subprocess.Popen[bytes]
    control: wire.Socket
    directory: Path
    whiteouts: Whiteouts
    user_namespace: bool

    def stop(self) -> None:
        """End the server with everything that runs in it, and wait for that."""
        self.control.close()
        self.process.wait()
        rmtree(self.directory, ignore_errors=True)


def start_server(directory: Path) -> Started:
    """Start a server that can mount overlays with upper directories below *directory*.

    Raises:
        SandboxError: the kernel does not let us; the hint names the missing right.
        DiskError: *directory* cannot be written to.
    """
    first = _try(directory, user_namespace=False)
    if isinstance(first, Started):
        return first
    if first.step == "ids" or first.number not in (EPERM, EACCES):
        raise explained(first, directory)
    second = _try(directory, user_namespace=True)
    if isinstance(second, Started):
        return second
    raise explained(second, directory)


def _try(directory: Path, *, user_namespace: bool) -> Started | Refusal:
    with disk_errors("prepare a sandbox in", directory):
        own = Path(tempfile.mkdtemp(prefix="sandbox-", dir=directory)).resolve()
    with ExitStack() as on_failure:
        on_failure.callback(rmtree, own, ignore_errors=True)
        for name in ("mounts", "probe"):
            (own / name).mkdir()
        process, control = launch(own, "user" if user_namespace else "plain")
        on_failure.callback(process.wait)
        # The server ends when it finds this closed, so that the wait above is short.
        on_failure.callback(control.close)
        answer = _answer(control, process.pid)
        rmtree(own / "probe", ignore_errors=True)
        if answer[0] != "ready":
            return Refusal(*answer[1:])
        on_failure.pop_all()
        return Started(process, control, own, answer[1], user_namespace)


def launch(directory: Path, mode: str) -> tuple[subprocess.Popen[bytes], wire.Socket]:
    """Start a server's process; return it with the socket that it will answer at.

    Args:
        directory: absolute; what the server gets as its own.
        mode: ``plain``, ``user`` or ``in-place``.

    Raises:
        SandboxError: this interpreter cannot be started anew.
    """
    control, theirs = wire.channel()
    # The server watches this process too: a child of ours that inherited our end of the
    # socket must not keep the server alive.
    builder = os.pidfd_open(os.getpid())
    package = str(Path(linux.__file__).parent)
    arguments = [package, str(theirs.fileno()), str(builder), str(directory), mode]
    python = interpreter()
    try:
        process = subprocess.Popen(
            [*python, "-I", "-S", "-E", "-c", _BOOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), builder),
            cwd="/",
            # Process 1 of a command's namespace is a fork of the server: a privileged command
            # may read its environment, and the builder's often holds passwords.
            env={},
            # Ctrl-C is for the builder, which then gives its commands up in good order.
            start_new_session=True,
        )
    except OSError as error:
        control.close()
        raise SandboxError(
            f"the sandbox server cannot be started: {python[0]}: {error.strerror}"
        ) from error
    finally:
        theirs.close()
        os.close(builder)
    return process, control


def _answer(control: wire.Socket, pid: int) -> tuple[Any, ...]:
    message, _ = wire.receive(control)
    if message == ("map",):
        try:
            map_all_ids(pid)
        except OSError as error:
            return ("refused", "map", error.errno or 0, "")
        wire.send(control, ("mapped",))
        message, _ = wire.receive(control)
    return message or ("refused", "start", 0, "")


def map_all_ids(pid: int) -> None:
    """Give the user namespace of process *pid* every id of ours, under the same number.

    Raises:
        OSError: EPERM without CAP_SETUID, CAP_SETGID or CAP_SETFCAP.

    Source: user_namespaces(7), "User and group ID mappings".
    """
    for kind in ("uid", "gid"):
        extents = (line.split() for line in Path(f"/proc/self/{kind}_map").read_text().splitlines())
        table = "".join(f"{inside} {inside} {count}\n" for inside, _, count in extents)
        # The kernel takes the whole table in one write.
        Path(f"/proc/{pid}/{kind}_map").write_text(table)


def explained(refusal: Refusal, directory: Path) -> SandboxError:
    """Say in a sentence what was refused, and what to do about it."""
    reason = f" ({os.strerror(refusal.number)})" if refusal.number else ""
    match refusal.step:
        case "ids":
            return SandboxError(
                "commands cannot be run in a sandbox: this process is not root of a full range "
                "of user and group ids, so files would get wrong owners",
                hint=_IDS_HINT,
            )
        case "map":
            return SandboxError(
                f"commands cannot be run in a sandbox: a user namespace cannot be given the "
                f"full range of ids{reason}",
                hint=_IDS_HINT,
            )
        case "namespaces" if refusal.number == ENOSPC:
            return SandboxError(
                "commands cannot be run in a sandbox: no more namespaces are allowed",
                hint="raise the sysctl user.max_user_namespaces or user.max_mnt_namespaces",
            )
        case "namespaces":
            return SandboxError(
                f"commands cannot be run in a sandbox: neither mounting nor a user namespace "
                f"is allowed{reason}",
                hint=_PRIVILEGE_HINT,
            )
        case "mount":
            return SandboxError(
                f"commands cannot be run in a sandbox: mounting is refused{reason}",
                hint=_PRIVILEGE_HINT,
            )
        case "place":
            return SandboxError(
                f"commands cannot be run in place: {refusal.path or directory}{reason}",
                hint="this needs Linux 3.4 or later, and /proc",
            )
        case "overlay" | "whiteout":
            return _overlay_refused(refusal, directory, reason)
        case _:
            return SandboxError("the sandbox server did not start")


def _overlay_refused(refusal: Refusal, directory: Path, reason: str) -> SandboxError:
    kind = file_system(directory)
    if refusal.number == ENODEV:
        return SandboxError(
            "commands cannot be run in a sandbox: this kernel has no overlay file system",
            hint="load the kernel module `overlay` on the host",
        )
    if refusal.number in (EPERM, EACCES) and kind != "overlay":
        return SandboxError(
            f"commands cannot be run in a sandbox: mounting an overlay is refused{reason}",
            hint=_PRIVILEGE_HINT,
        )
    where = f"{directory}, which is on {kind}," if kind else f"{directory}"
    return SandboxError(
        f"commands cannot be run in a sandbox: {where} cannot hold what an overlay file system "
        f"writes{'' if refusal.number in (0, EINVAL) else reason}",
        hint="name a directory on another file system, such as a volume, with --kaniko-dir",
    )


def file_system(directory: Path) -> str:
    """Return the type of the file system that *directory* is on, or nothing if it is unknown.

    Source: proc(5), /proc/[pid]/mountinfo.
    """
    best, kind = -1, ""
    wanted = os.fsencode(directory.resolve())
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, rest = line.partition(b" - ")
        point = fields.split()[4].decode("unicode_escape").encode("latin-1").rstrip(b"/")
        # Of two mounts on the same place the later one is seen.
        if (wanted + b"/").startswith(point + b"/") and len(point) >= best:
            best, kind = len(point), rest.split()[0].decode()
    return kind
