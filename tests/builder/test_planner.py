"""Names lead to contexts, stages and images as BuildKit has it; triggers belong to a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaniko_core.builder.plan import (
    ContextBase,
    ImageBase,
    LayoutBase,
    Plan,
    Scratch,
    StageBase,
)
from kaniko_core.builder.planner import make_plan
from kaniko_core.context.named import LocalContext, NamedContexts
from kaniko_core.dockerfile.instructions import Copy, Env, Run
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import DockerfileError
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def plan_of(
    text: str, *contexts: tuple[str, str], target: str = "", triggers: dict[str, str] | None = None
) -> Plan:
    known = triggers or {}

    def triggers_of(base: ImageBase | LayoutBase) -> tuple[str, ...]:
        return tuple(known.get(base.name, "").splitlines())

    return make_plan(
        parse_dockerfile(text.encode(), "Dockerfile"),
        targets=(target,),
        build_platform=AMD64,
        target_platform=AMD64,
        contexts=NamedContexts.parse(contexts),
        triggers=triggers_of,
    )


def image(name: str, platform: Platform = AMD64) -> ImageBase:
    return ImageBase(Reference.parse(name).with_default_tag, platform, name)


def refusal(text: str, *contexts: tuple[str, str]) -> str:
    with pytest.raises(DockerfileError) as caught:
        plan_of(text, *contexts)
    return str(caught.value)


# --- stages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two", "TWO", "1"])
@pytest.mark.parametrize("text", ["COPY --from={} /x /x", "RUN --mount=from={},target=/m true"])
def test_what_comes_later_cannot_be_copied_from(text: str, name: str) -> None:
    with pytest.raises(DockerfileError, match="the stage two comes later") as caught:
        plan_of(f"FROM a AS one\n{text.format(name)}\nFROM b AS two\n", target="one")
    assert caught.value.line == 2
    assert caught.value.hint == "move it before one"


def test_a_later_stage_that_nobody_needs_disturbs_nobody() -> None:
    plan = plan_of("FROM a AS one\nCOPY --from=two /x /x\nFROM b AS two\nFROM c\n")
    assert sorted(plan.stages) == [2]


def test_a_later_stage_that_a_context_stands_for_may_be_copied_from() -> None:
    text = "FROM a AS one\nCOPY --from=1 /x /x\nFROM b AS two\n"
    plan = plan_of(text, ("two", "docker-image://c"), target="one")
    assert plan.stages[0].origins == {"1": StageBase(1)}
    assert list(plan.order().static_order()) == [1, 0]


def test_the_later_of_two_stages_of_one_name_is_copied_from() -> None:
    plan = plan_of("FROM a AS x\nFROM b AS X\nFROM c\nCOPY --from=x /f /f\n")
    assert plan.stages[2].origins == {"x": StageBase(1)}


def test_a_stage_that_copies_from_itself_is_a_circle() -> None:
    assert "in a circle: one needs one" in refusal("FROM a AS one\nCOPY --from=one /x /x\n")


def test_a_circle_of_three_stages_is_told_with_their_names() -> None:
    message = refusal(
        "FROM a AS s0\nCOPY --from=s2 /x /x\n"
        "FROM a AS s1\nCOPY --from=s0 /x /x\n"
        "FROM a AS s2\nCOPY --from=s1 /x /x\n"
    )
    for label in ("s0", "s1", "s2"):
        assert label in message


def test_run_mounts_name_stages_and_images() -> None:
    plan = plan_of(
        "FROM a AS one\nFROM b\n"
        "RUN --mount=from=one,target=/m --mount=type=cache,from=busybox,target=/c "
        "--mount=type=tmpfs,target=/t true\n"
    )
    assert plan.stages[1].origins == {"one": StageBase(0), "busybox": image("busybox")}


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        ("type=bind,target=/x,mode=0400", "mode does not go with a bind mount"),
        ("type=nonsense", "'nonsense' is not the type of a mount"),
        (r"\"a\"b", "has a quote inside a field"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_with_its_place(mount: str, sentence: str) -> None:
    refused = refusal(f"FROM b\nRUN --mount={mount} true\n")
    assert refused.startswith("Dockerfile:2:")
    assert sentence in refused


def test_a_mount_with_variables_is_not_known_before_it_is_expanded() -> None:
    plan_of("FROM b\nRUN --mount=type=$T,target=/x,mode=0400 true\n")


def test_images_that_are_copied_from_have_the_target_platform() -> None:
    plan = plan_of("FROM --platform=linux/arm64 a\nCOPY --from=tool /x /x\n")
    assert plan.stages[0].base == image("a", ARM64)
    assert plan.stages[0].origins == {"tool": image("tool", AMD64)}


def test_a_stage_from_a_stage_has_its_platform() -> None:
    plan = plan_of("FROM --platform=linux/arm64 a AS one\nFROM one AS two\nFROM two\n")
    assert plan.stages[2].platform == ARM64


# --- triggers -------------------------------------------------------------------------------


def test_triggers_of_a_base_image_come_first() -> None:
    plan = plan_of("FROM a\nRUN own\n", triggers={"a": "ENV A=1\nRUN trigger"})
    env, run, own = plan.stages[0].instructions
    assert isinstance(env, Env)
    assert isinstance(run, Run) and run.command.argv == ("trigger",)
    assert isinstance(own, Run) and own.command.argv == ("own",)
    assert run.source.line == 1


def test_triggers_of_a_stage_fire_in_its_children_and_not_in_theirs() -> None:
    plan = plan_of("FROM a AS one\nONBUILD ENV X=1\nFROM one AS two\nFROM two\n")
    assert plan.stages[0].triggers == ()
    assert [type(item) for item in plan.stages[1].triggers] == [Env]
    assert plan.stages[2].triggers == ()


def test_a_trigger_may_need_a_stage_that_nobody_else_does() -> None:
    text = "FROM a AS tools\nFROM b\n"
    assert sorted(plan_of(text).stages) == [1]
    plan = plan_of(text, triggers={"b": "COPY --from=tools /x /x"})
    assert sorted(plan.stages) == [0, 1]
    assert isinstance(plan.stages[1].instructions[0], Copy)


def test_a_trigger_that_cannot_be_read_names_the_from() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:2:"):
        plan_of("# first\nFROM a\n", triggers={"a": "NONSENSE x"})


# --- named contexts -------------------------------------------------------------------------


def test_a_named_context_stands_for_an_image() -> None:
    plan = plan_of("FROM debian:12\nCOPY --from=tool /x /x\n", ("tool", "docker-image://other:1"))
    assert plan.stages[0].origins == {"tool": image("other:1")}
    replaced = plan_of("FROM debian\n", ("docker.io/library/debian:latest", "oci-layout://d:v1"))
    assert replaced.stages[0].base == LayoutBase(Path("d"), "v1", AMD64, "debian")


def test_a_named_context_stands_for_a_stage_and_its_instructions() -> None:
    plan = plan_of(
        "FROM a AS one\nRUN x\nONBUILD RUN y\nFROM one\nRUN z\n", ("one", "docker-image://b:1")
    )
    assert plan.stages[0].base == image("b:1")
    assert plan.stages[0].instructions == ()
    assert len(plan.stages[1].instructions) == 1


def test_a_named_context_of_files_can_be_copied_from_and_started_from() -> None:
    plan = plan_of("FROM files\nCOPY --from=files /x /x\n", ("files", "/some/where"))
    expected = ContextBase("files", LocalContext(Path("/some/where")))
    assert plan.stages[0].base == expected
    assert plan.stages[0].origins == {"files": expected}
    assert plan.needs_root


def test_a_named_context_may_be_the_empty_image() -> None:
    assert plan_of("FROM a\n", ("a", "docker-image://scratch")).stages[0].base == Scratch()


def test_a_named_context_for_another_platform_does_not_count() -> None:
    context = ("a::linux/arm64", "docker-image://b:1")
    assert plan_of("FROM a\n", context).stages[0].base == image("a")
    text = "FROM --platform=linux/arm64 a\n"
    assert plan_of(text, context).stages[0].base == image("b:1", ARM64)


def test_thousands_of_stages_in_a_row_take_no_thousands_of_seconds() -> None:
    """Each asked all others for its name once, and again for each stage that starts from it."""
    lines = ["FROM scratch AS s0", *(f"FROM s{n} AS s{n + 1}" for n in range(3000))]
    plan = plan_of("\n".join(lines))
    assert plan.stages[3000].base == StageBase(2999)
    assert plan.stages[3000].platform == AMD64
