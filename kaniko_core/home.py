"""The directory that carries our own interpreter, libraries and packages, if there is one.

In our images it is /kaniko, made by deploy/collect.py. There is no other Python, and no other C
library, that the programs use: a build in place replaces everything else in ``/``.

KANIKO_DIR or ``--kaniko-dir`` moves it: a program starts by copying its home there, and goes on
as the copy. What was the home is then a directory like any other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# Written by deploy/collect.py: a digest of all that it put beside it.
MARKER = ".kaniko-home"
# The directory of programs that are not ours: git, ssh, and what they start.
PROGRAMS = "libexec"
VARIABLE = "KANIKO_DIR"

_FLAG = "--kaniko-dir"
# What builds keep there: of those that were killed, and of those in place.
_LEFTOVERS = ("kaniko-build-", "in-place")


def home() -> Path | None:
    """Return the directory that carries this interpreter; None where a machine's own runs."""
    directory = Path(sys.prefix)
    return directory if (directory / MARKER).is_file() else None


def program(name: str) -> str | None:
    """Return where a program is: the one that we carry, or else the machine's; None without."""
    import shutil

    directory = home()
    path = None if directory is None else shutil.which(name, path=directory / PROGRAMS)
    return path or shutil.which(name)


def interpreter() -> tuple[str, ...]:
    """Return the words that start this interpreter anew."""
    directory = home()
    return (sys.executable,) if directory is None else _started_from(directory)


def _started_from(directory: Path) -> tuple[str, ...]:
    # By its own loader: the interpreter names the one of the directory that it was made for.
    loader = next((directory / "lib").glob("ld*.so.*"))
    return (str(loader), str(directory / "bin" / "python3"))


# --- the move ------------------------------------------------------------------------------


def relocated(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start the program anew from a copy of its home, if the user wants that elsewhere.

    Returns at once where it is where it should be, and where no home is carried at all. To be
    called before anything is done or imported that could be different there.

    Args:
        argv: the program's name, and its arguments.
        environ: variables with names below the old home get names below the new one.

    Raises:
        SystemExit: with a sentence, if the copy cannot be made or started.
    """
    wanted = wanted_home(argv[1:], environ)
    here = home()
    if not wanted or here is None:
        return
    there = Path(wanted).resolve()
    # A directory inside of the home goes wherever that is.
    if here.resolve() in (there, *there.parents):
        return
    if there in here.resolve().parents:
        raise SystemExit(_sentence(there, f"it is above {here}"))
    # What the interpreter was given before the program's own arguments: switches, the script.
    given = len(sys.orig_argv) - len(argv) + 1
    before = [_moved(word, here, there) for word in sys.orig_argv[1:given]]
    try:
        there.mkdir(parents=True, exist_ok=True)
        if os.statvfs(there).f_flag & os.ST_NOEXEC:
            raise SystemExit(_sentence(there, "nothing can be executed there (mounted noexec)"))
        copy_home(here, there)
        words = [*_started_from(there), *before, *argv[1:]]
        os.execve(words[0], words, rewritten(environ, here, there))
    except OSError as error:
        raise SystemExit(_sentence(there, error.strerror or str(error))) from error


def _sentence(there: Path, reason: str) -> str:
    return (
        f"error: kaniko cannot be moved to {there}: {reason}\n"
        f"hint: {_FLAG} and {VARIABLE} name a directory that can be written to, "
        "with room for 110 MB and the build's own files"
    )


def wanted_home(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return where the user wants the home; the flag beats the variable, the last flag others."""
    wanted = environ.get(VARIABLE)
    for position, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag == _FLAG and equals:
            wanted = value
        elif flag == _FLAG and position + 1 < len(arguments):
            wanted = arguments[position + 1]
    return wanted or None


def rewritten(environ: Mapping[str, str], here: Path, there: Path) -> dict[str, str]:
    """Return *environ* with names below *here* as names below *there*, in lists of names too."""
    return {
        name: value
        if name == VARIABLE
        else ":".join(_moved(part, here, there) for part in value.split(":"))
        for name, value in environ.items()
    }


def _moved(path: str, here: Path, there: Path) -> str:
    old = str(here)
    return f"{there}{path.removeprefix(old)}" if f"{path}/".startswith(f"{old}/") else path


# --- the copy ------------------------------------------------------------------------------


def copy_home(source: Path, target: Path) -> None:
    """Copy a home, and what the user mounted in it, into *target*, which exists.

    Each file appears there whole, and the marker last. What is there already from another time
    is not copied again. A volume that is mounted in *source* stays where it is, where no build
    touches it, and *target* gets a link to it.

    Raises:
        OSError: *target* cannot be written to, or is full.
    """
    with _alone_in(target):
        old, new = target / MARKER, source / MARKER
        kept = old.is_file() and old.read_bytes() == new.read_bytes()
        if not kept:
            old.unlink(missing_ok=True)
        _copy_directory(source, target, kept=kept)
        _copy_file(new, old, kept=kept)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other program copies its home into *directory*."""
    import fcntl

    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some network file systems have no such locks: each file is replaced whole there, too.
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _copy_directory(source: Path, target: Path, *, kept: bool) -> None:
    device = source.stat().st_dev
    for path in sorted(source.iterdir()):
        copy = target / path.name
        if path.name == MARKER or path.name.startswith(_LEFTOVERS):
            continue
        if path.is_symlink():
            _link(copy, str(path.readlink()))
        elif path.is_file():
            _copy_file(path, copy, kept=kept)
        elif path.is_dir() and path.stat().st_dev != device:
            _link(copy, str(path))
        elif path.is_dir():
            if copy.is_symlink():
                copy.unlink()
            copy.mkdir(exist_ok=True)
            _copy_directory(path, copy, kept=kept)


def _copy_file(source: Path, target: Path, *, kept: bool) -> None:
    import shutil

    old, new = _known(target), _known(source)
    if kept and old == new:
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if source.parent.name == PROGRAMS:
            partial.write_bytes(_moved_program(source, target))
            shutil.copystat(source, partial)
        else:
            shutil.copy2(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _moved_program(source: Path, target: Path) -> bytes:
    """Return what is in the program *source*, to be started by the loader beside *target*.

    Other programs start it, and the kernel knows the loader by a name in the program, which has
    the slashes that are needed to stay as long as it is: binaries.py put enough of them there.
    """
    import errno
    import re

    data = source.read_bytes()
    old, new = (os.fsencode(path.parents[1]) + b"/lib" for path in (source, target))
    found = re.search(re.escape(old) + rb"(/+)([^/\0]+)\0", data)
    if found is None:
        return data
    slashes = len(found[1]) + len(old) - len(new)
    if slashes < 1:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return data[: found.start()] + new + b"/" * slashes + found[2] + data[found.end() - 1 :]


def _known(path: Path) -> tuple[int, int, int] | None:
    """Return what tells whether a file is the one that was copied."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_mode, status.st_size, status.st_mtime_ns


def _link(path: Path, destination: str) -> None:
    import shutil

    if path.is_symlink() and str(path.readlink()) == destination:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(destination)
