"""What a command finds in its root beside the image: /proc, /sys, /dev, names, RUN's mounts.

Runs in the first process of the command's own namespaces, before it enters the root. All
places are found by openat2 inside the root, so that a symbolic link of the image cannot
lead a mount anywhere else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL
from stat import S_IFCHR, S_ISDIR

from kaniko_core import linux
from kaniko_core.linux import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC
from kaniko_core.sandbox.mounting import Root, open_source

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from collections.abc import Callable

    from kaniko_core.sandbox.wire import ExtraMount, RunRequest

_PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC

# Names and numbers: Linux, Documentation/admin-guide/devices.txt.
_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_TTY_GROUP = 5

# What the OCI runtime specification's defaults keep from a container: knobs and secrets of
# the whole machine.
_READONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")
_MASKED_FILES = ("proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list")
_MASKED_DIRECTORIES = (
    "proc/acpi",
    "proc/asound",
    "proc/scsi",
    "sys/firmware",
    "sys/devices/virtual/powercap",
)


class Place:
    """A root that is being furnished; *scratch* is a directory for files that are bound in."""

    def __init__(self, root: str, scratch: str) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY)
        self._scratch = scratch
        self._made = 0

    def close(self) -> None:
        """Close the root's descriptor."""
        os.close(self._root)

    def enter(self) -> None:
        """Make this the root and the working directory of the process; the old one is gone."""
        os.fchdir(self._root)
        try:
            linux.pivot_root(".", ".")
            linux.umount(".", linux.MNT_DETACH)
        except OSError as error:
            if error.errno != EINVAL:
                raise
            # The first root of a machine (an initramfs) cannot be pivoted away.
            linux.mount(".", "/", None, linux.MS_MOVE)
            os.chroot(".")
        os.chdir("/")

    def at(self, path: str | bytes, mount: Callable[[str], None]) -> None:
        """Call *mount* with a name of *path* inside the root under which it can be mounted on."""
        fd = self.open(path)
        try:
            mount(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def fresh(self, path: str | bytes, kind: str, flags: int, data: str = "") -> None:
        """Mount a new file system of *kind* on *path*."""
        self.at(path, lambda target: linux.mount(kind, target, kind, flags, data))

    def bind(self, source: str, path: str | bytes, flags: int = 0) -> None:
        """Bind *source*, a path outside, on *path*."""
        self.at(path, lambda target: linux.mount(source, target, None, MS_BIND | flags))

    def readonly(self, path: str | bytes) -> None:
        """Make the mount on *path*, and what is mounted below it, read-only."""
        self.at(path, linux.make_readonly)

    def open(self, path: str | bytes) -> int:
        """Open *path* as a place to mount or to make files in; the caller closes it."""
        return linux.openat2(self._root, path, os.O_PATH)

    def scratch_file(self, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> str:
        """Write *data* into a new file outside of the root, and return its path."""
        path = f"{self._scratch}/{self._made}"
        self._made += 1
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        return path

    def ensure(self, path: bytes, *, is_file: bool) -> None:
        """Make the mount point *path* if it is missing.

        The stubs of the root hold every mount point; it is missing only where another mount
        hides the stub, and then this writes into that mount.
        """
        with suppress(FileNotFoundError):
            os.close(self.open(path))
            return
        parent, _, name = path.rstrip(b"/").rpartition(b"/")
        if parent:
            self.ensure(parent, is_file=False)
        if is_file:
            # What a command left in a cache may be a link that leads out of the root: only
            # openat2 makes the file where the command would find it.
            os.close(linux.openat2(self._root, path, os.O_CREAT | os.O_WRONLY, 0o644))
            return
        fd = self.open(parent or b".")
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, b"/" + path.lstrip(b"/")) from None
        finally:
            os.close(fd)


def furnish(place: Place, request: RunRequest, roots: dict[int, Root]) -> None:
    """Mount everything that the command of *request* needs into *place*.

    The process has no umask afterwards.

    Raises:
        OSError: with the path that was the matter.
    """
    os.umask(0)
    _devices(place)
    _proc_and_sys(place, privileged=request["privileged"])
    place.bind(place.scratch_file(request["hosts"]), "etc/hosts")
    place.bind(place.scratch_file(request["resolv_conf"]), "etc/resolv.conf")
    for extra in roots[request["root"]].mounts:
        _extra(place, extra, roots)


def _devices(place: Place) -> None:
    place.fresh("dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k")
    fd = place.open("dev")
    for name, (major, minor) in _DEVICES.items():
        try:
            os.mknod(name, S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=fd)
        except PermissionError:
            # In a user namespace, and under a device cgroup, only nodes that are there work.
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o666, dir_fd=fd))
            place.bind(f"/dev/{name}", f"dev/{name}")
            # It is the machine's own node: a chmod of the image must not reach it. Writing to
            # the device does not need a writable mount.
            place.readonly(f"dev/{name}")
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, name, dir_fd=fd)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=fd)
    os.close(fd)
    _pseudo_terminals(place)
    place.fresh("dev/shm", "tmpfs", _PLAIN, "mode=1777,size=65536k")
    with suppress(OSError):  # POSIX message queues are a kernel's option
        place.fresh("dev/mqueue", "mqueue", _PLAIN)


