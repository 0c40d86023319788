"""The first process of a command's namespaces, and the command itself.

    server ── fork ──▶ init (process 1 of the new namespaces) ── fork ──▶ the command
                       furnishes and enters the root, reaps, and      credentials, then execve
                       ends with the command's status

When init ends, by itself or by a signal from the server, the kernel kills everything that is
left in its PID namespace, daemons included, before anybody can see that it has ended.

In place there are no namespaces and nothing to furnish. Init then adopts what the command
leaves behind, and ends that itself.
"""

from __future__ import annotations

import os
from _socket import AF_INET, SOCK_DGRAM
from contextlib import suppress
from errno import EACCES, EINVAL, ENOENT, ENOEXEC, ENOTDIR
from fcntl import ioctl
from struct import pack

from kaniko_core import linux
from kaniko_core.sandbox.descendants import end_descendants
from kaniko_core.sandbox.furnish import Place, furnish
from kaniko_core.sandbox.mounting import Root
from kaniko_core.sandbox.wire import Socket, described, send

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from typing import NoReturn

    from kaniko_core.sandbox.wire import RunRequest

_SIGKILL = 9

# The capabilities that Docker gives to a container, by number: linux/capability.h.
_CAPABILITIES = (
    0,  # CHOWN
    1,  # DAC_OVERRIDE
    3,  # FOWNER
    4,  # FSETID
    5,  # KILL
    6,  # SETGID
    7,  # SETUID
    8,  # SETPCAP
    10,  # NET_BIND_SERVICE
    13,  # NET_RAW
    18,  # SYS_CHROOT
    27,  # MKNOD
    29,  # AUDIT_WRITE
    31,  # SETFCAP
)

# Where the image sets no PATH: as Docker's default.
_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A shell's words for a command that cannot be started.
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127

_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP = 1  # linux/if.h


class Channels:
    """What a running command is connected to: answers, standard output and standard error."""

    def __init__(self, reply: Socket, stdout: int, stderr: int) -> None:
        self.reply = reply
        self.stdout = stdout
        self.stderr = stderr

    def close_others(self) -> None:
        """Close everything but these, and the server's own standard streams.

        The process would otherwise hold the ends of other requests open.
        """
        kept = sorted({0, 1, 2, self.reply.fileno(), self.stdout, self.stderr})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)


def run_init(
    request: RunRequest, roots: dict[int, Root], scratch: str, channels: Channels
) -> NoReturn:
    """Be process 1: furnish the root, run the command, and exit with its status.

    What goes wrong before the command runs is told through the reply socket.
    """
    status = 1
    try:
        _become_init(channels)
        _unshare(request["hostname"], network=request["network"])
        place = Place(roots[request["root"]].path, scratch)
        furnish(place, request, roots)
        place.enter()
        place.close()
        status = _run(request, channels, in_place=False)
    except OSError as error:
        send(channels.reply, ("failed", *described(error)))
    finally:
        os._exit(status)


def run_in_place(request: RunRequest, server: int, channels: Channels) -> NoReturn:
    """Be the parent of a command in this process's own root, and exit with its status.

    Nothing below this process is alive then, unless it is killed: *server*, its parent, has to
    end what is left in that case.
    """
    status = 1
    try:
        _become_init(channels)
        linux.adopt_orphans()
        # Whoever died before it could be asked for its death signal never sends it.
        if os.getppid() == server:
            status = _run(request, channels, in_place=True)
    except OSError as error:
        send(channels.reply, ("failed", *described(error)))
    finally:
        try:
            end_descendants()
        finally:
            os._exit(status)


def _become_init(channels: Channels) -> None:
    linux.set_parent_death_signal(_SIGKILL)
    # Without a handler, the kernel spares process 1 what its own namespace sends it; Python's
    # for SIGINT would end the command with it.
    linux.reset_signals()
    channels.close_others()
    os.setsid()


def _run(request: RunRequest, channels: Channels, *, in_place: bool) -> int:
    """Run the command; return the status to exit with."""
    for fd in (channels.stdout, channels.stderr):
        # A pipe belongs to who made it: /dev/stderr is opened by its name, with its mode.
        with suppress(PermissionError):  # a container may have dropped the right to do it
            os.fchown(fd, request["uid"], request["gid"])
    command = os.fork()
    if command == 0:
        _execute(request, channels, in_place=in_place)
    os.close(channels.stdout)
    os.close(channels.stderr)
    return _reap(command, channels.reply)


