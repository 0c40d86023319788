import os
import sys
from pathlib import Path

import pytest

from kaniko_core.home import (
    MARKER,
    copy_home,
    home,
    interpreter,
    program,
    relocated,
    rewritten,
    wanted_home,
)

HERE, THERE = Path("/kaniko"), Path("/volume/k")


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A directory like the one in our images."""
    top = tmp_path / "kaniko"
    for name, text in {
        "executor": "script",
        "bin/python3": "machine code",
        "lib/ld-linux-any.so.2": "loader",
        "lib/python3.11/os.pyc": "module",
        ".docker/config.json": "{}",
        MARKER: "digest of this version\n",
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (0, 0))
    (top / "executor").chmod(0o755)
    (top / "lib" / "link").symlink_to("ld-linux-any.so.2")
    (top / "ssl" / "certs").mkdir(parents=True)
    return top


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "volume"
    directory.mkdir()
    return directory


def described(top: Path) -> dict[str, tuple[int, str]]:
    """Everything below *top*: mode, and content or destination."""
    return {
        str(path.relative_to(top)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_text() * path.is_file(),
        )
        for path in top.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_machines_own_interpreter_has_no_home() -> None:
    assert home() is None
    assert interpreter() == (sys.executable,)


def test_a_carried_interpreter_is_started_by_its_own_loader(
    carried: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(carried))
    assert home() == carried
    assert interpreter() == (
        str(carried / "lib/ld-linux-any.so.2"),
        str(carried / "bin/python3"),
    )


def test_programs_that_are_carried_come_before_those_of_the_machine(
    carried: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = tmp_path / "machine"
    for path in (carried / "libexec" / "git", machine / "git", machine / "ssh"):
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(machine))
    assert program("git") == str(machine / "git")
    monkeypatch.setattr(sys, "prefix", str(carried))
    assert program("git") == str(carried / "libexec" / "git")
    assert program("ssh") == str(machine / "ssh")
    assert program("hg") is None


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        ([], None, None),
        ([], "", None),
        ([], "/variable", "/variable"),
        (["--kaniko-dir=/flag"], None, "/flag"),
        (["--kaniko-dir", "/flag"], "/variable", "/flag"),
        (["--kaniko-dir=/one", "--no-push", "--kaniko-dir", "/two"], None, "/two"),
        (["--kaniko-dir"], "/variable", "/variable"),
        (["--kaniko-dirs=/flag"], None, None),
    ],
)
def test_flag_beats_variable(
    arguments: list[str], variable: str | None, expected: str | None
) -> None:
    environ = {} if variable is None else {"KANIKO_DIR": variable}
    assert wanted_home(arguments, environ) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/kaniko/.docker", "/volume/k/.docker"),
        ("/kaniko", "/volume/k"),
        ("/usr/bin:/kaniko:/kaniko/busybox", "/usr/bin:/volume/k:/volume/k/busybox"),
        ("/kaniko-other/file", "/kaniko-other/file"),
        ("/opt/kaniko/file", "/opt/kaniko/file"),
        ("", ""),
    ],
)
def test_variables_follow_the_home(before: str, after: str) -> None:
    assert rewritten({"NAME": before}, HERE, THERE) == {"NAME": after}


def test_the_variable_that_moves_the_home_stays() -> None:
    assert rewritten({"KANIKO_DIR": "/kaniko/x"}, HERE, THERE) == {"KANIKO_DIR": "/kaniko/x"}


def test_a_copy_has_everything(carried: Path, target: Path) -> None:
    copy_home(carried, target)
    assert described(target) == described(carried)
    assert (target / "ssl" / "certs").is_dir()


def names_loader(home: Path, slashes: int) -> bytes:
    """A program's machine code that names its loader, as binaries.py makes it."""
    return b"\x7fELF\0" + os.fsencode(home) + b"/lib" + b"/" * slashes + b"ld.so.2\0code\0"


