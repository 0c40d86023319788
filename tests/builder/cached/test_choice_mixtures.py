"""No image has two results of one command, whatever a cache has lost and who else filled it."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kaniko_core.builder.cached.choice import choose, fits
from kaniko_core.builder.cached.keys import StepKey
from kaniko_core.builder.cached.lineage import copied, grown
from kaniko_core.builder.plan import Plan, StageBase
from kaniko_core.builder.planner import make_plan, named_in
from kaniko_core.dockerfile.instructions import Copy, Instruction, Run
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.layer import FileLayer
from kaniko_core.oci.spec import Descriptor
from kaniko_core.steps.step import CachedStep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BLOB = FileLayer(Path("/nowhere"), Descriptor("", Digest.of(b""), 0), Digest.of(b""))
# What a tree shows of: commands, by their words, each with the number of the run that is seen.
Tree = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Entry:
    """What a cache has of a step, and what really is in its layer."""

    step: CachedStep
    tree: Tree


Cache = Mapping[str, Entry]


@dataclass
class Project:
    """A Dockerfile that is built again and again; only ``RUN same`` makes the same each time."""

    text: str
    runs: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.plan: Plan = make_plan(parse_dockerfile(self.text.encode(), "Dockerfile"))
        self.starts: dict[int, str] = {}
        self.steps: dict[int, dict[int, StepKey]] = {}
        final: dict[int, str] = {}
        for number in self.plan.order().static_order():
            stage = self.plan.stages[number]
            below = final[stage.base.number] if isinstance(stage.base, StageBase) else "scratch"
            self.starts[number], self.steps[number] = below, {}
            for position, instruction in enumerate(stage.instructions):
                origins = [stage.origins[name.lower()] for name in named_in(instruction)]
                stages = frozenset(item.number for item in origins if isinstance(item, StageBase))
                independent = isinstance(instruction, Copy) and instruction.link
                parts = (instruction.source.text, *(final[n] for n in sorted(stages)))
                key = _hash(*parts) if independent else _hash(below, *parts)
                step = StepKey(key, (), stages=stages, independent=independent)
                self.steps[number][position] = step
                below = _hash(below, key)
            final[number] = below

    def build(self, cache: Cache) -> tuple[Tree, dict[str, Entry]]:
        """Return what the image shows, and what was made anew."""
        choice = choose(
            self.plan,
            self.steps,
            self.starts,
            lambda step: cache[step.key].step if step.key in cache else None,
        )
        lineages: dict[int, str] = {}
        trees: dict[int, Tree] = {}
        made: dict[str, Entry] = {}
        for number in choice.plan.order().static_order():
            stage = self.plan.stages[number]
            lineage, tree = self.starts[number], Tree()
            if isinstance(stage.base, StageBase):
                lineage, tree = lineages[stage.base.number], trees[stage.base.number]
            for position, instruction in enumerate(stage.instructions):
                step, place = self.steps[number][position], (number, position)
                there = [lineage, *(lineages.get(n) for n in sorted(step.stages))]
                found = choice.steps.get(place)
                if found and (place in choice.sure or fits(step, found, there)):
                    entry = replace(cache[step.key], step=found)
                else:
                    entry = made[step.key] = self._made(
                        instruction,
                        step,
                        ("" if step.independent else lineage, *(lineages[n] for n in _of(step))),
                        tree,
                        Tree().union(*(trees[n] for n in step.stages)),
                    )
                result = copied(step.key, entry.step.made_on[1:])
                if isinstance(instruction, Run):
                    result = entry.step.contents
                lineage, tree = grown(lineage, result), tree | entry.tree
            lineages[number], trees[number] = lineage, tree
        return trees[self.plan.target], made

    def _made(
        self,
        instruction: Instruction,
        step: StepKey,
        made_on: tuple[str, ...],
        below: Tree,
        origins: Tree,
    ) -> Entry:
        text, contents, tree = instruction.source.text, "", origins
        if isinstance(instruction, Run):
            contents, tree = "same", Tree()
            if "same" not in text:
                # It shows everything that it could see.
                run = next(self.runs)
                contents, tree = f"run {run}", below | origins | {(text, run)}
        return Entry(CachedStep(step.key, BLOB, NOW, contents, made_on), tree)


def _of(step: StepKey) -> list[int]:
    return sorted(step.stages)


def _hash(*parts: str) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _dockerfile(chance: random.Random) -> str:
    """Return stages that start, copy and mount from each other; no two commands are the same."""
    lines = []
    for number in range(chance.randint(2, 6)):
        base = (
            "scratch" if number == 0 or chance.random() < 0.45 else f"s{chance.randrange(number)}"
        )
        lines.append(f"FROM {base} AS s{number}")
        for _ in range(chance.randint(1, 4)):
            word = chance.choice(["date", "date", "date", "same"])
            choices = [f"RUN {word} {len(lines)}"]
            if number:
                other = f"from=s{chance.randrange(number)}"
                choices += [f"COPY --{other} /a /b", f"COPY --link --{other} /a /b"]
                choices += [f"RUN --mount={other} date {len(lines)}"]
            lines.append(chance.choice(choices))
    return "\n".join(lines) + "\n"


def _some(cache: Cache, chance: random.Random, share: float) -> dict[str, Entry]:
    return {key: entry for key, entry in cache.items() if chance.random() < share}


@pytest.mark.parametrize("seed", range(40))
def test_a_command_is_seen_with_one_result_and_found_with_the_same(seed: int) -> None:
    """Entries expire, are pruned, are not pushed, or are those of another builder."""
    chance = random.Random(seed)
    for _ in range(8):
        project = Project(_dockerfile(chance))
        cache: dict[str, Entry] = {}
        for _ in range(8):
            there = _some(cache, chance, 0.65)
            image, made = project.build(there)
            assert len(dict(image)) == len(image), project.text

            again, ran = project.build({**there, **made})
            assert (again, ran) == (image, {}), project.text
            left = there if chance.random() < 0.7 else cache
            cache = {**left, **_some(made, chance, 0.85)}


# What two stages have seen of one command, and an image of both.
DIAMOND = """\
FROM scratch AS tool
RUN date
FROM tool AS left
RUN left
FROM tool AS right
RUN right
FROM scratch
COPY --from=left /a /
COPY {link}--from=right /b /
"""


def _lost(project: Project, *places: tuple[int, int]) -> Tree:
    _, made = project.build({})
    lost = {project.steps[number][position].key for number, position in places}
    return project.build({key: entry for key, entry in made.items() if key not in lost})[0]


@pytest.mark.parametrize("lost", [(3, 0), (3, 1)])
@pytest.mark.parametrize("link", ["", "--link "])
def test_what_comes_of_a_lost_command_is_made_anew_on_both_ways(
    link: str, lost: tuple[int, int]
) -> None:
    image = _lost(Project(DIAMOND.format(link=link)), (0, 0), (1, 0), lost)

    assert len(dict(image)) == len(image) == 3


def test_what_lies_on_a_command_that_may_have_to_run_again_is_not_sure() -> None:
    """The command itself is cached, but was made with another stage's result that is lost."""
    text = "FROM scratch AS tool\nRUN date\nFROM scratch\nRUN --mount=from=tool use\nRUN test\n"
    project = Project(f"{text}COPY --from=tool /a /\n")

    image = _lost(project, (0, 0), (1, 2))
    assert len(dict(image)) == len(image) == 3


def test_stages_whose_copies_were_made_together_are_not_built_for_each_other() -> None:
    project = Project(DIAMOND.format(link=""))
    image, made = project.build({})
    last = {step.key for step in project.steps[3].values()}

    assert project.build({key: made[key] for key in last}) == (image, {})
