"""Collect what our programs need to run where there is nothing else: ``collect.py OUT``.

    OUT/home/kaniko/
    ├── executor, warmer            the programs: scripts of our own interpreter
    ├── bin/python3                 the interpreter that runs this script
    ├── libexec/                    git and ssh
    ├── lib/                        the loader, libc, and every library that anything here needs
    ├── lib/python3.X/              modules, compiled: the standard library, dependencies, ours
    ├── ssl/                        whom we believe: Debian's certificate authorities
    ├── ssl/certs/                  empty: a place for more of them
    ├── licenses/                   of everything above
    ├── .docker/config.json         an empty Docker configuration
    └── .kaniko-home                the marker: a digest of all of the above
    OUT/home/var/run                the link that images have there
    OUT/busybox/                    what the debug image has besides

Only modules that import statements reach are taken (``closure.py``). They are put where the
interpreter looks without the ``site`` module, because that one of Debian would also look into
/usr and /usr/local, where the files of an image under construction are. For the same reason
machine code is made to look for nothing there (``binaries.py``).

The same inputs give the same bytes: all times are SOURCE_DATE_EPOCH, or 0.
Run it as ``PYTHONHASHSEED=0 python -IB``, by the interpreter of a virtual environment.
"""

from __future__ import annotations

import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from binaries import copy, output_of, take_machine_code
from closure import Module, closure
from licenses import take_licenses, take_terms

# Where everything is at run time: the loader's name is part of the interpreter.
HOME = Path("/kaniko")
SOURCE = Path(__file__).resolve().parents[1]
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
STANDARD = Path(sysconfig.get_path("stdlib"))
DEPENDENCIES = Path(sys.prefix) / "lib" / VERSION / "site-packages"
SEARCH = (SOURCE, STANDARD, STANDARD / "lib-dynload", DEPENDENCIES)
MARKER = ".kaniko-home"  # as in kaniko_core/home.py

ROOTS = (
    *("kaniko_core.*", "kaniko_executor.*", "kaniko_warmer.*"),
    # Imported by names that are computed, or by compiled code.
    *("_strptime", "rich._unicode_data.*", "_cffi_backend"),
    *("encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.utf_8"),
    *("encodings.utf_16_le", "encodings.cp437"),
    *("encodings.raw_unicode_escape", "encodings.unicode_escape"),
)
# What optional features of libraries would bring along, and nothing that our programs use.
NEVER = (
    *("urllib3.contrib.pyopenssl", "urllib3.contrib.emscripten"),
    *("urllib3.contrib.socks", "urllib3.http2.connection"),
    *("anyio", "trio", "socksio", "filelock.asyncio", "filelock._async"),
    *("httpcore._backends.anyio", "httpcore._backends.trio", "httpcore._async.http2"),
    *("httpcore._sync.http2", "httpcore._async.socks_proxy", "httpcore._sync.socks_proxy"),
    *("httpx._main", "typer.rich_utils", "rich.markdown", "rich.syntax", "rich.traceback"),
    *("concurrent.futures.process", "multiprocessing", "unittest", "test"),
    *("pip", "setuptools", "distutils", "lib2to3", "pydoc", "pydoc_data", "doctest", "pdb"),
    *("tkinter", "xmlrpc", "_pydecimal", "_testcapi"),
    # For other systems.
    *("encodings.mbcs", "encodings.oem", "typer._click._winconsole"),
    *("rich._win32_console", "rich._windows_renderer", "ctypes.wintypes"),
)
# Data of packages that is read when they are imported.
DATA = (
    *("jsonschema_specifications/schemas", "license_expression/data"),
    # Of all services of Amazon, those that credentials for registries come from.
    *(f"botocore/data/{name}" for name in ("ecr", "sts", "sso", "sso-oidc")),
    *(f"botocore/data/{name}.json" for name in ("endpoints", "partitions", "_retry")),
    "botocore/data/sdk-default-configuration.json",
)

BUSYBOX = Path("/bin/busybox")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
AUTHORITIES = Path("/usr/share/ca-certificates/mozilla")  # what it is made of

PROGRAM = f"""\
#!{HOME}/bin/python3 -ISB
import sys
from kaniko_{{name}}.__main__ import main
sys.exit(main())
"""


def main() -> None:
    """Fill the directory that is named by the first argument, and say what is in it."""
    out = Path(sys.argv[1])
    home = out / "home" / HOME.relative_to("/")
    home.mkdir(parents=True)
    library = home / "lib" / VERSION
    modules = closure(ROOTS, SEARCH, NEVER)
    for module in modules.values():
        place(module, library)
    for name in DATA:
        take = shutil.copytree if (DEPENDENCIES / name).is_dir() else copy
        take(DEPENDENCIES / name, library / name)
    taken = [module.file for module in modules.values()] + take_machine_code(home, HOME)
    take_certificates(home, library)
    take_licenses(home / "licenses", [*taken, AUTHORITIES], DEPENDENCIES)
    copy(SOURCE / "LICENSE", home / "licenses" / "kaniko-py")
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text('{"auths": {}}\n')
    for name in ("executor", "warmer"):
        (home / name).write_text(PROGRAM.format(name=name))
        (home / name).chmod(0o755)
    try_out(home, modules)
    settle(home)
    (home / MARKER).write_text(f"{digest(home)}\n")
    # Kubernetes mounts its tokens at /var/run/secrets. By this link that is /run/secrets, and RUN
    # finds /var/run as nearly every image has it; a directory with a mount could not be a link.
    (out / "home" / "var").mkdir()
    (out / "home" / "var" / "run").symlink_to("/run")
    take_busybox(out / "busybox" / HOME.relative_to("/") / "busybox")
    settle(out)
    tell(home, library, modules)


