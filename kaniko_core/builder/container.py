"""Whether this process is in a container: what can be seen of that from the inside.

Nothing says so for certain, so that whoever would do harm on a machine asks for more than this.

Source: what Go kaniko's users rely on (its ``proc`` package), and the runtimes' own marks:
podman-run(1), /run/.containerenv; systemd's "Container Interface".
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_MARKS = (
    "run/.containerenv",
    ".dockerenv",
    "var/run/secrets/kubernetes.io/serviceaccount",
    "run/systemd/container",
    "__runsc_containers__",
)
# What it takes to unpack an image, to run commands as its users, and to end what these leave
# running: capabilities(7).
_NEEDED = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
# Our images set the first, as systemd's container interface has it; every pod has the other.
_VARIABLES = ("container", "KUBERNETES_SERVICE_HOST")
_CGROUPS = ("docker", "kubepods", "containerd", "libpod", "crio", "lxc", "garden", "machine.slice")


def found_container(root: Path = Path("/")) -> str | None:
    """Return what shows that this is a container; None where nothing does.

    Args:
        root: where the machine's files are.
    """
    for mark in _MARKS:
        if (root / mark).exists():
            return f"there is /{mark}"
    groups = _text(root / "proc/1/cgroup")
    for word in _CGROUPS:
        if word in groups:
            return f"the control group of process 1 names {word}"
    # Process 1 may be another container's, where those of a pod share their processes.
    for process in ("1", "self"):
        for pair in _text(root / "proc" / process / "environ").split("\0"):
            name, _, value = pair.partition("=")
            if name in _VARIABLES and value:
                return f"process {process} has the variable {name}"
    for line in _text(root / "proc/mounts").splitlines():
        fields = line.split(" ")
        if fields[1:3] == ["/", "overlay"]:
            return "/ is an overlay"
    return None


def missing_capabilities(root: Path = Path("/")) -> list[str]:
    """Return the names of those capabilities that a build in place takes, and that we have not.

    Args:
        root: where the machine's files are.
    """
    for line in _text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            held = int(value, 16)
            return [name for name, number in _NEEDED.items() if not held >> number & 1]
    return []


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
