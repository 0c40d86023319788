"""The rights that sandboxing needs: what is enough, and what is said where they are missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from integration.sandbox.workshop import (
    UserNamespace,
)

_PROJECT = Path(__file__).parents[2]


_SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, {project!r})
from kaniko_core.errors import KanikoError
from kaniko_core.sandbox.client import open_sandbox
from kaniko_core.sandbox.runner import Process
place = Path({place!r})
try:
    with open_sandbox(place) as sandbox:
        print(sandbox.whiteouts)
        for name in ("upper", "work"):
            (place / name).mkdir()
        with sandbox.mounted([Path({image!r})], upper=place / "upper", work=place / "work") as root:
            sandbox.run(
                Process(("/bin/sh", "-c", {script!r}), ("PATH=/bin",)), root,
                lambda data, is_stderr: None if is_stderr else print(data.decode(), end=""),
            )
        sandbox.check_lower(place)
except KanikoError as error:
    print(type(error).__name__, error, "HINT", error.hint)
"""


_CHANGES = (
    "rm /bin/wc; mkdir /d; chown 1000:4000000 /d; echo x > /dev/null; mkdir -p /e/f;"
    " chmod 600 /dev/null; cat /sys/kernel/uevent_seqnum > /dev/null && ls /proc/1/ns | wc -w;"
    " ps | busybox wc -l; id -u"
)


def _elsewhere(
    wrapper: list[str],
    image: Path,
    place: Path,
    script: str = _CHANGES,
    python: str = sys.executable,
) -> subprocess.CompletedProcess[str]:
    program = _SCRIPT.format(
        project=str(_PROJECT), place=str(place), image=str(image), script=script
    )
    return subprocess.run(
        [*wrapper, python, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


_DOCKERS = "setpriv --inh-caps=-all --bounding-set=-all" + "".join(
    f",+{name}"
    for name in (
        "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw"
        " sys_chroot mknod audit_write setfcap"
    ).split()
)


def test_dockers_default_capabilities_are_enough(image: Path, tmp_path: Path) -> None:
    """Without CAP_SYS_ADMIN a user namespace with every id takes over."""
    node = Path("/dev/null").stat().st_mode

    done = _elsewhere(_DOCKERS.split(), image, tmp_path)

    assert done.stdout.split()[0] == "user", done.stdout + done.stderr
    assert done.stdout.split()[-1] == "0"
    assert Path("/dev/null").stat().st_mode == node
    assert (tmp_path / "upper/bin/wc").lstat().st_rdev == 0
    status = (tmp_path / "upper/d").stat()
    assert (status.st_uid, status.st_gid) == (1000, 4000000)


def test_a_container_whose_proc_is_masked_is_no_obstacle(image: Path, tmp_path: Path) -> None:
    """Docker covers parts of /proc, and the kernel then refuses a fresh one."""
    mask = "mount -t tmpfs x /proc/acpi && exec " + _DOCKERS + ' "$@"'
    if not Path("/proc/acpi").is_dir():
        pytest.skip("there is no /proc/acpi to mask")

    done = _elsewhere(
        ["unshare", "--mount", "sh", "-c", mask, "sh"], image, tmp_path, "ls -d /proc/self; id -u"
    )

    assert done.stdout.split() == ["user", "/proc/self", "0"], done.stdout + done.stderr


def test_root_of_a_user_namespace_with_every_id_needs_no_other(image: Path, tmp_path: Path) -> None:
    with UserNamespace("0 0 4294967295\n") as wrapper:
        done = _elsewhere(wrapper, image, tmp_path)

    assert done.stdout.split()[0] == "user", done.stdout + done.stderr
    assert done.stdout.split()[-1] == "0"


def test_a_rootless_user_namespace_of_65536_ids_is_enough(image: Path) -> None:
    """As `podman unshare` makes it: its root is an ordinary user outside."""
    # Ours may lie in a home directory that such a user cannot enter.
    python = "/usr/bin/python3"
    if Path(python).resolve().name < "python3.11":
        pytest.skip("the system's Python is too old")
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        UserNamespace("0 300000 65536\n") as wrapper,
    ):
        place = Path(name)
        shutil.copytree(image, place / "image", symlinks=True)
        subprocess.run(["chown", "-hR", "300000:300000", str(place)], check=True)

        script = "mkdir /d; chown 1000:65534 /d; rm /bin/wc; id -u"
        done = _elsewhere(wrapper, place / "image", place, script, python)

        assert done.stdout.split() == ["user", "0"], done.stdout + done.stderr
        status = (place / "upper/d").stat()
        assert (status.st_uid, status.st_gid) == (301000, 365534)


def test_one_mapped_id_is_refused_because_owners_would_be_wrong(
    image: Path, tmp_path: Path
) -> None:
    done = _elsewhere(["unshare", "--user", "--map-root-user"], image, tmp_path)

    assert done.stdout.startswith("SandboxError"), done.stdout + done.stderr
    assert "full range of user and group ids" in done.stdout
    assert "podman unshare" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_missing_setuid_is_refused_with_the_range_of_ids(image: Path, tmp_path: Path) -> None:
    wrapper = "setpriv --inh-caps=-all --bounding-set=-sys_admin,-setuid".split()

    done = _elsewhere(wrapper, image, tmp_path)

    assert "SandboxError" in done.stdout, done.stdout + done.stderr
    assert "full range of ids" in done.stdout


def test_a_kernel_without_more_namespaces_is_refused_with_the_knob(
    image: Path, tmp_path: Path
) -> None:
    with UserNamespace("0 0 4294967295\n") as wrapper:
        limit = 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$@"'
        done = _elsewhere([*wrapper, "sh", "-c", limit, "sh"], image, tmp_path)

    assert "no more namespaces are allowed" in done.stdout, done.stdout + done.stderr
    assert "user.max_mnt_namespaces" in done.stdout


def test_a_work_directory_on_an_overlay_names_the_option(image: Path, tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/place").mkdir()
    options = ",".join(f"{n}dir={tmp_path / n}" for n in ("lower", "upper", "work"))
    mount = f'mount -t overlay -o {options} x {tmp_path / "merged"} && exec "$@"'

    done = _elsewhere(
        ["unshare", "--mount", "sh", "-c", mount, "sh"], image, tmp_path / "merged/place"
    )

    assert done.stdout.startswith("SandboxError"), done.stdout + done.stderr
    assert "which is on overlay" in done.stdout
    assert "--kaniko-dir" in done.stdout