def _unshare(hostname: str, *, network: bool) -> None:
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
    linux.unshare(flags if network else flags | linux.CLONE_NEWNET)
    from _socket import sethostname

    # The seccomp profile of a container without CAP_SYS_ADMIN forbids it in any namespace.
    with suppress(PermissionError):
        sethostname(hostname)
    if not network:
        socket = Socket(AF_INET, SOCK_DGRAM)
        # struct ifreq: the name in 16 bytes, then the flags.
        ioctl(socket.fileno(), _SIOCSIFFLAGS, pack("16sh14x", b"lo", _IFF_UP))
        socket.close()


def _reap(command: int, reply: Socket) -> int:
    """Wait for *command*, and for every orphan meanwhile; return the status to exit with."""
    while True:
        pid, status = os.wait()
        if pid != command:
            continue
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        send(reply, ("signal", -code))
        return 128 - code


def _execute(request: RunRequest, channels: Channels, *, in_place: bool) -> NoReturn:
    """Become the command, or tell why not."""
    status = _NOT_FOUND
    try:
        # As process 1 of a container is; and none of its groups is init's.
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(channels.stdout, 1)
        os.dup2(channels.stderr, 2)
        os.umask(0o022)
        _make_directory(request["cwd"], request["uid"], request["gid"])
        linux.reset_signals()
    except OSError as error:
        send(channels.reply, ("failed", *described(error)))
        os._exit(status)
    try:
        if not request["privileged"]:
            linux.limit_capabilities(_CAPABILITIES, from_bounds=not in_place)
        _become(request["uid"], request["gid"], request["groups"])
    except OSError as error:
        send(channels.reply, ("cannot become", *described(error)))
        os._exit(status)
    try:
        os.chdir(request["cwd"])
    except OSError as error:
        send(channels.reply, ("cannot enter", *described(error)))
        os._exit(_NOT_EXECUTABLE)
    env = dict(pair.split(b"=", 1) for pair in request["env"] if pair.find(b"=") > 0)
    try:
        _search_and_execute(request["argv"], env)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR):
            status = _NOT_EXECUTABLE
        send(channels.reply, ("cannot execute", *described(error)))
    finally:
        os._exit(status)


def _become(uid: int, gid: int, groups: list[int]) -> None:
    # A container may lack the right to change them; root's commands often need no change.
    if set(os.getgroups()) != set(groups):
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _make_directory(path: bytes, uid: int, gid: int) -> None:
    """Make the working directory and those above it, as far as they are not there.

    An image may name one that it has not, or a RUN before may have removed it.
    """
    missing = []
    while path and not os.access(path, os.F_OK):
        missing.append(path)
        path = path.rpartition(b"/")[0]
    for directory in reversed(missing):
        # Whoever cannot be helped so is told why the directory cannot be entered.
        try:
            os.mkdir(directory, 0o755)  # noqa: PTH102
            os.chown(directory, uid, gid)
        except OSError:
            return


def _search_and_execute(argv: list[bytes], env: dict[bytes, bytes]) -> NoReturn:
    """Execute the first program of that name on ``PATH`` that can be.

    Raises:
        OSError: of the most telling attempt; its path is the file that is at fault.
    """
    name = argv[0]
    if b"/" in name:
        candidates = [name]
    else:
        directories = env.get(b"PATH", _PATH).split(b":")
        candidates = [(directory or b".") + b"/" + name for directory in directories]
    telling: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)
        except ValueError as error:
            # A zero byte ends a word for the kernel; Python refuses to lose the rest.
            raise OSError(EINVAL, os.strerror(EINVAL), candidate) from error
        except OSError as error:
            # A file that is there but whose interpreter is not also gives ENOENT.
            there = os.path.lexists(candidate)
            if there or error.errno not in (ENOENT, ENOTDIR, EACCES):
                telling = telling or OSError(error.errno, error.strerror, candidate)
            if error.errno == ENOEXEC:
                break
    raise telling or OSError(ENOENT, os.strerror(ENOENT))
