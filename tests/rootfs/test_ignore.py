"""What belongs to somebody else in a root."""

from pathlib import Path

import pytest

from kaniko_core.rootfs.ignore import IgnoreRules, mount_points, points_in

RULES = IgnoreRules(frozenset({b"proc", b"var/run/secrets/token", b"etc/hosts"}))


@pytest.mark.parametrize("path", [b"proc", b"proc/1/fd", b"etc/hosts", b"var/run/secrets/token/a"])
def test_a_covered_path_covers_all_in_it(path: bytes) -> None:
    assert RULES.covers(path)


@pytest.mark.parametrize("path", [b"", b"process", b"pro", b"etc", b"etc/hosts2", b"x/proc"])
def test_nothing_else_is_covered(path: bytes) -> None:
    assert not RULES.covers(path)


@pytest.mark.parametrize("path", [b"", b"var", b"var/run", b"var/run/secrets", b"etc"])
def test_directories_above_a_covered_path_shelter_it(path: bytes) -> None:
    assert RULES.shelters(path)


@pytest.mark.parametrize("path", [b"proc", b"proc/1", b"etc/hosts", b"va", b"usr"])
def test_covered_paths_and_others_do_not_shelter(path: bytes) -> None:
    assert not RULES.shelters(path)


def test_sheltering_directories_can_be_listed() -> None:
    assert RULES.sheltering == {b"", b"etc", b"var", b"var/run", b"var/run/secrets"}


def test_no_rules_are_no_rules() -> None:
    assert not IgnoreRules().covers(b"")
    assert not IgnoreRules().covers(b"a/b")
    assert not IgnoreRules().shelters(b"")


def test_paths_are_added_to_new_rules() -> None:
    more = RULES.and_paths([b"kaniko", b"opt/x"])

    assert more == IgnoreRules(RULES.covered | {b"kaniko", b"opt/x"})
    assert more.shelters(b"opt")
    assert not RULES.covers(b"kaniko")


# As Kubernetes and podman have it, with a name for every escape.
MOUNTINFO = rb"""
771 720 0:71 / / rw,relatime master:258 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
772 771 0:77 / /proc rw,nosuid - proc proc rw
774 771 254:1 /pod/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
775 771 0:75 / /var/run/secrets/kubernetes.io/serviceaccount ro,relatime - tmpfs tmpfs rw
776 771 254:1 /a /with\040blank\011tab\012line\134slash\043sign rw - ext4 /dev/vda1 rw
777 771 254:1 /a /gone//deleted rw - ext4 /dev/vda1 rw
778 772 0:77 /sys /proc/sys ro,nosuid shared:7 master:2 - proc proc rw
""".lstrip()


def test_mount_points_are_read_from_the_kernels_list() -> None:
    assert points_in(MOUNTINFO, b"/") == {
        b"proc",
        b"proc/sys",
        b"etc/hosts",
        b"var/run/secrets/kubernetes.io/serviceaccount",
        b"with blank\ttab\nline\\slash#sign",
    }


def test_only_what_is_below_the_root_counts() -> None:
    assert points_in(MOUNTINFO, b"/proc") == {b"sys"}
    assert points_in(MOUNTINFO, b"/pro") == frozenset()


def test_a_carriage_return_does_not_end_a_line() -> None:
    """The kernel does not escape it."""
    assert points_in(b"9 1 0:5 / /a\rb rw - tmpfs tmpfs rw\n", b"/") == {b"a\rb"}


def test_this_machines_proc_is_a_mount() -> None:
    assert b"proc" in mount_points(Path("/"))
    assert all(not point.startswith(b"/") for point in mount_points(Path("/")))


def test_a_plain_directory_has_no_mounts(tmp_path: Path) -> None:
    assert mount_points(tmp_path) == frozenset()


def test_links_to_the_root_are_followed(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("/")

    assert b"proc" in mount_points(tmp_path / "root")
