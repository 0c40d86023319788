"""Overlays, and the stubs below them: the part of the sandbox server that makes roots.

    <mounts>/                a tmpfs that only the server sees
    ├── none/, empty/        an overlay wants two lower directories; these are never in the way
    └── 7/                   one mounted root
        ├── below/           the lower directories alone, read-only
        ├── stubs/           mount points that the image lacks, with their parents
        └── root/            stubs and upper directory on top of the lowers

A container runtime makes missing mount points in the image and tries to remove them again.
Here they lie in a layer of their own, on top of the lowers and below the upper directory, so
the upper directory never hears of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL, EISDIR, ELOOP, ENOTDIR
from stat import S_IFCHR, S_IMODE, S_ISCHR, S_ISDIR, S_ISLNK

from kaniko_core import linux

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kaniko_core.sandbox.wire import ExtraMount, MountRequest

# What every RUN finds in its root; (path, whether it is a file).
STANDARD_POINTS = (
    (b"proc", False),
    (b"sys", False),
    (b"dev", False),
    (b"etc/hosts", True),
    (b"etc/resolv.conf", True),
)
_MAX_LINKS = 40  # as the kernel: path_resolution(7)
# redirect_dir and metacopy would leave half files and pointers in the upper directory, which
# could not be read as a changeset; index would tie the upper directory to its first lowers.
_OPTIONS = "redirect_dir=nofollow,metacopy=off,index=off"


class Root:
    """A mounted root: its directory below the server's own tmpfs.

    Attributes:
        below: where the lower directories alone are mounted.
        path: where the root is; the same without an upper directory.
    """

    def __init__(self, directory: str, request: MountRequest) -> None:
        self.directory = directory
        self.mounts = request["mounts"]
        self.work = os.fsdecode(request["work"] or b"")
        self.below = f"{directory}/below"
        self.path = f"{directory}/root" if request["upper"] else self.below


def mount_root(
    directory: str, request: MountRequest, roots: dict[int, Root], *, userxattr: bool
) -> Root:
    """Mount what *request* asks for below *directory*, which must not be there yet.

    Without an upper directory, the root is the lowers alone.

    Raises:
        OSError: a directory is missing, or the kernel refuses; nothing stays mounted then.
    """
    root = Root(directory, request)
    for name in ("", "/below", "/root", "/stubs"):
        os.mkdir(directory + name, 0o755)  # noqa: PTH102 - pathlib would slow the start
    lowers = [os.fsdecode(lower) for lower in request["lowers"]]
    base = _empty_directories(directory.rpartition("/")[0])[: max(2 - len(lowers), 0)]
    try:
        mount_overlay(root.below, [*base, *lowers], userxattr=userxattr)
        if request["upper"] is None or request["work"] is None:
            return root
        stubs = f"{directory}/stubs"
        extras = [(mount["target"], _is_file(mount, roots)) for mount in root.mounts]
        standard = () if request["bare"] else STANDARD_POINTS
        if make_stubs(root.below, stubs, (*standard, *extras)):
            lowers.append(stubs)
        upper = os.fsdecode(request["upper"])
        copy_metadata(root.below, upper)
        upper_pair = (upper, os.fsdecode(request["work"]))
        mount_overlay(root.path, [*base, *lowers], upper_pair, userxattr=userxattr)
    except OSError:
        with suppress(OSError):
            linux.umount(root.below, linux.MNT_DETACH)
        remove_tree(directory)
        raise
    return root


def _empty_directories(mounts: str) -> list[str]:
    """Return two empty directories, which no root has for itself and none takes away.

    Who holds a root open when it is unmounted would find nothing in a directory of which one of
    the lower ones is removed.
    """
    paths = [f"{mounts}/none", f"{mounts}/empty"]
    for path in paths:
        with suppress(FileExistsError):
            os.mkdir(path, 0o755)  # noqa: PTH102
    return paths


def unmount_root(root: Root) -> None:
    """Unmount *root* and forget its directory; who still holds a descriptor may go on reading."""
    for path in {root.path, root.below}:
        linux.umount(path, linux.MNT_DETACH)
    remove_tree(root.directory)
    if root.work:
        # The mark of a volatile overlay says that a power cut may have spoiled the upper
        # directory, and forbids another mount. This machine has been up all the time.
        mark = f"{root.work}/work/incompat/volatile"
        with suppress(FileNotFoundError):
            os.unlink(f"{mark}/dirty")  # noqa: PTH108
            os.rmdir(mark)  # noqa: PTH106


def mount_overlay(
    target: str,
    lowers: Sequence[str],
    upper_and_work: tuple[str, str] | None = None,
    *,
    userxattr: bool,
) -> None:
    """Mount an overlay of *lowers*, bottom first; read-only without *upper_and_work*.

    Raises:
        OSError: with the path that is missing, or with *target*.
    """
    fds: list[int] = []
    try:
        for path in (*lowers, *(upper_and_work or ())):
            fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
        # The options have one page of space. Seen from /proc/self/fd the names of the
        # directories are numbers, so that page holds more layers than the kernel allows.
        names = [str(fd) for fd in fds]
        below = names[: len(lowers)]
        options = _OPTIONS + ",lowerdir=" + ":".join(reversed(below))
        if userxattr:
            options += ",userxattr"
        os.chdir("/proc/self/fd")
        if upper_and_work is None:
            linux.mount("overlay", target, "overlay", linux.MS_RDONLY, options)
        else:
            options += f",upperdir={names[-2]},workdir={names[-1]}"
            _mount_volatile(target, options)
    finally:
        os.chdir("/")
        for fd in fds:
            os.close(fd)


def open_source(mount: ExtraMount, roots: dict[int, Root]) -> int:
    """Open what a bind mount shows, resolved inside its base; the caller closes it."""
    base = roots[mount["root"]].path if mount["root"] >= 0 else os.fsdecode(mount["base"])
    base_fd = os.open(base, os.O_PATH | os.O_DIRECTORY)
    try:
        return linux.openat2(base_fd, mount["source"], os.O_PATH)
    finally:
        os.close(base_fd)


def _is_file(mount: ExtraMount, roots: dict[int, Root]) -> bool:
    if mount["kind"] != "bind":
        return mount["kind"] == "file"
    fd = open_source(mount, roots)
    try:
        return not S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _mount_volatile(target: str, options: str) -> None:
    # A build that loses power starts over: syncing every upper directory would be for nothing.
    try:
        linux.mount("overlay", target, "overlay", 0, options + ",volatile")
    except OSError as error:
        if error.errno != EINVAL:
            raise
        linux.mount("overlay", target, "overlay", 0, options)  # before Linux 5.10


def make_stubs(view: str, stubs: str, points: Iterable[tuple[bytes, bool]]) -> bool:
    """Make in *stubs* every mount point that *view* lacks; return whether one was lacking.

    Parents that are in *view* get its metadata, because the topmost directory of an overlay
    shows its own.

    Raises:
        OSError: the image has a file where a directory must be (ENOTDIR), a directory where
            a file must be (EISDIR), or links that lead in a circle (ELOOP).
    """
    made: list[tuple[bytes, bytes]] = []
    root, target = os.fsencode(view), os.fsencode(stubs)
    for path, is_file in points:
        real, status = resolve(root, path)
        if status is not None:
            if S_ISDIR(status.st_mode) == is_file:
                wrong = EISDIR if is_file else ENOTDIR
                raise OSError(wrong, os.strerror(wrong), "/" + os.fsdecode(path).lstrip("/"))
            continue
        parts = real.split(b"/")
        for depth in range(1, len(parts)):
            _make_directory(root, target, b"/".join(parts[:depth]), made)
        if is_file:
            os.close(os.open(target + b"/" + real, os.O_CREAT | os.O_WRONLY, 0o644))
        else:
            _make_directory(root, target, real, made)
    if not made and not os.listdir(stubs):
        return False
    for source, copy in reversed(made):
        copy_metadata(source, copy)
    return True


def _make_directory(
    view: bytes, stubs: bytes, name: bytes, made: list[tuple[bytes, bytes]]
) -> None:
    source, copy = view + b"/" + name, stubs + b"/" + name
    if os.path.lexists(copy):
        return
    os.mkdir(copy, 0o755)  # noqa: PTH102
    if os.path.lexists(source):
        made.append((source, copy))


def resolve(root: bytes, path: bytes) -> tuple[bytes, os.stat_result | None]:
    """Follow all symbolic links of *path* inside *root*; return the real name and its status.

    The status is None where nothing is there; the name then is where it would be made.

    Raises:
        OSError: ELOOP, or ENOTDIR when something below a file is asked for.
    """
    done: list[bytes] = []
    todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    status: os.stat_result | None = None
    links = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            del done[-1:]
            continue
        if status is not None and not S_ISDIR(status.st_mode):
            raise OSError(ENOTDIR, os.strerror(ENOTDIR), path)
        status = _lstat(b"/".join((root, *done, part)))
        if status is None or not S_ISLNK(status.st_mode):
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(ELOOP, os.strerror(ELOOP), path)
        target = os.readlink(b"/".join((root, *done, part)))  # noqa: PTH115
        status = None
        if target.startswith(b"/"):
            done.clear()
        todo.extend(p for p in reversed(target.split(b"/")) if p not in (b"", b"."))
    return b"/".join(done), _lstat(b"/".join((root, *done)))


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def copy_metadata(source: str | bytes, target: str | bytes) -> None:
    """Give the directory *target* the owner, mode, attributes and times of *source*."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, S_IMODE(status.st_mode))  # noqa: PTH101
    for name in os.listxattr(source):
        # The overlay hides its own attributes, so whatever shows belongs to the image. What
        # the target's file system cannot hold (an SELinux label) is not worth failing for.
        with suppress(OSError):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove_tree(directory: str) -> None:
    """Remove a directory of the server's own tmpfs; no mounts are left in it."""
    for path, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{path}/{name}")  # noqa: PTH108
        for name in directories:
            os.rmdir(f"{path}/{name}")  # noqa: PTH106
    os.rmdir(directory)  # noqa: PTH106


