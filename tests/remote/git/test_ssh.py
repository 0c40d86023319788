import os
import shlex
import sys
from pathlib import Path

import pytest

from kaniko_core.errors import DiskError
from kaniko_core.home import MARKER
from kaniko_core.remote.git.ssh import programs_environment

OPTIONS = ("BatchMode=yes", 'UserKnownHostsFile="/git home/known_hosts" ~/.ssh/known_hosts')


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "kaniko"
    home.mkdir()
    (home / MARKER).touch()
    monkeypatch.setattr(sys, "prefix", str(home))
    return home


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "git"
    path.mkdir()
    return path


def test_ssh_of_the_machine_is_given_its_options_by_git(directory: Path) -> None:
    environment = programs_environment(directory, OPTIONS)
    assert shlex.split(environment["GIT_SSH_COMMAND"]) == [
        *("ssh", "-F", "/dev/null"),
        *(f"-o{option}" for option in OPTIONS),
    ]
    assert environment["PATH"] == os.pathsep.join(os.get_exec_path())
    assert not list(directory.iterdir())


def test_no_program_of_the_machine_is_found_where_others_are_carried(
    carried: Path, directory: Path
) -> None:
    environment = programs_environment(directory, OPTIONS)
    assert "GIT_SSH_COMMAND" not in environment
    found = {environment[name] for name in ("PATH", "GIT_EXEC_PATH")}
    assert found == {str(carried / "libexec")}
    assert environment["GIT_SSH"] == str(carried / "libexec" / "ssh")


def test_ssh_that_is_carried_finds_its_options_in_the_home_of_its_user(
    carried: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    environment = programs_environment(directory, OPTIONS)
    line = Path(environment["NSS_WRAPPER_PASSWD"]).read_text()
    _, _, uid, gid, _, home, _ = line.strip().split(":")
    assert (int(uid), int(gid)) == (os.getuid(), os.getgid())
    assert (Path(home) / ".ssh" / "config").read_text().splitlines() == [
        "BatchMode=yes",
        'UserKnownHostsFile="/git home/known_hosts" /home/somebody/.ssh/known_hosts',
    ]


def test_users_with_the_same_options_are_one(carried: Path, directory: Path) -> None:
    first, again = (programs_environment(directory, OPTIONS) for _ in range(2))
    other = programs_environment(directory, OPTIONS[:1])
    assert first == again != other
    assert len(list(directory.iterdir())) == 2


def test_a_user_that_cannot_be_made_is_an_error_of_the_disk(carried: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        programs_environment(tmp_path / "missing", OPTIONS)
