"""What a measurement cost the network and the registry, without anything in between.

The benchmarks move into a network of their own, which has nothing but its loopback interface. All
that its counter sees is between the builders and the registry; every packet is counted once, as
it arrives, whichever way it went. What was asked for is in the registry's own access log, and
which of the blobs there are layers, in its storage. Nothing stands between, so nothing is slowed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from integration.world import Registry

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_LOOPBACK = "lo:"
# The registry writes to its log after its last answer was sent.
_LOG_SECONDS = 0.1


def leave_network() -> None:
    """Move this process and its coming children into a network with a loopback interface only.

    What needs the world (base images that are still to be made) must be there before.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes over the network, requests that were answered, and layers that were downloaded."""

    network: int
    requests: int
    blobs: int


class Meter:
    """Counts from one reading to the next."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._received = 0
        self.reset()

    def reset(self) -> None:
        """Count from now on."""
        time.sleep(_LOG_SECONDS)
        self._registry.forget()
        self._received = _received()

    def read(self) -> Traffic:
        """Return what there was since the last :meth:`reset`."""
        network = _received() - self._received
        time.sleep(_LOG_SECONDS)
        requests = self._registry.requests()
        fetched = [request.path for request in requests if request.fetches_blob]
        return Traffic(network, len(requests), sum(map(self._is_layer, fetched)))

    def _is_layer(self, path: str) -> bool:
        """Say whether a request was for a layer: configurations are JSON objects."""
        with blob(self._registry, path.rpartition("/")[2]).open("rb") as file:
            return file.read(1) != b"{"


def blob(registry: Registry, digest: str) -> Path:
    """Name the file in which *registry* keeps a blob."""
    algorithm, _, digits = digest.partition(":")
    blobs = registry.storage / "docker/registry/v2/blobs"
    return blobs / algorithm / digits[:2] / digits / "data"


def _received() -> int:
    """Read how many bytes arrived over loopback interface of this process's network."""
    # /proc/self/net is of the process; a thread could be elsewhere.
    for line in Path(f"/proc/{os.getpid()}/net/dev").read_text().splitlines():
        name, *counters = line.split()
        if name == _LOOPBACK:
            return int(counters[0])
    raise RuntimeError("this network has no loopback interface")
