import os
from pathlib import Path

import pytest

from kaniko_core.sandbox import wire
from kaniko_core.sandbox.encode import mount_request, run_request
from kaniko_core.sandbox.runner import BindMount, FileMount, Process, TmpfsMount


def test_messages_keep_their_bounds_and_bring_descriptors(tmp_path: Path) -> None:
    ours, theirs = wire.channel()
    read, write = os.pipe()

    wire.send(ours, ("first", 1, b"x"), (write,))
    wire.send(ours, ("second",))
    message, fds = wire.receive(theirs)
    os.write(fds[0], b"through")

    assert message == ("first", 1, b"x")
    assert os.read(read, 10) == b"through"
    assert not os.get_inheritable(fds[0])
    assert wire.receive(theirs) == (("second",), [])
    for fd in (read, write, *fds):
        os.close(fd)
    ours.close()
    assert wire.receive(theirs) == ((), [])
    theirs.close()


def test_sending_to_a_closed_end_is_an_error() -> None:
    ours, theirs = wire.channel()
    theirs.close()

    with pytest.raises(BrokenPipeError):
        wire.send(ours, ("lost",))
    ours.close()


def test_a_request_has_no_limit_of_size() -> None:
    request = {"argv": [b"x" * 1_000_000] * 3}

    assert wire.unpack_request(wire.pack_request("run", request)) == ("run", request)


def test_outer_mounts_come_before_those_inside_them(tmp_path: Path) -> None:
    mounts = (
        BindMount("/a/b/c", tmp_path),
        FileMount("/a/b", b"secret", 0o400, 1, 2),
        TmpfsMount("/a", 10),
    )

    request = mount_request([tmp_path], None, None, mounts)

    assert [mount["target"] for mount in request["mounts"]] == [b"/a", b"/a/b", b"/a/b/c"]
    assert [mount["kind"] for mount in request["mounts"]] == ["tmpfs", "file", "bind"]


def test_secret_variables_come_last_and_are_not_shown() -> None:
    process = Process(("x",), env=("A=1", "B=2"), secret_env=("A=hunter2",))

    assert run_request(process, 1)["env"] == [b"A=1", b"B=2", b"A=hunter2"]
    assert "hunter2" not in repr(process)


def test_names_that_are_no_text_survive() -> None:
    name = os.fsdecode(b"/caf\xe9")

    request = run_request(Process((name,), env=(f"X={name}",), cwd=name), 7)

    assert request["argv"] == [b"/caf\xe9"]
    assert request["env"] == [b"X=/caf\xe9"]
    assert (request["cwd"], request["root"]) == (b"/caf\xe9", 7)
