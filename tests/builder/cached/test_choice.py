"""What is taken from the cache: as much as goes together, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaniko_core.builder.cached.choice import WHOLE, Choice, Place, choose, whole_stage
from kaniko_core.builder.cached.keys import StageKeys, StepKey
from kaniko_core.builder.cached.lineage import copied, grown
from kaniko_core.builder.plan import Plan, StageBase
from kaniko_core.builder.planner import make_plan, named_in
from kaniko_core.dockerfile.instructions import Add, Copy, Run, Workdir
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.spec import Descriptor
from kaniko_core.steps.step import CachedStep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LAYER = FileLayer(Path("/nowhere"), Descriptor("", Digest.of(b""), 0), Digest.of(b""))

BUILDER = """\
FROM scratch AS build
RUN make
RUN make install

FROM scratch
COPY --from=build /out /a
RUN configure
RUN test
"""


@dataclass
class World:
    """A Dockerfile, and a cache that was filled by building it: each RUN made its *results*."""

    text: str
    results: dict[Place, str] = field(default_factory=dict)
    independent: frozenset[Place] = frozenset()
    entries: dict[str, CachedStep] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dockerfile = parse_dockerfile(self.text.encode(), "Dockerfile")
        self.plan: Plan = make_plan(dockerfile)
        self.steps: Mapping[int, Mapping[int, StepKey]] = {
            number: {
                position: StepKey(
                    f"{number}.{position}",
                    (),
                    stages=frozenset(
                        origin.number
                        for name in named_in(instruction)
                        if isinstance(origin := stage.origins[name.lower()], StageBase)
                    ),
                    independent=(number, position) in self.independent,
                )
                for position, instruction in enumerate(stage.instructions)
                if isinstance(instruction, Run | Copy | Add | Workdir)
            }
            for number, stage in self.plan.stages.items()
        }
        self.starts = {number: f"start of {number}" for number in self.plan.stages}
        self.build()

    def build(self, **results: str) -> None:
        """Fill the cache as a build would: *results* are what commands made, by their words."""
        lineages: dict[int, str] = {}
        for number, stage in self.plan.stages.items():
            base = stage.base
            lineage = lineages[base.number] if isinstance(base, StageBase) else self.starts[number]
            for position, step in self.steps[number].items():
                instruction = stage.instructions[position]
                origins = [lineages[n] for n in sorted(step.stages)]
                made_on = ("" if step.independent else lineage, *origins)
                contents = results.get(instruction.source.text.split()[-1], "usual")
                self.entries[step.key] = CachedStep(step.key, LAYER, NOW, contents, made_on)
                made = contents if isinstance(instruction, Run) else copied(step.key, origins)
                lineage = grown(lineage, made)
            lineages[number] = lineage

    def without(self, *keys: str) -> Choice:
        """Choose from a cache that has lost *keys*."""
        there = {key: entry for key, entry in self.entries.items() if key not in keys}
        return choose(self.plan, self.steps, self.starts, lambda step: there.get(step.key))


def test_a_full_cache_leaves_nothing_to_do() -> None:
    choice = World(BUILDER).without()

    assert choice.sure == {(1, 0), (1, 1), (1, 2)}
    assert set(choice.plan.stages) == {1}
    assert not choice.plan.needs_root
    assert choice.plan.stages[1].needs == set()


def test_an_empty_cache_leaves_everything() -> None:
    world = World(BUILDER)
    choice = world.without(*world.entries)

    assert choice.steps == {}
    assert choice.plan == world.plan


def test_a_stage_is_built_for_a_copy_that_is_not_cached() -> None:
    choice = World(BUILDER).without("1.0")

    # Of a copy, the key tells what it makes: what lies on it is found all the same.
    assert choice.sure == {(0, 0), (0, 1), (1, 1), (1, 2)}
    assert choice.plan.stages[1].needs == {0}


def test_what_lies_on_a_command_that_runs_again_is_not_sure() -> None:
    choice = World(BUILDER).without("1.1")

    assert choice.sure == {(1, 0)}
    assert set(choice.steps) == {(1, 0), (1, 2)}
    assert set(choice.plan.stages) == {1}, "the copy is cached, so nobody needs the other stage"


def test_a_stage_that_lost_a_command_is_not_built_where_all_copies_of_it_are_cached() -> None:
    choice = World(BUILDER).without("0.0", "0.1")

    assert choice.sure == {(1, 0), (1, 1), (1, 2)}
    assert set(choice.plan.stages) == {1}


TWICE = """\
FROM scratch AS build
RUN make

FROM scratch
COPY --from=build /a /
COPY --from=build /b /
"""


def test_copies_of_different_results_of_one_command_do_not_come_together() -> None:
    world = World(TWICE)
    old = world.entries["1.0"]
    world.build(make="another")
    world.entries["1.0"] = old

    choice = world.without()

    # The newest result is the one that the cache has; the copy of the old one is done anew.
    assert choice.refused == {(1, 0)}
    assert choice.sure == {(0, 0), (1, 1)}


def test_a_copy_waits_for_a_command_whose_other_copy_is_missing() -> None:
    choice = World(TWICE).without("0.0", "1.0")

    # If the command makes the same again, the second copy is good.
    assert set(choice.steps) == {(1, 1)}
    assert choice.sure == set()
    assert choice.plan.stages[1].needs == {0}


def test_a_cached_step_that_was_made_on_another_result_is_refused() -> None:
    world = World(BUILDER)
    old = world.entries["1.2"]
    world.build(configure="another")
    world.entries["1.2"] = old

    choice = world.without()

    assert choice.refused == {(1, 2)}
    assert choice.sure == {(1, 0), (1, 1)}


def test_an_independent_copy_is_sure_whatever_is_below() -> None:
    world = World("FROM scratch\nRUN make\nCOPY --link a /\n", independent=frozenset({(0, 1)}))

    assert world.without("0.0").sure == {(0, 1)}


def test_a_stage_that_starts_from_another_takes_its_layers_with_it() -> None:
    world = World("FROM scratch AS base\nRUN make\n\nFROM base\nRUN test\n")

    choice = world.without()
    assert choice.sure == {(0, 0), (1, 0)}
    assert set(choice.plan.stages) == {0, 1}
    assert world.without("0.0").sure == set()


@pytest.mark.parametrize("lost", [(), ("1.-1",)])
def test_a_stage_of_one_layer_is_one_step(lost: tuple[str, ...]) -> None:
    world = World(BUILDER)
    keys = StageKeys("start", (), world.steps[1], "final")
    whole = whole_stage(keys)
    assert whole.stages == {0}
    assert whole.key != whole_stage(StageKeys("start", (), world.steps[1], "other")).key
    steps = {**world.steps, 1: {WHOLE: whole}}
    cached = CachedStep(whole.key, LAYER, NOW, "usual", (world.starts[1], "made by build"))

    choice = choose(
        world.plan,
        steps,
        world.starts,
        lambda step: cached if step is whole and not lost else None,
    )

    assert (1, WHOLE) not in choice.sure if lost else choice.sure == {(1, WHOLE)}
    assert set(choice.plan.stages) == ({0, 1} if lost else {1})
    assert choice.plan.stages[1].changes_files == bool(lost)
