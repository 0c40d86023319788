"""What every way of finding a command's changes must find: scenarios, for all of them.

A scenario prepares a root, and changes it. What was found, unpacked onto a copy of the old root,
must give the new one; and where it is beyond dispute, the very names are given: D directory,
F file, H hard link, S symbolic link, C device, P pipe, W whiteout, O opaque directory.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kaniko_core.oci.archive import tar_stream
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.rootfs.unpack import Whiteouts, unpack

_LETTERS = {
    Kind.DIRECTORY: "D",
    Kind.FILE: "F",
    Kind.HARDLINK: "H",
    Kind.SYMLINK: "S",
    Kind.CHARACTER: "C",
    Kind.BLOCK: "C",
    Kind.FIFO: "P",
    Kind.WHITEOUT: "W",
    Kind.OPAQUE: "O",
}
# cap_net_raw=ep, as setcap writes it: version 2, effective; permitted; inheritable.
_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")

Tree = dict[bytes, tuple[object, ...]]
Act = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A change to the common root.

    Attributes:
        act: what happens to the root.
        told: the names to be told, where all must tell the same.
        scanned: what a scan tells instead, which cannot know everything that an overlay knows.
        prepare: what the root has besides the common things.
        as_root: whether it takes root to do this.
    """

    act: Act
    told: str | None = None
    scanned: str | None = None
    prepare: Act = lambda root: None
    as_root: bool = False


def furnish(root: Path) -> None:
    """Put into the empty directory *root* what all scenarios begin with."""
    root.chmod(0o755)
    for name in ("app/sub", "etc", "tree/deep/er", "old/old"):
        (root / name).mkdir(parents=True)
    (root / "app/one").write_text("one\n")
    (root / "app/two").write_text("two\n")
    (root / "app/sub/three").write_text("three\n")
    (root / "app/one-again").hardlink_to(root / "app/one")
    (root / "app/link").symlink_to("one")
    os.mkfifo(root / "app/pipe")
    (root / "tree/deep/er/x").write_text("x\n")
    (root / "old/old/y").write_text("y\n")
    for name in ("app/one", "app/two", "tree"):
        os.utime(root / name, (1e9, 1e9))


def told(entries: Iterable[Entry]) -> str:
    """Return kinds and names of *entries* as scenarios give them."""
    return "; ".join(f"{_LETTERS[entry.kind]} {os.fsdecode(entry.name)}" for entry in entries)


def apply(entries: Iterable[Entry], onto: Path) -> None:
    """Unpack a layer of *entries* onto the root *onto*."""
    data = b"".join(tar_stream(entries))
    unpack(io.BytesIO(data), onto, whiteouts=Whiteouts.APPLY)


def copy(root: Path, target: Path) -> None:
    """Make *target* a root like *root*: with its links, owners, times and attributes."""
    subprocess.run(["cp", "-a", f"{root}/.", target], check=True)


def seen(root: Path) -> Tree:
    """Return all that layers say about the tree *root*, which may be any open directory's path.

    Sockets are nothing. The times of directories are left out: one that is only the way to a
    change need not be told.
    """
    found: Tree = {}
    names: dict[tuple[int, int], bytes] = {}
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        for child in sorted(os.listdir(os.fsencode(root) + b"/" + directory)):
            name = directory + child
            path = os.fsencode(root) + b"/" + name
            status = os.lstat(path)
            mode = status.st_mode
            if stat.S_ISSOCK(mode):
                continue
            if stat.S_ISDIR(mode):
                waiting.append(name + b"/")
            first = names.setdefault((status.st_dev, status.st_ino), name)
            time_ns = 0 if stat.S_ISDIR(mode) else status.st_mtime_ns
            found[name] = (
                *(mode, status.st_uid, status.st_gid, status.st_rdev, time_ns, first),
                _content(path, mode),
                {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                },
            )
    return found


