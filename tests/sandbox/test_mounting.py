import os
from pathlib import Path

import pytest

from kaniko_core.sandbox.mounting import make_stubs, resolve


@pytest.fixture
def view(tmp_path: Path) -> Path:
    view = tmp_path / "view"
    (view / "etc").mkdir(parents=True)
    (view / "proc").mkdir()
    (view / "etc/hosts").touch()
    (view / "lib").symlink_to("/usr/lib")
    (view / "up").symlink_to("../../../etc/hosts")
    (view / "round").symlink_to("round")
    (view / "etc/resolv.conf").symlink_to("../run/stub.conf")
    return view


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    (tmp_path / "stubs").mkdir()
    return tmp_path / "stubs"


def _tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize(
    ("path", "real", "there"),
    [
        (b"/etc/hosts", b"etc/hosts", True),
        (b"up", b"etc/hosts", True),
        (b"lib/x/y", b"usr/lib/x/y", False),
        (b"etc/resolv.conf", b"run/stub.conf", False),
        (b"../../etc/./hosts", b"etc/hosts", True),
        (b"/", b"", True),
    ],
)
def test_links_are_followed_inside_the_root(
    view: Path, path: bytes, real: bytes, there: bool
) -> None:
    name, status = resolve(os.fsencode(view), path)

    assert name == real
    assert (status is not None) == there


@pytest.mark.parametrize("path", [b"round", b"etc/hosts/below"])
def test_a_path_that_leads_nowhere_is_an_error(view: Path, path: bytes) -> None:
    with pytest.raises(OSError, match=path.decode()):
        resolve(os.fsencode(view), path)


def test_what_is_there_needs_no_stub(view: Path, stubs: Path) -> None:
    points = [(b"proc", False), (b"etc/hosts", True), (b"up", True)]

    assert not make_stubs(str(view), str(stubs), points)
    assert _tree(stubs) == []


def test_missing_points_are_made_where_links_lead(view: Path, stubs: Path) -> None:
    points = [(b"etc/resolv.conf", True), (b"sys", False), (b"lib/secret", True)]

    assert make_stubs(str(view), str(stubs), points)
    assert _tree(stubs) == ["run", "run/stub.conf", "sys", "usr", "usr/lib", "usr/lib/secret"]
    assert (stubs / "sys").is_dir()
    assert (stubs / "run/stub.conf").is_file()


def test_one_point_below_another_is_made_once(view: Path, stubs: Path) -> None:
    make_stubs(str(view), str(stubs), [(b"a", False), (b"a/b", False), (b"a/b/file", True)])

    assert _tree(stubs) == ["a", "a/b", "a/b/file"]


def test_parents_look_as_they_do_in_the_image(view: Path, stubs: Path) -> None:
    (view / "etc").chmod(0o2711)
    os.setxattr(view / "etc", "user.note", b"kept")
    os.utime(view / "etc", ns=(5, 7))

    make_stubs(str(view), str(stubs), [(b"etc/a", True), (b"etc/b", True)])

    status = (stubs / "etc").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o2711, 7)
    assert os.getxattr(stubs / "etc", "user.note") == b"kept"


@pytest.mark.parametrize(
    ("path", "is_file", "error"),
    [(b"/etc", True, IsADirectoryError), (b"etc/hosts", False, NotADirectoryError)],
)
def test_a_point_of_the_wrong_kind_is_an_error(
    view: Path, stubs: Path, path: bytes, is_file: bool, error: type[OSError]
) -> None:
    with pytest.raises(error, match="'/etc"):
        make_stubs(str(view), str(stubs), [(path, is_file)])
