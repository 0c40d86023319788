import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaniko_core import linux


@pytest.fixture
def root(tmp_path: Path) -> int:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/name").write_text("inside")
    (tmp_path / "absolute").symlink_to("/etc/name")
    (tmp_path / "climbing").symlink_to("../../../../../../etc/name")
    (tmp_path / "round").symlink_to("round")
    return os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)


@pytest.mark.parametrize(
    "path", ["etc/name", b"/etc/name", "absolute", "climbing", "../../etc/../etc/name"]
)
def test_openat2_resolves_inside_the_root(root: int, path: str | bytes) -> None:
    fd = linux.openat2(root, path, os.O_RDONLY)

    assert os.read(fd, 100) == b"inside"
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "error"),
    [("missing", FileNotFoundError), ("etc/name/x", NotADirectoryError), ("round", OSError)],
)
def test_an_error_names_the_path(root: int, path: str, error: type[OSError]) -> None:
    with pytest.raises(error) as failed:
        linux.openat2(root, path, os.O_RDONLY)

    assert failed.value.filename == path
    assert path in str(failed.value)


def test_openat2_makes_files_with_a_mode(root: int) -> None:
    os.close(linux.openat2(root, "etc/new", os.O_CREAT | os.O_WRONLY, 0o600))

    assert os.stat("etc/new", dir_fd=root).st_mode & 0o777 == 0o600


def test_resolving_beneath_refuses_to_leave(root: int) -> None:
    with pytest.raises(OSError, match="climbing"):
        linux.openat2(root, "climbing", os.O_RDONLY, resolve=linux.RESOLVE_BENEATH)


def test_mounting_what_is_not_there_names_the_target(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        linux.mount(None, str(tmp_path / "nowhere"), None, 0)
    with pytest.raises(OSError, match="nowhere"):
        linux.umount(str(tmp_path / "nowhere"))


def test_importing_it_loads_no_ctypes() -> None:
    """The command lines and the sandbox server start with this module."""
    program = "import sys, kaniko_core.linux; sys.exit('ctypes' in sys.modules)"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_signals_of_python_are_reset_for_a_program() -> None:
    program = (
        "import os; from kaniko_core import linux; linux.reset_signals();"
        "os.execv('/bin/cat', ['cat', '/proc/self/status'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert f"SigIgn:\t{0:016x}" in done.stdout
    assert f"SigBlk:\t{0:016x}" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")
def test_limited_capabilities_are_gone_for_good() -> None:
    program = (
        "import os; from kaniko_core import linux; linux.limit_capabilities((0, 31));"
        "os.execv('/bin/cat', ['cat', '/proc/self/status'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t{1 | 1 << 31:016x}" in done.stdout
    assert f"CapInh:\t{0:016x}" in done.stdout
