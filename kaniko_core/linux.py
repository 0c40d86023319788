"""The kernel's calls that Python 3.11 lacks: the only ctypes in the program.

Every function raises OSError with the path it was about. libc is loaded at the first call, so
that importing this module costs nothing; it also imports nothing but ``os``, because the
sandbox server starts with it.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EINTR, EINVAL, ENOSYS, EPERM
from functools import cache
from struct import Struct

TYPE_CHECKING = False  # typing's own constant would cost an import of typing
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterable

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

# linux/openat2.h
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# Calls since Linux 5.1 have the same number on every architecture that Python runs on.
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_OPEN_HOW = Struct("QQQ")  # flags, mode, resolve
_MOUNT_ATTR = Struct("QQQQ")  # attr_set, attr_clr, propagation, userns_fd
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_HEADER = Struct("Ii")  # version, pid
_CAPABILITY_SETS = Struct("6I")  # effective, permitted, inheritable; low halves, then high
_CAPABILITY_VERSION_3 = 0x20080522
_SIG_DFL = 0
_SIG_SETMASK = 2
_SIGNALS = 64
_SIGSET_BYTES = 128  # sizeof(sigset_t); the kernel's own has 8
# Numbers of rt_sigaction(2), and bytes enough for the kernel's struct with SIG_DFL: zeros.
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134}
_SIGACTION_BYTES = 32
_SIGNALS_OF_THE_LIBRARY = (32, 33)


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


@cache
def _openat2() -> Callable[[int, bytes, bytes], int]:
    import ctypes

    # A library object of its own: its prototype must not disturb other callers of syscall().
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    )

    def openat2(dir_fd: int, path: bytes, how: bytes) -> int:
        while True:
            fd: int = call(_SYS_OPENAT2, dir_fd, path, how, _OPEN_HOW.size)
            # A rename elsewhere on the machine can disturb the walk: the kernel says EAGAIN.
            if fd >= 0 or ctypes.get_errno() not in (EAGAIN, EINTR):
                return fd

    return openat2


def _raise(path: str | bytes | int | None, other: str | bytes | None = None) -> None:
    import ctypes

    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path, None, other)


def openat2(
    dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT
) -> int:
    """Open *path* below *dir_fd*, and return a close-on-exec file descriptor.

    With the default *resolve*, absolute paths, ``..`` and symbolic links cannot leave *dir_fd*.

    Raises:
        OSError: as ``open`` does; ENOSYS before Linux 5.6, EPERM under some seccomp filters.

    Source: openat2(2).
    """
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    fd = _openat2()(dir_fd, os.fsencode(path), how)
    if fd < 0:
        _raise(path)
    return fd


def mount(
    source: str | bytes | None,
    target: str | bytes,
    kind: str | None = None,
    flags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """Mount *source* of file system type *kind* on *target*; *data* has at most 4095 bytes.

    Source: mount(2).
    """
    import ctypes

    result = _libc().mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if data is None else os.fsencode(data),
    )
    if result != 0:
        _raise(target)


def umount(target: str | bytes, flags: int = 0) -> None:
    """Unmount *target*; with MNT_DETACH it disappears now and ends with its last user."""
    if _libc().umount2(os.fsencode(target), flags) != 0:
        _raise(target)


def make_readonly(target: str | bytes) -> None:
    """Make the mount at *target*, and those below it, read-only; other mounts are not touched.

    Before Linux 5.12 those below it stay as they are.

    Source: mount_setattr(2).
    """
    import ctypes

    attributes = _MOUNT_ATTR.pack(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc().syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    if result == 0:
        return
    if ctypes.get_errno() != ENOSYS:
        _raise(target)
    mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _kept_flags(target))


def _kept_flags(target: str | bytes) -> int:
    # In a user namespace a remount that drops an inherited flag is refused with EPERM; the
    # ST_ flags of statvfs have the values of the MS_ flags.
    return os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)


def unshare(flags: int) -> None:
    """Give this process new namespaces. Only for single-threaded processes."""
    if _libc().unshare(flags) != 0:
        _raise(None)


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that *fd* is open on."""
    if _libc().setns(fd, kind) != 0:
        _raise(None)


def pivot_root(new_root: str | bytes, put_old: str | bytes) -> None:
    """Make *new_root* the root of this mount namespace, and *put_old* the place of the old one."""
    if _libc().pivot_root(os.fsencode(new_root), os.fsencode(put_old)) != 0:
        _raise(new_root)


def syncfs(fd: int) -> None:
    """Wait until everything written to the file system of *fd* is on its disk."""
    if _libc().syncfs(fd) != 0:
        _raise(None)


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send *signal* to this process when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Make every orphan below this process its child, as process 1 does for all others.

    Source: PR_SET_CHILD_SUBREAPER(2const).
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(operation: int, argument: int) -> None:
    import ctypes

    zero = ctypes.c_ulong(0)
    if _libc().prctl(operation, ctypes.c_ulong(argument), zero, zero, zero) != 0:
        _raise(None)


def limit_capabilities(keep: Iterable[int], *, from_bounds: bool = True) -> None:
    """Drop every capability but *keep*; none is inheritable.

    Args:
        keep: their numbers.
        from_bounds: whether EPERM counts when the bounding set, which a program of root gets
            at its start, cannot be limited too.

    Source: capabilities(7).
    """
    import contextlib
    import ctypes

    wanted = sum(1 << capability for capability in keep)
    for capability in range(64):
        if not wanted >> capability & 1:
            try:
                _prctl(_PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno == EINVAL:
                    break  # the kernel knows no capability of so high a number
                if from_bounds or error.errno != EPERM:
                    raise
                break
    with contextlib.suppress(OSError):
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CAPABILITY_HEADER.pack(_CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    libc = _libc()
    if libc.capget(header, sets) != 0:
        _raise(None)
    _, low, _, _, high, _ = _CAPABILITY_SETS.unpack(sets.raw)
    low &= wanted & 0xFFFFFFFF
    high &= wanted >> 32
    if libc.capset(header, _CAPABILITY_SETS.pack(low, low, 0, high, high, 0)) != 0:
        _raise(None)


def reset_signals() -> None:
    """Give every signal its default disposition and block none, as a new program expects.

    Python ignores SIGPIPE, and what a process ignores its children ignore too.
    """
    import ctypes

    libc = _libc()
    libc.signal.restype = ctypes.c_void_p
    for number in range(1, _SIGNALS + 1):
        libc.signal(number, ctypes.c_void_p(_SIG_DFL))
    if (call := _RT_SIGACTION.get(os.uname().machine)) is not None:
        # The library keeps these two for itself, and make starts programs with both ignored.
        default = ctypes.create_string_buffer(_SIGACTION_BYTES)
        for number in _SIGNALS_OF_THE_LIBRARY:
            libc.syscall(ctypes.c_long(call), number, default, None, ctypes.c_size_t(8))
    libc.sigprocmask(_SIG_SETMASK, ctypes.create_string_buffer(_SIGSET_BYTES), None)
