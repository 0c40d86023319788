"""Warming over a link that is far away and slow for each connection: ``python -m benchmarks.link``.

    registry ◀── slow_link: 200 Mbit/s for each connection, 50 ms each way ──▶ whoever warms
       ▲
       └── four images of 100 MB, which no compression makes smaller, pushed without the link

The limit is the time of the bytes: curl fetches the same blobs to /dev/null. It does so in two
ways, and both are printed. *One connection for each image* takes 4 s and two round trips, and is
what the warmer is held to. *As many connections as ours* cuts the blobs into ranges, and says
what is left to gain by those who ask for ranges. TCP handshakes cost their round trip; TLS is not
part of it.

``run(place, runs)`` returns what each of them cost, for whoever compares more.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Cost, measure
from benchmarks.slow_link import DELAY, RATE
from integration import images, readers
from integration.world import REPOSITORY, Registry, end_in_good_order, running_registry

_IMAGES = 4
_SIZE = 100_000_000  # bytes of the layers of each image
# How the bytes of each image are distributed over layers.
VARIANTS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "one-layer": ((1,), (1,), (1,), (1,)),
    "layers": ((1,), (3, 1), (2, 2, 1), (8, 1, 1)),
    "one-image": ((4,),),
}
_CONNECTIONS = 8
_LIMITS = ("limit: a connection each", f"limit: {_CONNECTIONS} connections")


@dataclass(frozen=True, slots=True)
class _Blob:
    url: str
    size: int


def run(place: Path, runs: int, variant: str = "one-layer") -> Mapping[str, tuple[Cost, ...]]:
    """Let everybody take turns, *runs* times; return what each turn cost, by name.

    Args:
        place: a directory on the file system where the work happens.
        runs: how many turns.
        variant: how the bytes are distributed, one of ``VARIANTS``.

    Returns:
        ``ours`` and ``skopeo``, and under the names that begin with ``limit`` what curl needs.
    """
    costs: dict[str, list[Cost]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="slow-link-", dir=place) as name,
        running_registry(Path(name, "registry")) as registry,
        _link(registry) as (address, link),
    ):
        directory = Path(name)
        pushed = _push(directory, registry, VARIANTS[variant])
        aside = frozenset({registry.process.pid, link})
        for _ in range(runs):
            for who, command in _commands(directory, registry, address, pushed).items():
                for kept in ("cache", "copies"):
                    shutil.rmtree(directory / kept, ignore_errors=True)
                    (directory / kept).mkdir()
                env = {"PATH": os.environ["PATH"], "HOME": name, "PYTHONPATH": str(REPOSITORY)}
                cost = measure([command], env=env, log=directory / "log", aside=aside)
                costs.setdefault(who, []).append(cost)
    return {who: tuple(each) for who, each in costs.items()}


def _commands(
    directory: Path, registry: Registry, address: str, names: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """Return everybody's command, those of the limits last."""
    fetched = [_blobs(registry, address, name) for name in names]
    parts = max(1, _CONNECTIONS // len(names))
    ours = [sys.executable, "-m", "kaniko_warmer", "--cache-dir", str(directory / "cache")]
    copies = [
        f"skopeo copy --quiet --src-tls-verify=false docker://{address}/{name} "
        f"docker-archive:{directory}/copies/{name}.tar"
        for name in names
    ]
    return {
        "ours": [*ours, *(f"--image={address}/{name}" for name in names)],
        "skopeo": _at_once(copies),
        _LIMITS[0]: _at_once([_fetch([(blob.url, "") for blob in blobs]) for blobs in fetched]),
        _LIMITS[1]: _at_once(
            [
                _fetch([_range(blob, part, parts) for blob in blobs])
                for blobs in fetched
                for part in range(parts)
            ]
        ),
    }


def _at_once(commands: Sequence[str]) -> Sequence[str]:
    """Return a command that runs all of them, and fails where one of them does."""
    begun = "".join(f"{command} & p{number}=$!\n" for number, command in enumerate(commands))
    waits = " && ".join(f"wait $p{number}" for number in range(len(commands)))
    return ["sh", "-c", begun + waits]


def _fetch(parts: Sequence[tuple[str, str]]) -> str:
    """Return a command that fetches one after another over one connection."""
    each = (
        f"--fail --silent --output /dev/null {f'--range {span} ' if span else ''}{url}"
        for url, span in parts
    )
    return "curl " + " --next ".join(each)


def _range(blob: _Blob, part: int, parts: int) -> tuple[str, str]:
    return blob.url, f"{blob.size * part // parts}-{blob.size * (part + 1) // parts - 1}"


def _blobs(registry: Registry, address: str, name: str) -> list[_Blob]:
    layers = readers.manifest(f"{registry.address}/{name}")["layers"]
    return [
        _Blob(f"http://{address}/v2/{name}/blobs/{layer['digest']}", layer["size"])
        for layer in layers
    ]


@contextmanager
def _link(registry: Registry) -> Iterator[tuple[str, int]]:
    """Put the link before *registry*; yield its address, and the process that it is."""
    command = ["setpriv", "--pdeathsig", "TERM", sys.executable]
    with subprocess.Popen(
        [*command, "-m", "benchmarks.slow_link", registry.address],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    ) as link:
        try:
            assert link.stdout is not None
            yield f"127.0.0.1:{int(link.stdout.readline())}", link.pid
        finally:
            link.terminate()


def _push(directory: Path, registry: Registry, variant: Sequence[Sequence[int]]) -> list[str]:
    """Push the images without the link; return their names."""
    names = []
    for number, shares in enumerate(variant):
        layout, name = directory / "layout", f"image-{number}"
        # An image of its own has all the bytes.
        size = _SIZE * _IMAGES // len(variant)
        _write_layout(layout, [size * share // sum(shares) for share in shares])
        images.push(layout, registry, name)
        shutil.rmtree(layout)
        names.append(name)
    return names


def _write_layout(layout: Path, sizes: Sequence[int]) -> None:
    """Write an image whose layers have about these sizes, made of chance."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers, diff_ids = [], []
    for size in sizes:
        # To everybody here a layer is bytes: nothing looks for a tar in it.
        content = os.urandom(size)
        packed = gzip.compress(content, 0, mtime=0)
        diff_ids.append(f"sha256:{hashlib.sha256(content).hexdigest()}")
        layers.append(_kept(blobs, "application/vnd.oci.image.layer.v1.tar+gzip", packed))
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}
    raw_config = json.dumps(config).encode()
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": _kept(blobs, "application/vnd.oci.image.config.v1+json", raw_config),
        "layers": layers,
    }
    listed = _kept(blobs, kind, json.dumps(manifest).encode())
    listed["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))


def _kept(blobs: Path, media_type: str, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _table(variant: str, costs: Mapping[str, Sequence[Cost]]) -> str:
    seconds = {who: statistics.median(cost.seconds for cost in each) for who, each in costs.items()}
    lines = [f"{variant}: {'wall s':>27}{'of limit 1':>12}{'of limit 2':>12}{'cpu s':>8}{'MB':>7}"]
    for who, each in costs.items():
        ratios = "".join(f"{seconds[who] / seconds[limit]:12.2f}" for limit in _LIMITS)
        cpu = statistics.median(cost.cpu for cost in each)
        memory = max(cost.memory for cost in each) / 1e6
        lines.append(f"  {who:<26}{seconds[who]:9.2f}{ratios}{cpu:8.2f}{memory:7.0f}")
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--place", type=Path, default=Path("/dev/shm"), help="where (memory)")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="all if none")
    given = parser.parse_args()
    end_in_good_order()
    print(f"each connection: {RATE / 1e6:.0f} MB/s, {DELAY * 1000:.0f} ms each way")
    for variant in given.variant or VARIANTS:
        print(_table(variant, run(given.place, given.runs, variant)), flush=True)


if __name__ == "__main__":
    _main()
