"""Programs that only exit, and the kernel that runs them or not."""

from __future__ import annotations

import pytest

from kaniko_core.oci.platform import Platform
from kaniko_core.sandbox.emulation import runs


def test_this_machine_runs_its_own_programs() -> None:
    host = Platform.host()
    assert runs(host)
    assert runs(Platform(host.os, host.architecture, "v9"))


@pytest.mark.parametrize("text", ["windows/amd64", "linux/mips", "linux/sparc64", "linux/wasm"])
def test_what_nobody_emulates(text: str) -> None:
    assert not runs(Platform.parse(text))


@pytest.mark.skipif(
    Platform.host() != Platform("linux", "amd64"), reason="only these run programs of 32 bits"
)
def test_the_program_is_one_that_the_kernel_runs() -> None:
    """It is written byte by byte, and this is the one other kind that runs without emulator."""
    assert runs(Platform("linux", "386"))