def test_copied_programs_are_started_by_the_loader_beside_them(carried: Path, target: Path) -> None:
    (carried / "libexec").mkdir()
    (carried / "libexec" / "git").write_bytes(names_loader(carried, 100))
    (carried / "libexec" / "git").chmod(0o755)
    (carried / "libexec" / "git-link").symlink_to("git")
    copy_home(carried, target)
    longer = len(str(target)) - len(str(carried))
    copied = target / "libexec" / "git"
    assert copied.read_bytes() == names_loader(target, 100 - longer)
    assert os.access(copied, os.X_OK)
    assert (target / "libexec" / "git-link").readlink() == Path("git")

    before = copied.stat().st_ino
    copy_home(carried, target)
    assert copied.stat().st_ino == before


def test_a_copy_whose_name_has_no_room_in_programs_is_refused(carried: Path, target: Path) -> None:
    (carried / "libexec").mkdir()
    (carried / "libexec" / "git").write_bytes(names_loader(carried, 20))
    deep = target / "twenty-one-letters-xy"
    deep.mkdir()
    with pytest.raises(OSError, match="name too long"):
        copy_home(carried, deep)
    assert not (deep / MARKER).exists()


def test_leftovers_of_builds_are_not_copied(carried: Path, target: Path) -> None:
    (carried / "kaniko-build-12345678" / "blobs").mkdir(parents=True)
    (carried / "kaniko-build-12345678.lock").touch()
    copy_home(carried, target)
    assert not list(target.glob("kaniko-build-*"))


def test_what_is_there_is_not_copied_again(carried: Path, target: Path) -> None:
    copy_home(carried, target)
    before = {path: path.lstat().st_ino for path in target.rglob("*")}
    copy_home(carried, target)
    assert {path: path.lstat().st_ino for path in target.rglob("*")} == before


def test_a_changed_configuration_is_copied_again(carried: Path, target: Path) -> None:
    copy_home(carried, target)
    (carried / ".docker" / "config.json").write_text('{"auths": {}}')
    copy_home(carried, target)
    assert (target / ".docker" / "config.json").read_text() == '{"auths": {}}'


def test_another_version_replaces_files_of_the_same_size_and_time(
    carried: Path, target: Path
) -> None:
    copy_home(carried, target)
    module = carried / "lib/python3.11/os.pyc"
    module.write_text("MODULE")
    os.utime(module, (0, 0))
    (carried / MARKER).write_text("digest of another one\n")
    copy_home(carried, target)
    assert described(target) == described(carried)


def test_a_copy_that_fails_is_no_home(carried: Path, target: Path) -> None:
    copy_home(carried, target)
    (carried / MARKER).write_text("digest of another one\n")
    (target / "executor").unlink()
    (target / "executor").mkdir()
    with pytest.raises(IsADirectoryError):
        copy_home(carried, target)
    assert not (target / MARKER).exists()
    assert not list(target.glob(".executor*"))


def test_nothing_moves_where_no_home_is_carried(target: Path) -> None:
    relocated(["kaniko-executor"], {"KANIKO_DIR": str(target)})
    assert not list(target.iterdir())


@pytest.mark.parametrize("inside", ["", "work"])
def test_nothing_moves_into_the_home_itself(
    carried: Path, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = described(carried)
    monkeypatch.setattr(sys, "prefix", str(carried))
    relocated(["executor", f"--kaniko-dir={carried / inside}"], {})
    assert described(carried) == before


@pytest.mark.parametrize(("name", "reason"), [("", "above"), ("file/below", "Not a directory")])
def test_a_directory_that_cannot_be_is_refused_in_a_sentence(
    carried: Path, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (carried.parent / "file").touch()
    place = carried.parent / name
    monkeypatch.setattr(sys, "prefix", str(carried))
    with pytest.raises(SystemExit, match=f"error: kaniko cannot be moved to {place}: .*{reason}"):
        relocated(["executor"], {"KANIKO_DIR": str(place)})
