from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kaniko_core.progress import Event, Warned
from kaniko_core.remote.web.netrc import Netrc

FILE = """\
# a comment
machine example.com login me password geheim
machine example.com:8443 login other password "with space"
machine Upper.example login u password p
machine [::1] login six password p
machine [::1]:81 login six81 password p
machine token.example password only-a-token
machine empty.example
default login anybody password everybody
"""


def written(directory: Path, text: str | bytes = FILE) -> Path:
    path = directory / ".netrc"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("example.com", ("me", "geheim")),
        ("example.com:443", ("me", "geheim")),
        ("example.com:8443", ("other", "with space")),
        ("EXAMPLE.com", ("me", "geheim")),
        ("upper.example:1", ("u", "p")),
        ("[::1]", ("six", "p")),
        ("[::1]:80", ("six", "p")),
        ("[::1]:81", ("six81", "p")),
        ("::1", ("six", "p")),
        ("token.example", ("", "only-a-token")),
        ("empty.example", None),
        ("default", None),
        ("other.example", None),
        ("sub.example.com", None),
        ("", None),
    ],
)
def test_entries_are_found_by_host(
    tmp_path: Path, host: str, found: tuple[str, str] | None
) -> None:
    written(tmp_path)

    assert Netrc({"HOME": str(tmp_path)}).find(host) == found


def test_named_file_comes_before_the_usual_one(tmp_path: Path) -> None:
    written(tmp_path)
    named = tmp_path / "named"
    named.write_text("machine example.com login n password n")

    netrc = Netrc({"HOME": str(tmp_path), "NETRC": str(named)})

    assert netrc.find("example.com") == ("n", "n")


@pytest.mark.parametrize("environment", [{}, {"HOME": ""}, {"HOME": "/nowhere", "NETRC": ""}])
def test_without_a_file_nothing_is_found_or_said(environment: dict[str, str]) -> None:
    events: list[Event] = []

    assert Netrc(environment, events.append).find("example.com") is None
    assert events == []


def test_nothing_is_read_before_somebody_asks(tmp_path: Path) -> None:
    netrc = Netrc({"HOME": str(tmp_path)})
    written(tmp_path)

    assert netrc.find("example.com") is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("machine x login u password geheim\ngeheim", "line 2"),
        ("machine x login u pass geheim", "line 1"),
        (b"\xff\xfe\x80geheim", "is"),
        ("macdef geheim\nnever ends", "line"),
    ],
)
def test_damaged_file_is_one_warning_that_shows_nothing_of_it(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    events: list[Event] = []
    path = written(tmp_path, content)
    netrc = Netrc({"HOME": str(tmp_path)}, events.append)

    assert [netrc.find("x"), netrc.find("x")] == [None, None]

    (warning,) = events
    assert isinstance(warning, Warned)
    assert f"cannot read passwords from {path}" in warning.message
    assert said in warning.message
    assert "geheim" not in repr(events)


def test_named_file_that_is_missing_or_no_file_is_a_warning(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        events: list[Event] = []
        assert Netrc({"NETRC": str(path)}, events.append).find("x") is None
        assert len(events) == 1


def test_threads_share_one_reading(tmp_path: Path) -> None:
    events: list[Event] = []
    netrc = Netrc({"NETRC": str(tmp_path)}, events.append)

    threads = [threading.Thread(target=netrc.find, args=("x",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(events) == 1
