"""Platforms: ``os/architecture[/variant]``, normalised as containerd does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from kaniko_core.errors import UsageError

_OS_ALIASES = {"macos": "darwin"}
_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_KNOWN_OS = frozenset(
    "aix android darwin dragonfly freebsd illumos ios js linux nacl netbsd openbsd plan9 "
    "solaris wasip1 windows zos hurd".split()
)
_KNOWN_ARCHITECTURES = frozenset(
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 "
    "mips64le mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)
_PART = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
# What `uname -m` says, where it is not the name itself.
_MACHINES = {"armv7l": "armhf", "armv6l": "armel", "armv8l": "armhf", "i686": "386"}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system, an architecture and perhaps a variant; ``str()`` joins them by ``/``.

    Source: OCI image-spec v1.1, image-index.md, "platform".
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``linux``, ``arm64`` or ``linux/arm/v7``; raise :class:`UsageError` otherwise."""
        parts = text.lower().split("/")
        if not 1 <= len(parts) <= 3 or not all(p and _PART.issuperset(p) for p in parts):
            raise _not_a_platform(text)
        host = cls.host()
        if len(parts) == 1:
            os_name = _OS_ALIASES.get(parts[0], parts[0])
            if os_name in _KNOWN_OS:
                return cls(os_name, host.architecture, host.variant)
            architecture, variant = _normalised(parts[0], "")
            if architecture in _KNOWN_ARCHITECTURES:
                return cls(host.os, architecture, variant)
            raise _not_a_platform(text)
        architecture, variant = _normalised(parts[1], parts[2] if len(parts) == 3 else "")
        return cls(_OS_ALIASES.get(parts[0], parts[0]), architecture, variant)

    @classmethod
    def host(cls) -> Self:
        """Return the platform that this process runs on."""
        machine = os.uname().machine
        architecture, variant = _normalised(_MACHINES.get(machine, machine), "")
        return cls("linux", architecture, variant)

    def serves(self, wanted: Platform) -> bool:
        """Whether an image for this platform runs where *wanted* is asked for."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        return _normalised(self.architecture, self.variant) == _normalised(
            wanted.architecture, wanted.variant
        )

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _normalised(architecture: str, variant: str) -> tuple[str, str]:
    if architecture in _ARCHITECTURES:
        architecture, default = _ARCHITECTURES[architecture]
        variant = variant or default
    if architecture == "arm":
        variant = f"v{variant}" if variant in {"5", "6", "7", "8"} else variant or "v7"
    elif (architecture == "arm64" and variant in {"8", "v8"}) or (
        architecture == "amd64" and variant == "v1"
    ):
        variant = ""
    return architecture, variant


def _not_a_platform(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is not a platform", hint="a platform looks like linux/amd64 or linux/arm/v7"
    )
