"""Errors for people: one sentence, a hint, an exit status."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kaniko_core import errors
from kaniko_core.errors import (
    CommandFailed,
    DiskError,
    DockerfileError,
    KanikoError,
    RegistryError,
    UsageError,
    disk_error,
    disk_errors,
)


def kinds() -> list[type[KanikoError]]:
    found, left = [], [KanikoError]
    while left:
        kind = left.pop()
        found.append(kind)
        left += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_ends_the_program_with_a_failure(kind: type[KanikoError]) -> None:
    if kind is not CommandFailed:
        assert kind.exit_status in (1, 2)


def test_words_and_hint_are_kept() -> None:
    error = KanikoError("no space", hint="free some")
    assert str(error) == "no space"
    assert error.hint == "free some"


def test_wrong_usage_has_a_status_of_its_own() -> None:
    assert UsageError("no").exit_status == 2


def test_failed_command_gives_its_own_status() -> None:
    error = CommandFailed("make failed", argv=["make"], exit_status=42)
    assert error.exit_status == 42
    assert error.argv == ("make",)
    assert CommandFailed.exit_status == KanikoError.exit_status


@pytest.mark.parametrize(
    ("line", "source", "text"),
    [
        (3, "  RUNN make\n", "Dockerfile:3: unknown instruction\n    RUNN make"),
        (3, "", "Dockerfile:3: unknown instruction"),
        (0, "", "Dockerfile: unknown instruction"),
    ],
)
def test_dockerfile_error_shows_where(line: int, source: str, text: str) -> None:
    error = DockerfileError("unknown instruction", path="Dockerfile", line=line, source=source)
    assert str(error) == text


@pytest.mark.parametrize(
    ("source", "column", "text"),
    [
        ("RUNN make", 1, "    RUNN make\n    ^"),
        ("  RUN --x a", 7, "    RUN --x a\n        ^"),
        ("\tRUN\t--x", 6, "    RUN\t--x\n       \t^"),
    ],
)
def test_dockerfile_error_points_at_a_column(source: str, column: int, text: str) -> None:
    error = DockerfileError("no", path="Dockerfile", line=3, column=column, source=source)
    assert str(error) == f"Dockerfile:3:{column}: no\n{text}"
    assert error.column == column


def test_registry_error_tells_whether_waiting_helps() -> None:
    error = RegistryError("busy", status=503, code="UNAVAILABLE", temporary=True)
    assert (error.status, error.code, error.temporary) == (503, "UNAVAILABLE", True)
    assert not RegistryError("denied").temporary


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
    ],
)
def test_disk_that_refuses_is_named_with_what_to_do(number: int, hint: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), "write layers to", "/data")
    assert str(error) == f"cannot write layers to /data: {os.strerror(number)}"
    assert hint in (error.hint or "")


def test_errors_of_our_own_disk_are_translated(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with (
        pytest.raises(DiskError, match=f"cannot read {missing}: No such file") as caught,
        disk_errors("read", missing),
    ):
        missing.read_bytes()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_what_is_no_disk_error_passes() -> None:
    with pytest.raises(ValueError, match="a bug"), disk_errors("read", "/x"):
        raise ValueError("a bug")