def place(module: Module, library: Path) -> None:
    """Put a module below *library*: compiled, without its source."""
    parts = module.name.split(".")
    if module.file.suffix != ".py":
        # What is in lib-dynload is found there.
        below = Path(*parts[:-1]) if STANDARD not in module.file.parents else "lib-dynload"
        copy(module.file, library / below / module.file.name)
        return
    source = Path(*parts, "__init__.py") if module.package else Path(*parts).with_suffix(".py")
    target = (library / source).with_suffix(".pyc")
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(module.file),
        str(target),
        dfile=str(HOME / "lib" / VERSION / source),
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


# --- the rest ------------------------------------------------------------------------------


def take_certificates(home: Path, library: Path) -> None:
    """Take Debian's certificate authorities; certifi's copy becomes a link to them."""
    bundle = home / "ssl" / CERTIFICATES.name
    copy(CERTIFICATES, bundle)
    # For what users believe besides.
    (home / "ssl" / "certs").mkdir()
    copied = library / "certifi" / "cacert.pem"
    copied.symlink_to(os.path.relpath(bundle, copied.parent))
    # OpenSSL would read the one of the image under construction.
    (home / "ssl" / "openssl.cnf").write_text("")


def take_busybox(directory: Path) -> None:
    """Take busybox, and a link to it for each of its programs; /busybox is where GitLab looks."""
    busybox = directory / "busybox"
    copy(BUSYBOX, busybox)
    take_terms(directory.parent / "licenses", "busybox-static")
    for name in output_of(busybox, "--list").split():
        if name != busybox.name:
            (directory / name).symlink_to(busybox.name)
    (directory.parents[1] / "busybox").symlink_to(HOME / "busybox")


def try_out(home: Path, modules: Iterable[str]) -> None:
    """Import every module with nothing but what was collected."""
    names = sorted(name for name in modules if not name.endswith("__main__"))
    loader = next((home / "lib").glob("ld*.so.*"))
    python = (str(loader), str(home / "bin" / "python3"))
    command = [*python, "-ISBW", "ignore", "-c", _TRIAL, str(home), *names]
    done = subprocess.run(command, check=False, env={})
    if done.returncode != 0:
        raise SystemExit("collect: what was collected does not work")


# Modules for other systems, and of libraries that are not installed, fail with everything there,
# too; ours must not.
_TRIAL = """
import importlib, sys
home, *names = sys.argv[1:]
failed = []
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append((name, f"{type(error).__name__}: {error}"))
for name, error in failed:
    print(f"not importable: {name}: {error}")
with open("/proc/self/maps") as maps:
    mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
strange = sorted(path for path in mapped if not path.startswith(f"{home}/"))
for path in strange:
    print(f"from elsewhere: {path}")
sys.exit(bool(strange or [name for name, _ in failed if name.startswith("kaniko_")]))
"""


def settle(top: Path) -> None:
    """Give everything in *top*, and itself, the one time and plain permissions."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    for path in (*sorted(top.rglob("*")), top):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def digest(home: Path) -> str:
    """Return a digest of the names and contents of all files."""
    state = hashlib.sha256()
    for path in sorted(home.rglob("*")):
        content = b"directory"
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        state.update(os.fsencode(path.relative_to(home)) + b"\0" + hashlib.sha256(content).digest())
    return state.hexdigest()


def tell(home: Path, library: Path, modules: Mapping[str, Module]) -> None:
    """Write what is in *home*, by size."""
    sizes: dict[str, int] = {}
    ours, standard = "our packages", "standard library"
    for path in home.rglob("*"):
        if path.is_symlink() or path.is_dir():
            continue
        if library in path.parents:
            top = path.relative_to(library).parts[0].removesuffix(".pyc")
            known = modules.get(top)
            own = top.startswith("kaniko_")
            dependency = known is None or DEPENDENCIES in known.file.parents
            what = ours if own else f"  {top}" if dependency else standard
            what = standard if top == "lib-dynload" else what
        else:
            what = str(path.relative_to(home))
        sizes[what] = sizes.get(what, 0) + path.stat().st_size
    for what, size in sorted(sizes.items(), key=lambda item: -item[1]):
        sys.stdout.write(f"{size:>12,}  {what}\n")
    sys.stdout.write(f"{sum(sizes.values()):>12,}  altogether\n")


if __name__ == "__main__":
    main()
