from errno import EACCES, EINVAL, ENODEV, ENOSPC, EPERM
from pathlib import Path

import pytest

from kaniko_core.sandbox.start import Refusal, explained, file_system


@pytest.mark.parametrize(
    ("step", "number", "message", "hint"),
    [
        ("ids", 0, "full range of user and group ids", "podman unshare"),
        ("map", EPERM, "Operation not permitted", "65536"),
        ("namespaces", EPERM, "neither mounting nor a user namespace", "CAP_SYS_ADMIN"),
        ("namespaces", ENOSPC, "no more namespaces", "user.max_user_namespaces"),
        ("mount", EACCES, "mounting is refused (Permission denied)", "AppArmor"),
        ("overlay", ENODEV, "no overlay file system", "kernel module"),
        ("overlay", EPERM, "mounting an overlay is refused", "CAP_SYS_ADMIN"),
        ("overlay", EINVAL, "cannot hold what an overlay", "--kaniko-dir"),
        ("whiteout", 0, "cannot hold what an overlay", "--kaniko-dir"),
        ("start", 0, "did not start", ""),
    ],
)
def test_a_refusal_names_the_missing_right(
    tmp_path: Path, step: str, number: int, message: str, hint: str
) -> None:
    error = explained(Refusal(step, number, ""), tmp_path)

    assert message in str(error)
    assert hint in (error.hint or "")


def test_the_file_system_of_a_directory_is_known() -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/sys")) == "sysfs"