def try_overlay(directory: str, *, userxattr: bool) -> bool:
    """Mount an overlay in the empty *directory*; return whether a deletion leaves a whiteout.

    Raises:
        OSError: the kernel refused; the path in it says what.
    """
    for name in ("lower", "lower/gone", "upper", "work", "merged"):
        os.mkdir(f"{directory}/{name}")  # noqa: PTH102
    lower, upper, merged = (f"{directory}/{name}" for name in ("lower", "upper", "merged"))
    os.setxattr(upper, f"{_namespace(userxattr)}.overlay.probe", b"y")
    # Another owner than root: with a single mapped id this fails.
    os.chown(f"{lower}/gone", 65534, 65534)
    mount_overlay(merged, [lower], (upper, f"{directory}/work"), userxattr=userxattr)
    try:
        os.rmdir(f"{merged}/gone")  # noqa: PTH106
    finally:
        linux.umount(merged, linux.MNT_DETACH)
    status = os.lstat(f"{upper}/gone")
    return S_ISCHR(status.st_mode) and status.st_rdev == 0


def try_lower(directory: str, mounts: str, *, userxattr: bool) -> bool:
    """Return whether whiteouts and opaque directories written below *directory* are honoured.

    Raises:
        OSError: they cannot be written, or not be mounted.
    """
    bottom, top, view = f"{mounts}/bottom", f"{directory}/top", f"{mounts}/view"
    for path in (bottom, f"{bottom}/hidden", f"{bottom}/hidden/file", f"{bottom}/gone", view):
        os.mkdir(path)  # noqa: PTH102
    try:
        os.mkdir(top)  # noqa: PTH102
        os.mkdir(f"{top}/hidden")  # noqa: PTH102
        os.setxattr(f"{top}/hidden", f"{_namespace(userxattr)}.overlay.opaque", b"y")
        os.mknod(f"{top}/gone", S_IFCHR, 0)
        mount_overlay(view, [bottom, top], userxattr=userxattr)
        try:
            return os.listdir(view) == ["hidden"] and not os.listdir(f"{view}/hidden")
        finally:
            linux.umount(view, linux.MNT_DETACH)
    finally:
        remove_tree(bottom)
        os.rmdir(view)  # noqa: PTH106


def _namespace(userxattr: bool) -> str:
    return "user" if userxattr else "trusted"
