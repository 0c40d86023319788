"""Where our time goes: ``python -m benchmarks.profiling kaniko_executor ARG…``.

First the phases, then the steps as the executor itself tells them, then functions. All but the
steps comes from looking at all threads every few milliseconds (``sampled``).

A phase is told by the innermost of our functions that a thread is in. At each look, the time since
the last is shared among the phases of the threads that used a processor meanwhile; where none
did, among what the threads wait for. So the shares add up to the whole of the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from integration.world import REPOSITORY

_FUNCTIONS = 25
_START = "start-up and imports"
_WAITING = "waiting for other threads"
_PULL = "pull: fetch"

# The first that matches the innermost frame counts; frames of none are skipped, outwards.
_PHASES = tuple(
    (phase, re.compile(pattern))
    for phase, pattern in (
        (_START, r"importlib\._bootstrap|/kaniko_core/(cli|options|home|lean|version)\b"),
        (_START, r"/dataclasses\.py$|/(typer|click|rich)/"),
        (_PULL, r"/registry/"),
        ("push", r"/builder/(output|products)\.py"),
        ("pull: decompress and verify", r"/oci/(opening|compression|digest|joining)\.py"),
        ("unpack", r"/rootfs/(unpack|filling|copying|hiding|beneath|directories|store|making)\.py"),
        ("unpack", r"/oci/(tarreader|tarheader|pax|sparse)\.py"),
        ("pack", r"/oci/(archive|headers|layer|stored)\.py|/builder/(packing|spool)\.py"),
        ("changes of commands", r"/rootfs/(scan|changeset|overlay|descent)|/builder/changes\.py"),
        ("commands, and the sandbox", r"/sandbox/|/builder/(run|inplace|overlays)\.py"),
        ("COPY and ADD", r"/builder/(copy|files|add|taken|target|destination|source|parents)\.py"),
        ("layer cache", r"/steps/|/builder/cached/"),
        ("base images in the cache directory", r"/kaniko_core/cache/"),
        ("Dockerfile and context", r"/kaniko_core/(dockerfile|context|remote)/|/builder/planner"),
        ("attestations", r"/attestations/"),
        ("output on the screen", r"/kaniko_core/console/"),
        ("files of the root", r"/rootfs/"),
        ("images: manifests, layouts, tarballs", r"/oci/"),
        ("clean-up", r"/(shutil|tempfile)\.py$|/builder/workspace\.py"),
    )
)
# What a request is for, the functions around it tell.
_REQUESTS = (
    ("push", re.compile(r"/registry/(upload|sending)\.py|/builder/output\.py")),
    ("layer cache", re.compile(r"/steps/|/builder/cached/")),
)
_OTHER = "other"
_OURS = ("/kaniko_core/", "/kaniko_executor/", "/kaniko_warmer/")
# Innermost frames of threads that wait for another thread of ours, which has a phase itself.
_PAUSED = re.compile(r"/(threading|queue|concurrent/futures/(thread|_base))\.py$")


def profile(command: Sequence[str], *, env: Mapping[str, str]) -> str:
    """Run *command*, a ``python -m`` of ours, once; return tables of where its time went.

    Raises:
        ValueError: it is no ``python -m``.
        RuntimeError: it failed; the message has the last of what it wrote.
    """
    if list(command[1:2]) != ["-m"]:
        raise ValueError(f"not a command of ours: {' '.join(command)}")
    python, _, module, *rest = command
    told = ["--log-format=json"] if "--context" in rest else []
    with tempfile.TemporaryDirectory(prefix="kaniko-profile-") as scratch:
        out = Path(scratch, "seen.json")
        start = time.monotonic()
        done = subprocess.run(
            [python, "-m", "benchmarks.sampled", str(out), module, *rest, *told],
            check=False,
            env={**env, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{env.get('PYTHONPATH', '')}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        end = time.monotonic()
        if done.returncode != 0 or not out.exists():
            last = "\n".join(done.stderr.splitlines()[-15:])
            raise RuntimeError(f"{module} ended with {done.returncode}:\n{last}")
        seen = json.loads(out.read_text())
    parts = [
        f"{module}: {end - start:.2f} s, {seen['cpu']:.2f} s of processor time, and"
        f" {seen['children']:.2f} s of the sandbox and its commands",
        phases(seen, before=seen["began"] - start, after=end - seen["ended"]),
        steps(done.stderr),
        functions(seen),
    ]
    return "\n\n".join(part for part in parts if part)


# --- phases -------------------------------------------------------------------------------------


def phase_of(frames: Iterable[Sequence[str]]) -> str:
    """Return the phase of a stack, outermost frame first."""
    files = [file for file, _ in frames]
    while files:
        for phase, pattern in _PHASES:
            if pattern.search(files[-1]):
                return _request(files) if phase == _PULL else phase
        files.pop()
    return _OTHER


def _request(files: Sequence[str]) -> str:
    """Return what a request is for: a function of the registry's is the last of *files*."""
    for phase, pattern in _REQUESTS:
        if any(pattern.search(file) for file in files):
            return phase
    return _PULL


