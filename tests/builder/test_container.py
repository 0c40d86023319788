"""What shows that this process is in a container, and what it may do there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.builder.container import found_container, missing_capabilities


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def machine(root: Path) -> Path:
    """Make what a machine has that is no container."""
    write(root / "proc/1/cgroup", "0::/init.scope\n")
    write(root / "proc/1/environ", "HOME=/\0TERM=linux\0container=\0")
    write(root / "proc/mounts", "/dev/sda1 / ext4 rw 0 0\noverlay /mnt/x overlay rw 0 0\n")
    (root / "run/systemd").mkdir(parents=True)
    return root


def test_machine_is_none(tmp_path: Path) -> None:
    assert found_container(machine(tmp_path)) is None


def test_nothing_to_see_is_none(tmp_path: Path) -> None:
    assert found_container(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", 'engine="podman-5"\n'),
        ("var/run/secrets/kubernetes.io/serviceaccount", ""),
        ("run/systemd/container", "systemd-nspawn"),
        ("__runsc_containers__", ""),
        ("proc/1/cgroup", "12:cpu:/kubepods/besteffort/pod1\n"),
        ("proc/1/cgroup", "0::/system.slice/docker-1a2b.scope\n"),
        ("proc/1/environ", "HOME=/\0container=oci\0"),
        ("proc/self/environ", "container=oci\0"),
        ("proc/self/environ", "HOME=/\0KUBERNETES_SERVICE_HOST=10.0.0.1\0"),
        ("proc/mounts", "overlay / overlay rw,lowerdir=x 0 0\n"),
    ],
)
def test_each_mark_is_enough(tmp_path: Path, name: str, text: str) -> None:
    write(machine(tmp_path) / name, text)

    found = found_container(tmp_path)

    assert found is not None
    assert not found.endswith(".")


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        ("00000000a80425fb", []),  # Docker's fourteen
        ("0000000000000000", ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]),
        ("000001ffffffffff", []),
        ("00000000a804253b", ["SETGID", "SETUID"]),
    ],
)
def test_capabilities_that_are_missing_are_named(
    tmp_path: Path, held: str, missing: list[str]
) -> None:
    write(tmp_path / "proc/self/status", f"Name:\tx\nCapPrm:\t0\nCapEff:\t{held}\n")
    assert missing_capabilities(tmp_path) == missing


def test_where_nobody_tells_nothing_is_missing(tmp_path: Path) -> None:
    assert missing_capabilities(tmp_path) == []
