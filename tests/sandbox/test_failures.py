import signal
from errno import EACCES, ENOENT, ENOEXEC

import pytest

from kaniko_core.errors import CommandFailed, KanikoError, SandboxError
from kaniko_core.sandbox.failures import Ending, failure, shown
from kaniko_core.sandbox.runner import Process

_SHELL = Process(("/bin/sh", "-c", "make all"))


def _after(*messages: tuple[object, ...]) -> Ending:
    ending = Ending()
    for message in messages:
        ending = ending.after(message)
    return ending


def _status(error: KanikoError) -> int:
    assert isinstance(error, CommandFailed)
    return error.exit_status


def test_an_exit_status_is_the_programs_own() -> None:
    error = failure(_SHELL, _after(("ended", 3)))

    assert str(error) == "the command `make all` ended with exit status 3"
    assert _status(error) == 3


def test_a_signal_is_named_and_added_to_128() -> None:
    error = failure(_SHELL, _after(("signal", 11), ("ended", 139)))

    assert "signal 11 (SIGSEGV)" in str(error)
    assert _status(error) == 139


def test_a_kill_hints_at_memory() -> None:
    """The kernel may also end the first process of the namespace, which nobody tells about."""
    error = failure(_SHELL, _after(("ended", -signal.SIGKILL)))

    assert "SIGKILL" in str(error)
    assert "memory" in (error.hint or "")
    assert _status(error) == 137


def test_a_real_time_signal_has_no_name() -> None:
    assert "real-time" in str(failure(_SHELL, _after(("signal", 40), ("ended", 168))))


@pytest.mark.parametrize(
    ("number", "path", "status", "text"),
    [
        (ENOENT, "", 127, "make is not in any directory of PATH"),
        (ENOENT, "/bin/make", 127, "interpreter or loader"),
        (ENOEXEC, "/bin/make", 126, "no program for this machine"),
        (EACCES, "/bin/make", 126, "may not be executed by this user"),
        (7, "/bin/make", 126, "Argument list too long"),
    ],
)
def test_what_cannot_be_executed_is_explained(
    number: int, path: str, status: int, text: str
) -> None:
    error = failure(Process(("make",)), _after(("cannot execute", number, path), ("ended", status)))

    assert text in str(error)
    assert _status(error) == status


def test_a_refusal_of_the_kernel_is_no_failure_of_the_command() -> None:
    error = failure(_SHELL, _after(("failed", EACCES, "/dev/pts"), ("ended", 1)))

    assert isinstance(error, SandboxError)
    assert "/dev/pts: Permission denied" in str(error)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("/bin/sh", "-c", "echo $HOME"), "`echo $HOME`"),
        (("/bin/sh", "-c", "\none\ntwo"), "`one …`"),
        (("echo", "two words"), "`echo 'two words'`"),
        (("echo", "x" * 300), "`echo " + "x" * 195 + " …`"),
        (("/bin/sh", "-c", " "), "``"),
    ],
)
def test_a_command_is_shown_on_one_short_line(argv: tuple[str, ...], text: str) -> None:
    assert shown(argv) == text
