"""Machine code that works wherever it is put: the interpreter, git, ssh, and their libraries.

    bin/python3        the interpreter that runs this script
    libexec/           git, what it starts, and ssh: each a program that needs no shell
    lib/               the loader, libc, and every library that one of these needs

All are started by our own loader and find their libraries beside it. Nothing of it looks into
the image under construction, where another system may have been put meanwhile: what would be
below /etc and /usr is looked for where it is not, but for hosts and resolv.conf.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

MULTIARCH = str(sysconfig.get_config_var("MULTIARCH"))
PROGRAMS = "libexec"  # as in kaniko_core/home.py
# What git is made of where it only fetches: most of its commands are the one program.
GIT = ("git", "git-remote-http")
GIT_LINKS: Mapping[str, str] = {"git-remote-https": "git-remote-http"}
SSH = ("ssh", "ssh-add", "ssh-agent")
# pthread_exit and pthread_cancel open the first by name. The second is loaded before ssh, which
# asks who its user is: there may be no /etc/passwd.
OPENED_BY_NAME = ("libgcc_s.so.1", "libnss_wrapper.so")
# Bytes of the loader's name in programs: room for that of a home that is moved (home.py).
_ROOM = 1024

# Where the loader and libc would look for what belongs to the image under construction, and
# the same length of something that is not there: libraries to preload, locales, converters.
# Without nsswitch.conf, names of hosts are looked up in /etc/hosts, then in DNS.
PATCHES: Mapping[str, tuple[tuple[bytes, bytes], ...]] = {
    "ld-linux": (
        (b"\0/etc/ld.so.preload\0", b"\0/dev/null/.preload\0"),
        (b"\0/etc/ld.so.cache\0", b"\0/dev/null/.cache\0"),
    ),
    "libc.so": (
        (b"\0/etc/nsswitch.conf\0", b"\0/dev/null/nsswitch\0"),
        (b"\0/usr/lib/", b"\0/kaniko//"),
    ),
}
# In all other libraries and in programs: configuration, plug-ins, the shell.
_ELSEWHERE = re.compile(rb"(?<=\0)/(?:etc|usr|bin)(?=/)")
_NOWHERE = b"/dev"
# These look up hosts, as libc does, or are part of it.
_OF_LIBC = ("ld-linux", "libc.so", "libresolv.so")

_RESOLVED = re.compile(r"^\s+([^\s/]+) => (/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_MISSING = re.compile(r"^\s+(\S+) => not found$", re.MULTILINE)


def take_machine_code(home: Path, final: Path) -> list[Path]:
    """Take the programs, and every shared library that something in *home* needs.

    Args:
        home: where everything is put.
        final: where that is at run time.

    Returns:
        where they were.
    """
    interpreter, lib = home / "bin" / "python3", home / "lib"
    programs = {interpreter: Path(sys.executable).resolve(), **_programs(home / PROGRAMS)}
    for target, source in programs.items():
        copy(source, target)
    for link, target_name in GIT_LINKS.items():
        (home / PROGRAMS / link).symlink_to(target_name)
    needing = [*programs, *sorted(lib.rglob("*.so"))]
    loader = Path(output_of("patchelf", "--print-interpreter", interpreter).strip())
    libraries = {loader.name: loader} | needed_libraries(needing, loader)
    for name, path in sorted(libraries.items()):
        copy(path, lib / name)
    for program in programs:
        room = 0 if program == interpreter else _ROOM - len(str(final / "lib" / loader.name))
        started_by = f"{final / 'lib'}/{'/' * room}{loader.name}"
        output_of("patchelf", "--set-interpreter", started_by, program)
    for file in needing:
        # RPATH, not RUNPATH: it holds for what is needed by libraries, too.
        way = os.path.relpath(lib, file.parent)
        output_of("patchelf", "--force-rpath", "--set-rpath", f"$ORIGIN/{way}", file)
    _look_nowhere_else(lib, [lib / name for name in libraries], set(programs) - {interpreter})
    _try_out(home, programs)
    return [*programs.values(), *libraries.values()]


def _programs(directory: Path) -> dict[Path, Path]:
    """Return where each program goes, and where it is."""
    core = Path(output_of("git", "--exec-path").strip())
    found = {directory / name: core / name for name in GIT}
    for name in SSH:
        path = shutil.which(name)
        if path is None:
            raise SystemExit(f"collect: there is no {name}")
        found[directory / name] = Path(path).resolve()
    return found


def needed_libraries(files: Iterable[Path], loader: Path) -> dict[str, Path]:
    """Return by name where the libraries are that *files* need, however indirectly."""
    found = {name: Path("/usr/lib", MULTIARCH, name) for name in OPENED_BY_NAME}
    for file in files:
        listed = output_of(loader, "--list", file)
        found.update({name: Path(path) for name, path in _RESOLVED.findall(listed)})
        if missing := _MISSING.findall(listed):
            raise SystemExit(f"collect: {file} needs {', '.join(missing)}")
    return found


def _look_nowhere_else(lib: Path, libraries: Iterable[Path], programs: Iterable[Path]) -> None:
    for prefix, patches in PATCHES.items():
        (file,) = lib.glob(f"{prefix}*")
        patch(file, patches)
    for file in (*libraries, *programs):
        if not file.name.startswith(_OF_LIBC):
            data = file.read_bytes()
            file.write_bytes(_ELSEWHERE.sub(_NOWHERE, data))


def patch(file: Path, replacements: Iterable[tuple[bytes, bytes]]) -> None:
    """Replace strings by others of the same length; each must be there."""
    data = file.read_bytes()
    for old, new in replacements:
        if len(old) != len(new) or old not in data:
            raise SystemExit(f"collect: cannot replace {old!r} in {file.name}")
        data = data.replace(old, new)
    file.write_bytes(data)


def _try_out(home: Path, programs: Iterable[Path]) -> None:
    """See that each program finds all of its libraries in *home*."""
    (loader,) = (home / "lib").glob("ld-*.so.*")
    for program in programs:
        listed = output_of(loader, "--list", program)
        strange = [path for _, path in _RESOLVED.findall(listed) if home not in Path(path).parents]
        if strange or _MISSING.search(listed):
            raise SystemExit(f"collect: {program} finds other libraries than ours:\n{listed}")


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, following links, and whether it may be executed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def output_of(*command: str | Path) -> str:
    """Run a command and return what it writes."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