def phases(seen: Mapping[str, Any], *, before: float, after: float) -> str:
    """Format how the wall clock and the processor were shared among phases.

    Args:
        seen: what :mod:`benchmarks.sampled` wrote.
        before: seconds from the process's start to the first of our lines.
        after: seconds from the last of them to the process's end.
    """
    wall, cpu = shares(seen)
    wall["interpreter, before our first line"] += before
    wall["interpreter, after our last line"] += after
    total = sum(wall.values()) or 1.0
    lines = [f"{'phase':<42}{'wall s':>8}{'':>7}{'cpu s':>8}"]
    for phase, seconds in sorted(wall.items(), key=lambda item: -item[1]):
        lines.append(f"{phase:<42}{seconds:8.2f}{seconds / total:7.0%}{cpu[phase]:8.2f}")
    unseen = seen["cpu"] - sum(cpu.values())
    lines.append(f"{'threads that are not Python, or were gone':<42}{'':15}{max(unseen, 0):8.2f}")
    return "\n".join(lines)


def shares(seen: Mapping[str, Any]) -> tuple[defaultdict[str, float], defaultdict[str, float]]:
    """Return the seconds of the wall clock and of processors by phase."""
    stacks = seen["stacks"]
    phase = [phase_of(stack["frames"]) for stack in stacks]
    cpu: defaultdict[str, float] = defaultdict(float)
    for name, stack in zip(phase, stacks, strict=True):
        cpu[name] += stack["cpu"]
    wall: defaultdict[str, float] = defaultdict(float)
    for moment in seen["moments"]:
        active = [phase[number] for number in moment["busy"]]
        if not active:
            # Nobody computes: somebody waits for the network, a disk or a command.
            active = [phase[n] for n in moment["idle"] if not _paused(stacks[n]["frames"])]
        for name in active or [_WAITING]:
            wall[name] += moment["wall"] / len(active or [_WAITING])
    return wall, cpu


def _paused(frames: Sequence[Sequence[str]]) -> bool:
    return bool(frames) and _PAUSED.search(frames[-1][0]) is not None


# --- steps --------------------------------------------------------------------------------------


def steps(log: str) -> str:
    """Format what the executor told of its stages, steps and transfers, in its own order."""
    lines = []
    for line in log.splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            if event["event"] in ("stage_started", "stage_finished", "step_finished"):
                lines.append(f"{event['time'][11:23]}  {event['msg']}")
    return "\n".join(["steps, as they were told", *lines]) if lines else ""


# --- functions ----------------------------------------------------------------------------------


def functions(seen: Mapping[str, Any], most: int = _FUNCTIONS) -> str:
    """Format the functions that used the processor most, by themselves and with what they called.

    Both are of the processor; what a thread waited in a function is beside it. Each belongs to
    the role of its thread: ``pack_0`` and ``pack_1`` are both ``pack``.
    """
    own: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    whole: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for stack in seen["stacks"]:
        role = role_of(stack["thread"])
        used = stack["cpu"], max(stack["wall"] - stack["cpu"], 0.0)
        frames = [named(file, function) for file, function in stack["frames"]]
        for table, names in ((own, frames[-1:]), (whole, dict.fromkeys(frames))):
            for name in names:
                cell = table[role, name]
                cell[0] += used[0]
                cell[1] += used[1]
    # Of functions that only call each other, the innermost says most: it comes last.
    last = {
        (role, *(round(seconds, 3) for seconds in cell)): (role, name)
        for (role, name), cell in whole.items()
        if name.startswith("kaniko_")
    }
    ours = {key: whole[key] for key in last.values()}
    return "\n\n".join(
        (
            _ranked("by themselves", own, most),
            _ranked("of ours, with what they called", ours, most),
        )
    )


def _ranked(title: str, table: Mapping[tuple[str, str], Sequence[float]], most: int) -> str:
    lines = [f"{'cpu s':>8}{'waits s':>9}  {'thread':<12} functions {title}"]
    ranked = sorted(table.items(), key=lambda item: -item[1][0])[:most]
    for (role, name), (used, waited) in ranked:
        lines.append(f"{used:8.3f}{waited:9.3f}  {role:<12} {name}")
    return "\n".join(lines)


def role_of(thread: str) -> str:
    """Return what threads of one pool have in common."""
    return re.sub(r"(_\d+)+$|-\d+( \(.*\))?$", "", thread)


def named(file: str, function: str) -> str:
    """Name a function by its module's path, from the package on."""
    for package in _OURS:
        if package in file:
            return f"{package.strip('/')}/{file.rpartition(package)[2]} {function}"
    short = re.sub(r"^.*/(site-packages|python3\.\d+)/", "", file)
    return f"{short} {function}"


def main() -> None:
    """Profile a command line of ours."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("module", choices=("kaniko_executor", "kaniko_warmer"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    command = [sys.executable, "-m", chosen.module, *chosen.arguments]
    try:
        print(profile(command, env=os.environ))
    except RuntimeError as error:
        raise SystemExit(f"benchmarks: {error}") from None


if __name__ == "__main__":
    main()