def _content(path: bytes, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.readlink(path)  # noqa: PTH115 - no Path has bytes
    return Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(mode) else b""


# --- what happens -----------------------------------------------------------------------------


def _each(*acts: Act) -> Act:
    def act(root: Path) -> None:
        for one in acts:
            one(root)

    return act


def _write(name: str | bytes, text: str = "new\n") -> Act:
    def act(root: Path) -> None:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return act


def _make(*names: str) -> Act:
    return lambda root: [(root / name).mkdir() for name in names]


def _remove(*names: str) -> Act:
    return lambda root: subprocess.run(["rm", "-r", *(root / name for name in names)], check=True)


def _move(*names: str) -> Act:
    # By mv, for an overlay refuses to rename what its lower directories have.
    def act(root: Path) -> None:
        for old, new in zip(names[::2], names[1::2], strict=True):
            subprocess.run(["mv", "-T", root / old, root / new], check=True)

    return act


def _link(old: str, *new: str) -> Act:
    return lambda root: [(root / name).hardlink_to(root / old) for name in new]


def _symlink(name: str, target: str) -> Act:
    def act(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)

    return act


def _chmod(name: str, mode: int) -> Act:
    return lambda root: (root / name).chmod(mode)


def _owner(name: str, uid: int, gid: int) -> Act:
    return lambda root: os.lchown(root / name, uid, gid)


def _attribute(name: str, key: str, value: bytes) -> Act:
    return lambda root: os.setxattr(root / name, key, value)


def _touch(name: str, seconds: int) -> Act:
    return lambda root: os.utime(root / name, (seconds, seconds))


def _backdated(name: str, text: str) -> Act:
    """Give a file other bytes, and the time that it had."""

    def act(root: Path) -> None:
        before = (root / name).stat()
        (root / name).write_text(text)
        os.utime(root / name, ns=(before.st_atime_ns, before.st_mtime_ns))

    return act


def _device(name: str, kind: int, minor: int) -> Act:
    return lambda root: os.mknod(root / name, kind | 0o600, os.makedev(1, minor))


def _socket(name: str) -> Act:
    def act(root: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            # A path that is short enough for any root.
            fd = os.open((root / name).parent, os.O_PATH)
            server.bind(f"/proc/self/fd/{fd}/{Path(name).name}")
            os.close(fd)

    return act


def _sparse(name: str) -> Act:
    def act(root: Path) -> None:
        with (root / name).open("wb") as file:
            file.truncate(3 << 20)
            file.seek(1 << 20)
            file.write(b"in the middle")

    return act


def _deep(count: int) -> Act:
    return _write("/".join(["tree", *(["d"] * count), "leaf"]))


SCENARIOS = {
    "nothing": Scenario(lambda root: None, ""),
    "new file": Scenario(_write("app/new"), "D app; F app/new"),
    "new file in the root": Scenario(_write("new"), "F new"),
    "changed content": Scenario(_write("app/two", "2"), "D app; F app/two"),
    "same size and time": Scenario(_backdated("app/two", "TWO\n"), "D app; F app/two"),
    "same size, in the tick it was made in": Scenario(
        _backdated("fresh", "ABC"), "F fresh", prepare=_write("fresh", "abc")
    ),
    "only the time": Scenario(_touch("app/two", 5), "D app; F app/two"),
    "only the time of a directory": Scenario(_touch("app/sub", 5), ""),
    "mode": Scenario(_chmod("app/two", 0o4755), "D app; F app/two"),
    "mode of a directory": Scenario(_chmod("app/sub", 0o700), "D app; D app/sub"),
    "sticky directory": Scenario(_chmod("etc", 0o1777), "D etc"),
    "owner": Scenario(_owner("app/two", 12, 34), "D app; F app/two", as_root=True),
    "owner of a link": Scenario(_owner("app/link", 5, 6), "D app; S app/link", as_root=True),
    "owner of a directory": Scenario(
        _owner("tree/deep", 5, 6), "D tree; D tree/deep", as_root=True
    ),
    "attribute": Scenario(_attribute("app/two", "user.kaniko", b"1"), "D app; F app/two"),
    "attribute of a directory": Scenario(_attribute("app/sub", "user.k", b""), "D app; D app/sub"),
    "attribute changed": Scenario(
        _attribute("etc", "user.k", b"2"), "D etc", prepare=_attribute("etc", "user.k", b"1")
    ),
    "attribute removed": Scenario(
        lambda root: os.removexattr(root / "app/two", "user.k"),
        "D app; F app/two",
        prepare=_attribute("app/two", "user.k", b"1"),
    ),
    "capability": Scenario(
        _attribute("app/two", "security.capability", _CAPABILITY), "D app; F app/two", as_root=True
    ),
    "renamed file": Scenario(_move("app/two", "app/zwei"), "D app; W app/two; F app/zwei"),
    "file renamed over another": Scenario(
        _move("app/two", "app/sub/three"), "D app; D app/sub; F app/sub/three; W app/two"
    ),
    "two files swapped": Scenario(
        _move("app/two", "t", "app/sub/three", "app/two", "t", "app/sub/three"),
        "D app; D app/sub; F app/sub/three; F app/two",
    ),
    "renamed directory": Scenario(
        _move("tree", "baum"), "D baum; D baum/deep; D baum/deep/er; F baum/deep/er/x; W tree"
    ),
    "two directories swapped": Scenario(
        _move("tree", "t", "old", "tree", "t", "old"),
        scanned="D old; D old/deep; D old/deep/er; F old/deep/er/x; W old/old;"
        " D tree; W tree/deep; D tree/old; F tree/old/y",
    ),
    "renamed new directory": Scenario(
        _each(_write("new/a"), _move("new", "newer"), _make("new")), "D new; D newer; F newer/a"
    ),
    "directory moved with one of two names": Scenario(
        _move("tree", "baum"),
        prepare=_link("tree/deep/er/x", "app/x"),
        scanned="D app; F app/x; D baum; D baum/deep; D baum/deep/er; H baum/deep/er/x; W tree",
    ),
    "new hard links": Scenario(
        _each(_write("app/l1"), _link("app/l1", "app/l2", "tree/l3")),
        "D app; F app/l1; H app/l2; D tree; H tree/l3",
    ),
    "hard link to an old file": Scenario(
        _link("app/two", "tree/zwei"), "D app; F app/two; D tree; H tree/zwei"
    ),
    "one of two names removed": Scenario(
        _remove("app/one-again"), scanned="D app; F app/one; W app/one-again"
    ),
    "one of two names changed": Scenario(
        _write("app/one", "1"), scanned="D app; F app/one; H app/one-again"
    ),
    "one of two names replaced": Scenario(
        _each(_remove("app/one"), _write("app/one")), scanned="D app; F app/one; F app/one-again"
    ),
    "symbolic links with two names": Scenario(
        _each(
            _symlink("app/new", "x"),
            lambda root: os.link(root / "app/new", root / "etc/new", follow_symlinks=False),
        ),
        "D app; S app/new; D etc; H etc/new",
    ),
    "removed file": Scenario(_remove("app/two"), "D app; W app/two"),
    "removed directory": Scenario(_remove("tree"), "W tree"),
    "removed inner directory": Scenario(_remove("tree/deep"), "D tree; W tree/deep"),
    "everything removed": Scenario(
        _remove("app", "etc", "old", "tree"), "W app; W etc; W old; W tree"
    ),
    "made and removed": Scenario(_each(_write("t/x"), _remove("t")), ""),
    "file removed and made again": Scenario(
        _each(_remove("app/two"), _write("app/two", "two\n")), "D app; F app/two"
    ),
    "directory removed and made again": Scenario(
        _each(_remove("old"), _write("old/new")), scanned="D old; F old/new; W old/old"
    ),
    "file for directory": Scenario(_each(_remove("tree"), _write("tree")), "F tree"),
    "directory for file": Scenario(
        _each(_remove("app/two"), _write("app/two/in")), "D app; D app/two; F app/two/in"
    ),
    "file for directory for file": Scenario(
        _each(_remove("app/two"), _write("app/two/in"), _remove("app/two"), _write("app/two", "f")),
        "D app; F app/two",
    ),
    "directory for file for directory": Scenario(
        _each(_remove("old"), _write("old"), _remove("old"), _write("old/old/y", "again")),
        scanned="D old; D old/old; F old/old/y",
    ),
    "link for directory": Scenario(_each(_remove("tree"), _symlink("tree", "app")), "S tree"),
    "link for directory and back": Scenario(
        _each(_move("tree", "t"), _symlink("tree", "t"), _remove("tree"), _move("t", "tree")),
        scanned="",
    ),
    "directory for link": Scenario(
        _each(_remove("app/link"), _make("app/link")), "D app; D app/link"
    ),
    "link's target": Scenario(_symlink("app/link", "sub/three"), "D app; S app/link"),
    "link's target of the same length": Scenario(_symlink("app/link", "two"), "D app; S app/link"),
    "what a link leads to": Scenario(
        _write("app/link", "1"), scanned="D app; F app/one; H app/one-again"
    ),
    "pipe": Scenario(lambda root: os.mkfifo(root / "p"), "P p"),
    "device": Scenario(_device("app/null", stat.S_IFCHR, 3), "D app; C app/null", as_root=True),
    "block device": Scenario(
        _device("app/disk", stat.S_IFBLK, 1), "D app; C app/disk", as_root=True
    ),
    "another device": Scenario(
        _each(_remove("d"), _device("d", stat.S_IFCHR, 5)),
        "C d",
        prepare=_device("d", stat.S_IFCHR, 3),
        as_root=True,
    ),
    "new socket": Scenario(_socket("app/socket"), ""),
    "socket for a file": Scenario(
        _each(_remove("app/two"), _socket("app/two")), "D app; W app/two"
    ),
    "socket for a directory": Scenario(_each(_remove("tree"), _socket("tree")), "W tree"),
    "empty directory": Scenario(_make("app/empty"), "D app; D app/empty"),
    "deep tree": Scenario(_deep(400)),
    "one end of a deep tree": Scenario(
        _write("tree/" + "d/" * 400 + "leaf", "2"), prepare=_deep(400)
    ),
    "deep tree removed": Scenario(_remove("tree/d"), "D tree; W tree/d", prepare=_deep(400)),
    "line feed in a name": Scenario(_write("app/a\nb"), "D app; F app/a\nb"),
    "name that is not UTF-8": Scenario(
        _each(_write(b"app/\xff\xfe"), _remove("etc")), "D app; F app/\udcff\udcfe; W etc"
    ),
    "name that is not UTF-8 removed": Scenario(
        _remove("app/\udcff"), "D app; W app/\udcff", prepare=_write(b"app/\xff")
    ),
    "names that sort around a slash": Scenario(
        _each(_write("app/sub/new"), _write("app/sub-a"), _write("app/sub.b"), _write("app/sub0")),
        "D app; D app/sub; F app/sub/new; F app/sub-a; F app/sub.b; F app/sub0",
    ),
    "sparse file": Scenario(_sparse("app/image"), "D app; F app/image"),
    "emptied file": Scenario(_write("app/two", ""), "D app; F app/two"),
}


def old_and_new(scenario: Scenario, place: Path) -> tuple[Path, Path]:
    """Make a prepared root and an equal one below *place*; the scenario is for the first."""
    root, old = place / "root", place / "old"
    for path in (root, old):
        path.mkdir()
    furnish(root)
    scenario.prepare(root)
    copy(root, old)
    return root, old


def must_be_skipped(scenario: Scenario) -> str | None:
    """Return why a scenario cannot run here."""
    if scenario.as_root and os.geteuid() != 0:
        return "only root may do this to a file"
    if shutil.which("cp") is None:
        return "there is no cp to copy a root with"
    return None
