"""Roots: layers, changes, stubs below the changes, and the mounts of RUN."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.sandbox.workshop import Workshop, process
from kaniko_core.errors import CommandFailed, DiskError, SandboxError
from kaniko_core.sandbox.client import Sandbox
from kaniko_core.sandbox.runner import BindMount, FileMount, TmpfsMount
from tests.contracts.commands import Heard


def test_nothing_of_the_surroundings_is_a_change(workshop: Workshop) -> None:
    workshop.shell("echo nameserver ::1 > /etc/resolv.conf; echo x > /dev/shm/x; ls /proc /sys")

    assert workshop.changed() == []


def test_what_it_writes_is_a_change_and_only_that(workshop: Workshop) -> None:
    workshop.shell("mkdir -p /opt/app && echo made > /opt/app/file")

    assert workshop.changed() == ["opt", "opt/app", "opt/app/file"]
    assert (workshop.upper / "opt/app/file").read_text() == "made\n"


def test_parents_of_mount_points_keep_their_metadata(workshop: Workshop, tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc").chmod(0o750)
    os.chown(lower / "etc", 12, 34)
    os.utime(lower / "etc", (1000, 1000))

    found = workshop.shell("stat -c '%a %u %g %Y' /etc", lowers=[*workshop.lowers, lower])

    assert found == "750 12 34 1000\n"


def test_a_resolv_conf_that_is_a_dangling_link_is_followed_inside_the_root(
    workshop: Workshop, tmp_path: Path
) -> None:
    lower = tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/resolv.conf").symlink_to("/run/systemd/resolve/stub.conf")
    (lower / "etc/hosts").symlink_to("../../../../../../run/hosts")
    heard = Heard()

    with workshop.mount(lowers=[*workshop.lowers, lower]) as root:
        workshop.sandbox.run(
            process("cat", "/run/systemd/resolve/stub.conf", "/run/hosts"),
            root,
            heard,
            hosts=b"::7 seven\n",
            resolv_conf=b"nameserver ::8\n",
        )

    assert heard.stdout == b"nameserver ::8\n::7 seven\n"
    assert workshop.changed() == []


def test_an_image_with_a_file_where_a_mount_point_belongs_is_refused(
    workshop: Workshop, tmp_path: Path
) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "proc").touch()

    with pytest.raises(SandboxError, match="/proc: Not a directory"):
        workshop.shell("true", lowers=[*workshop.lowers, lower])


def test_commands_follow_each_other_in_one_mount(workshop: Workshop) -> None:
    heard = Heard()
    with workshop.mount() as root:
        workshop.sandbox.run(process("/bin/sh", "-c", "echo kept > /file"), root, heard)
        workshop.sandbox.run(process("cat", "/file"), root, heard)
        seen = os.open("file", os.O_RDONLY, dir_fd=root.fd)
        assert os.read(seen, 100) == b"kept\n"
        os.close(seen)
        assert "file" not in os.listdir(root.below)

    assert heard.stdout == b"kept\n"


def test_an_upper_directory_can_be_mounted_again(
    sandbox: Sandbox, image: Path, tmp_path: Path
) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    for _ in range(2):
        with sandbox.mounted([image], upper=tmp_path / "upper", work=tmp_path / "work") as root:
            sandbox.run(process("/bin/sh", "-c", "echo x >> /log"), root, Heard())

    assert (tmp_path / "upper/log").read_text() == "x\nx\n"


def test_a_root_that_was_left_is_unmounted_before_the_next_is_mounted(
    sandbox: Sandbox, image: Path, tmp_path: Path
) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    for _ in range(3):
        with sandbox.mounted([image], upper=tmp_path / "upper", work=tmp_path / "work") as root:
            sandbox.run(process("/bin/sh", "-c", "echo x >> /log"), root, Heard())
            root.leave()

    assert (tmp_path / "upper/log").read_text() == "x\nx\nx\n"


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_what_was_below_a_root_can_be_read_when_it_is_unmounted(
    sandbox: Sandbox, image: Path, tmp_path: Path, layers: int
) -> None:
    more = tmp_path / "more"
    (more / "late/deep").mkdir(parents=True)
    (more / "late/deep/file").touch()
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()

    with sandbox.mounted(
        [image, more][:layers], upper=tmp_path / "upper", work=tmp_path / "work"
    ) as root:
        held = os.dup(root.below)
    try:
        below = Path(f"/proc/self/fd/{held}")
        expected = {name for path in (image, more)[:layers] for name in os.listdir(path)}
        assert set(os.listdir(below)) == expected
        assert (below / "bin/sh").exists() == bool(layers)
        assert (below / "late/deep/file").exists() == (layers == 2)
    finally:
        os.close(held)


def test_a_read_only_root_shows_the_merged_layers(
    sandbox: Sandbox, image: Path, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    (top / "bin").mkdir(parents=True)
    (top / "bin/extra").touch()

    with sandbox.mounted([image, top]) as root:
        assert {"extra", "sh"} <= set(os.listdir(f"/proc/self/fd/{root.fd}/bin"))
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("new", dir_fd=root.fd)


def test_without_layers_the_root_is_empty(sandbox: Sandbox) -> None:
    with sandbox.mounted([]) as root:
        assert os.listdir(root.fd) == []


@pytest.mark.parametrize("count", [200, 450])
def test_many_layers_can_be_stacked(
    workshop: Workshop, sandbox: Sandbox, tmp_path: Path, count: int
) -> None:
    layers = []
    for number in range(count):
        layer = tmp_path / "a name that is not short" / f"layer-{number}"
        (layer / "all").mkdir(parents=True)
        (layer / "all" / str(number)).touch()
        layers.append(layer)
    workshop.directory = tmp_path / "steps"
    workshop.directory.mkdir()

    assert workshop.shell("ls /all | wc -l", lowers=[*workshop.lowers, *layers]) == f"{count}\n"


def test_more_layers_than_the_kernel_stacks_are_refused_with_their_number(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    layers = [tmp_path / str(number) for number in range(600)]
    for layer in layers:
        layer.mkdir()

    with pytest.raises(SandboxError, match="600 layers"):
        sandbox.mounted(layers)


def test_secrets_are_files_that_leave_no_trace(workshop: Workshop) -> None:
    secret = FileMount("/run/secrets/token", b"hidden\n", mode=0o440, uid=7, gid=8)

    seen = workshop.shell(
        "stat -c '%a %u %g' /run/secrets/token; cat /run/secrets/*", mounts=(secret,)
    )

    assert seen == "440 7 8\nhidden\n"
    assert workshop.changed() == []
    assert "hidden" not in repr(secret)


def test_binds_show_directories_and_files_of_the_host_read_only(
    workshop: Workshop, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    (context / "src").mkdir(parents=True)
    (context / "src/main.c").write_text("int x;\n")
    (context / "link").symlink_to("/src")
    mounts = (
        BindMount("/src", context, "link"),
        BindMount("/one/two/main.c", context, "/src/main.c"),
    )

    heard = Heard()
    with workshop.mount(*mounts) as root, pytest.raises(CommandFailed):
        workshop.sandbox.run(
            process("/bin/sh", "-c", "cat /src/main.c /one/two/main.c; touch /src/new"),
            root,
            heard,
        )

    assert heard.stdout == b"int x;\nint x;\n"
    assert b"Read-only" in heard.stderr
    assert workshop.changed() == []


def test_a_writable_bind_keeps_what_was_written(workshop: Workshop, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()

    workshop.shell("echo x > /var/cache/x", mounts=(BindMount("/var/cache", cache, writable=True),))

    assert (cache / "x").read_text() == "x\n"
    assert workshop.changed() == []


def test_a_bind_can_come_from_another_mounted_root(workshop: Workshop, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "opt").mkdir(parents=True)
    (other / "opt/tool").write_text("tool\n")

    with workshop.sandbox.mounted([other]) as stage:
        seen = workshop.shell("cat /t/tool", mounts=(BindMount("/t", stage.number, "/opt"),))

    assert seen == "tool\n"


def test_mounts_may_lie_inside_each_other_in_any_order(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/x").touch()
    mounts = (
        BindMount("/a/b/c", tmp_path / "inner"),
        TmpfsMount("/a", size=4096, mode=0o700),
        FileMount("/dev/shm/s", b"s"),
    )

    seen = workshop.shell("find /a /dev/shm; stat -c %a /a", mounts=mounts)

    assert seen.split() == ["/a", "/a/b", "/a/b/c", "/a/b/c/x", "/dev/shm", "/dev/shm/s", "700"]
    assert workshop.changed() == []


def test_a_bind_of_something_that_is_not_there_is_named(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="missing: No such file"):
        workshop.mount(BindMount("/a", tmp_path, "missing"))


def test_a_directory_that_cannot_hold_lower_layers_is_found_out(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.check_lower(tmp_path)

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DiskError, match="layers cannot be unpacked in /proc"):
        sandbox.check_lower(Path("/proc"))


def test_a_tmpfs_may_be_read_only(workshop: Workshop) -> None:
    seen = workshop.shell(
        "ls -A /t; touch /t/x 2>/dev/null || echo no", mounts=(TmpfsMount("/t", read_only=True),)
    )

    assert seen == "no\n"


def test_a_file_in_memory_cannot_be_changed_by_its_owner(workshop: Workshop) -> None:
    mounts = (FileMount("/f", b"x", mode=0o777, uid=5),)

    heard = workshop.run("/bin/sh", "-c", "echo y > /f; chmod 0 /f; true", mounts=mounts)

    assert heard.stderr.count(b"Read-only file system") == 2


def test_a_bare_root_has_no_mount_points(
    workshop: Workshop, sandbox: Sandbox, tmp_path: Path
) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/f").touch()

    with sandbox.mounted(
        [tmp_path / "lower"], upper=tmp_path / "upper", work=tmp_path / "work", bare=True
    ) as bare:
        mount = BindMount("/m", bare.number, writable=True)
        assert workshop.shell("echo x > /m/f; ls -A /m", mounts=(mount,)) == "f\n"

    assert (tmp_path / "lower/f").read_text() == ""
    assert workshop.changed() == []


def test_a_place_that_is_missing_in_a_read_only_mount_is_told(
    workshop: Workshop, tmp_path: Path
) -> None:
    (tmp_path / "outer").mkdir()
    mounts = (BindMount("/m", tmp_path / "outer"), TmpfsMount("/m/inner"))

    with pytest.raises(SandboxError, match="Read-only file system") as caught:
        workshop.shell("true", mounts=mounts)

    assert "mount the outer one rw" in str(caught.value.hint)
