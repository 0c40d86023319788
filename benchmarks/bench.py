"""Turns: every builder is brought to a scenario's start and measured, and the limit after them.

    turn 1   ours ▸ buildah ▸ … ▸ limit
    turn 2   ours ▸ buildah ▸ … ▸ limit          in one place, with one registry

A start that a run leaves as it was is made once for each builder; the others before every run.
What earlier runs left is moved away rather than deleted while something is measured on a disk;
in memory, deleting costs little, and room more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

from benchmarks.limits import Tools, Yardstick
from benchmarks.measure import CommandError, Cost, measure
from benchmarks.numbers import Outcome
from benchmarks.peers import TRASH, Commands, Peer
from benchmarks.scenarios import Scenario, Start, Work
from benchmarks.traffic import Meter
from integration import images, readers
from integration.world import REPOSITORY, Registry


@dataclass(slots=True)
class _Scene:
    """A scenario that is being played: its files, and how builders name the base image."""

    scenario: Scenario
    context: Path
    base: str
    layers: int
    bases: dict[str, str] = field(default_factory=dict)


class Bench:
    """Plays scenarios with one registry, in one directory.

    Args:
        registry: from which everybody pulls, and to which everybody pushes.
        directory: where everything is; the peers' directories are in it.
        peers: who takes turns.
        in_memory: whether *directory* is.
    """

    def __init__(
        self, registry: Registry, directory: Path, peers: Sequence[Peer], *, in_memory: bool
    ) -> None:
        self._registry = registry
        self._directory = directory
        self._peers = peers
        self._in_memory = in_memory
        self._tools = Tools.installed()
        self._meter = Meter(registry)
        self._aside = frozenset({registry.process.pid})
        self._pushes = 0

    @property
    def tools(self) -> Mapping[str, str]:
        """What the limit is made with."""
        return self._tools.names

    def run(self, scenario: Scenario, runs: int) -> tuple[Outcome, str]:
        """Let everybody take *runs* turns; return their costs, and what failed, in words."""
        scene = self._set(scenario)
        yardstick = Yardstick(scenario, self._registry, self._directory / "limit", self._tools)
        peers = [peer for peer in self._peers if self._commands(peer, scene, "nowhere")]
        outcome, failures = Outcome(), []
        for turn in range(runs):
            for peer in tuple(peers):
                told = f"  {scenario.name} {turn + 1}/{runs} {peer.name}"
                try:
                    cost = self._turn(peer, scene)
                except CommandError as error:
                    failures.append(f"{peer.name}: {error}")
                    print(f"{told}: failed", flush=True)
                    peers.remove(peer)
                    outcome.costs.pop(peer.name, None)
                    continue
                outcome.costs.setdefault(peer.name, []).append(cost)
                print(f"{told}: {cost.seconds:.2f} s", flush=True)
            try:
                limit = yardstick.take(scene.context, scene.base)
            except CommandError as error:
                failures.append(f"limit: {error}")
                continue
            outcome.limits.append(limit)
            seconds = sum(limit.parts.values())
            print(f"  {scenario.name} {turn + 1}/{runs} limit: {seconds:.2f} s", flush=True)
        return outcome, "\n".join(failures)

    def ready(self, scenario: Scenario, peer: Peer) -> tuple[Commands, Mapping[str, str]]:
        """Bring *peer* to the scenario's start; return what a run would be, and its variables."""
        scene = self._set(scenario)
        self._prepare(peer, scene)
        return self._commands(peer, scene, self._destination()), self._environment()

    def _set(self, scenario: Scenario) -> _Scene:
        """Make the scenario's context and base image, and remove what others left."""
        context = self._directory / "context"
        for leftover in (context, self._directory / TRASH, self._directory / "limit" / TRASH):
            shutil.rmtree(leftover, ignore_errors=True)
        context.mkdir()
        scenario.fill(context)
        layout = scenario.base()
        base = images.push(layout, self._registry, f"base/{layout.name}:latest")
        return _Scene(scenario, context, base, len(readers.manifest(base)["layers"]))

    def _turn(self, peer: Peer, scene: _Scene) -> Cost:
        """Bring *peer* to the start, and measure it."""
        scenario = scene.scenario
        if peer.name not in scene.bases or not scenario.start_survives:
            self._prepare(peer, scene)
        destination = self._destination()
        commands = self._commands(peer, scene, destination)
        # What was written for the start must not be flushed to disk during the measurement.
        os.sync()
        self._meter.reset()
        cost = self._measured(commands)
        traffic = self._meter.read()
        return replace(
            cost,
            network=traffic.network,
            requests=traffic.requests,
            blobs=traffic.blobs,
            pushed=self._new_bytes(destination, scene) if scenario.work is Work.BUILD else 0,
        )

    def _prepare(self, peer: Peer, scene: _Scene) -> None:
        """Bring *peer* to the scenario's start."""
        peer.empty()
        if self._in_memory:
            for top in (self._directory, self._directory / "limit"):
                shutil.rmtree(top / TRASH, ignore_errors=True)
        base = scene.base
        match scene.scenario.start:
            case Start.COLD:
                pass
            case Start.WARMED:
                commands, base = peer.warm(base)
                self._measured(commands)
            case Start.PULLED:
                self._measured(peer.pull(base))
            case Start.BUILT:
                self._measured(peer.rebuild(scene.context, base, self._destination()))
            case start:
                assert_never(start)
        scene.bases[peer.name] = base

    def _commands(self, peer: Peer, scene: _Scene, destination: str) -> Commands:
        """Return what *peer* does in the scenario; nothing if it has no equal."""
        base = scene.bases.get(peer.name, scene.base)
        match scene.scenario.work:
            case Work.BUILD:
                again = scene.scenario.start is Start.BUILT
                build = peer.rebuild if again else peer.build
                return build(scene.context, base, destination)
            case Work.WARM:
                return peer.warm_again(scene.base)
            case Work.HELP:
                return peer.help()
            case Work.VERSION:
                return peer.version()
            case work:
                assert_never(work)

    def _destination(self) -> str:
        """Name a repository that holds nothing yet, so that every layer must be pushed."""
        self._pushes += 1
        return f"{self._registry.address}/pushed/number-{self._pushes}:latest"

    def _environment(self) -> Mapping[str, str]:
        temporary = self._directory / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(REPOSITORY),
        }

    def _measured(self, commands: Commands) -> Cost:
        log = self._directory / "log"
        return measure(commands, env=self._environment(), log=log, aside=self._aside)

    def _new_bytes(self, destination: str, scene: _Scene) -> int:
        """Sum the sizes of the layers that *destination* has above those of the base."""
        above = readers.manifest(destination)["layers"][scene.layers :]
        return sum(layer["size"] for layer in above)