def _pseudo_terminals(place: Place) -> None:
    options = "newinstance,ptmxmode=0666,mode=0620"
    try:
        place.fresh("dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, f"{options},gid={_TTY_GROUP}")
    except OSError as error:
        if error.errno != EINVAL:
            raise
        place.fresh("dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)


def _proc_and_sys(place: Place, *, privileged: bool) -> None:
    try:
        place.fresh("proc", "proc", _PLAIN)
    except PermissionError:
        # In an unprivileged container parts of /proc are covered, and the kernel allows no
        # new view of it. The old view serves, though it numbers processes as its own does.
        place.bind("/proc", "proc", MS_REC)
    try:
        place.fresh("sys", "sysfs", _PLAIN if privileged else _PLAIN | MS_RDONLY)
    except PermissionError:
        # A user namespace has no right to sysfs while it shares the network.
        place.bind("/sys", "sys", MS_REC)
        if not privileged:
            place.readonly("sys")
    if not privileged:
        _cover_knobs(place)


def _cover_knobs(place: Place) -> None:
    for path in _READONLY:
        with _ignored_absence():
            place.at(path, lambda target: linux.mount(target, target, None, MS_BIND | MS_REC))
            place.readonly(path)
    null = place.open("dev/null")
    for path in _MASKED_FILES:
        with _ignored_absence():
            place.bind(f"/proc/self/fd/{null}", path)
            place.readonly(path)
    os.close(null)
    for path in _MASKED_DIRECTORIES:
        with _ignored_absence():
            place.fresh(path, "tmpfs", _PLAIN | MS_RDONLY, "size=4k")


def _ignored_absence() -> suppress:
    # EPERM: the old view of /proc, where others have masked already what we may not.
    return suppress(FileNotFoundError, PermissionError)


def _extra(place: Place, extra: ExtraMount, roots: dict[int, Root]) -> None:
    target = extra["target"]
    if extra["kind"] == "tmpfs":
        place.ensure(target, is_file=False)
        options = f"mode={extra['mode']:o}" + (f",size={extra['size']}" if extra["size"] else "")
        place.fresh(target, "tmpfs", MS_NOSUID | (0 if extra["writable"] else MS_RDONLY), options)
        return
    if extra["kind"] == "file":
        place.ensure(target, is_file=True)
        path = place.scratch_file(extra["data"], extra["mode"], extra["uid"], extra["gid"])
        place.bind(path, target)
        place.readonly(target)
        return
    fd = open_source(extra, roots)
    place.ensure(target, is_file=not S_ISDIR(os.fstat(fd).st_mode))
    place.bind(f"/proc/self/fd/{fd}", target, MS_REC)
    if not extra["writable"]:
        place.readonly(target)
    os.close(fd)
