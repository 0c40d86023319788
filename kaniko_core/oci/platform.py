"""Platforms: ``os/architecture[/variant]``, normalised as containerd does."""

from __future__ import annotations

import os
import re
from typing import Self
from urllib.parse import quote, unquote

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

_OS_ALIASES = {"macos": "darwin"}
# Other names, and those that stand for a variant, whatever variant is named beside them.
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_ARCHITECTURES = {
    "i386": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_KNOWN_OS = frozenset(
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 "
    "solaris windows zos".split()
)
_KNOWN_ARCHITECTURES = frozenset(
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 "
    "mips64le mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)
_OS = re.compile(r"([a-zA-Z0-9_-]+)(?:\(([a-zA-Z0-9_.%-]*)(?:\+[a-zA-Z0-9_.%-]+)*\))?")
_PART = re.compile(r"[a-zA-Z0-9_.-]+")
# What `uname -m` says, where it is not the name itself.
_MACHINES = {"armv7l": "armhf", "armv6l": "armel", "armv8l": "armhf", "i686": "386"}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system, an architecture and perhaps a variant; ``str()`` joins them by ``/``.

    The version that an operating system may have is no part of that; see :attr:`complete`.

    Source: OCI image-spec v1.1, image-index.md, "platform".
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``linux``, ``arm64`` or ``linux/arm/v7``; raise :class:`UsageError` otherwise.

        The operating system may have a version, as in ``windows(10.0.17763)/amd64``; features,
        which may follow it with a plus sign, have no meaning to us.
        """
        first, *others = text.split("/")
        match = _OS.fullmatch(first)
        if match is None or len(others) > 2 or not all(map(_PART.fullmatch, others)):
            raise _not_a_platform(text)
        name = match[1].lower()
        os_name = _OS_ALIASES.get(name, name)
        version = unquote(match[2] or "")
        host = cls.host()
        if others:
            architecture, variant = _normalised(others[0], others[1] if len(others) == 2 else "")
            return cls(os_name, architecture, variant, version)
        if os_name in _KNOWN_OS:
            return cls(os_name, host.architecture, host.variant, version)
        architecture, variant = _normalised(first, "")
        if architecture in _KNOWN_ARCHITECTURES:
            return cls(host.os, architecture, variant)
        raise _not_a_platform(text)

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

    @property
    def complete(self) -> str:
        """What ``str()`` gives, and the version of the operating system, if it has one."""
        version = f"({quote(self.os_version)})" if self.os_version else ""
        return "/".join(filter(None, (self.os + version, self.architecture, self.variant)))

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def platforms(text: str) -> tuple[Platform, ...]:
    """Read platforms with commas between them; raise :class:`UsageError` where one is none.

    ``local`` is the one that this process runs on, as it is for BuildKit.
    """
    return tuple(
        Platform.host() if word == "local" else Platform.parse(word)
        for word in (part.strip() for part in text.split(","))
        if word
    )


def _normalised(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    architecture = _ALIASES.get(architecture, architecture)
    architecture, variant = _ARCHITECTURES.get(architecture, (architecture, variant))
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
