"""Whether this machine runs programs of another platform: found out by running one.

The smallest program there is, which only exits, is made for the platform and run. That says more
than the kernel's list of emulators does, which containers do not see.

Source: the System V ABI's "ELF header" and its supplements; Linux, ``binfmt_misc``.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from kaniko_core.oci.platform import Platform

_SECONDS = 10  # an emulator starts in a fraction of one
_ADDRESS = 0x10000
_EXECUTABLE, _LOAD, _READ_EXECUTE = 2, 1, 5


class _Machine:
    """How programs of an architecture look, and the instructions that end one with status 0."""

    def __init__(self, number: int, exit_: str, *, bits: int = 64, order: str = "<") -> None:
        self.number = number
        self.exit = bytes.fromhex(exit_)
        self.bits = bits
        self.order = order


# By architecture: e_machine, and exit(0) by the kernel's calling convention.
_MACHINES = {
    "386": _Machine(3, "b801000000 31db cd80", bits=32),
    "amd64": _Machine(62, "b83c000000 31ff 0f05"),
    "arm": _Machine(40, "0170a0e3 0000a0e3 000000ef", bits=32),
    "arm64": _Machine(183, "a80b80d2 000080d2 010000d4"),
    "loong64": _Machine(258, "0b748103 04008003 00002b00"),
    "mips64le": _Machine(8, "c2130224 00000424 0c000000"),
    "ppc64le": _Machine(21, "01000038 00006038 02000044"),
    "riscv64": _Machine(243, "9308d005 13050000 73000000"),
    "s390x": _Machine(22, "a7290000 0a01", order=">"),
}
# Flags of the ABI in e_flags: without them kernels refuse.
_FLAGS = {"arm": 0x05000000, "mips64le": 0x60000000, "ppc64le": 2, "riscv64": 0}


@cache
def runs(platform: Platform) -> bool:
    """Whether commands of an image for *platform* can be run here."""
    host = Platform.host()
    if platform.os != host.os:
        return False
    if platform.architecture == host.architecture:
        return True
    machine = _MACHINES.get(platform.architecture)
    if machine is None:
        return False
    with tempfile.TemporaryDirectory(prefix="kaniko-run-") as directory:
        program = Path(directory, "program")
        program.write_bytes(_program(machine, _FLAGS.get(platform.architecture, 0)))
        program.chmod(0o700)
        try:
            done = subprocess.run([program], timeout=_SECONDS, check=False, capture_output=True)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


def _program(machine: _Machine, flags: int) -> bytes:
    """Return a static executable that is nothing but ``exit(0)``."""
    wide = machine.bits == 64
    header_size, segment_size = (64, 56) if wide else (52, 32)
    start = header_size + segment_size
    size = start + len(machine.exit)
    little = machine.order == "<"
    magic = b"\x7fELF" + bytes([2 if wide else 1, 1 if little else 2, 1]) + bytes(9)
    header = struct.pack(
        f"{machine.order}HHI{'QQQ' if wide else 'III'}IHHHHHH",
        *(_EXECUTABLE, machine.number, 1),
        *(_ADDRESS + start, header_size, 0),
        *(flags, header_size, segment_size, 1, 0, 0, 0),
    )
    if wide:
        fields = (_LOAD, _READ_EXECUTE, 0, _ADDRESS, _ADDRESS, size, size, _ADDRESS)
        segment = struct.pack(f"{machine.order}IIQQQQQQ", *fields)
    else:
        fields = (_LOAD, 0, _ADDRESS, _ADDRESS, size, size, _READ_EXECUTE, _ADDRESS)
        segment = struct.pack(f"{machine.order}IIIIIIII", *fields)
    return magic + header + segment + machine.exit
