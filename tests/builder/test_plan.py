"""A plan holds what the target needs, in an order that works, and nothing else."""

from __future__ import annotations

import pytest

from kaniko_core.builder.plan import ImageBase, Plan, Scratch, StageBase
from kaniko_core.builder.planner import make_plan
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import DockerfileError, UsageError
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def plan_of(text: str, *, target: str = "", **build_args: str) -> Plan:
    return make_plan(
        parse_dockerfile(text.encode(), "Dockerfile"),
        targets=(target,),
        build_args=build_args,
        build_platform=AMD64,
        target_platform=AMD64,
    )


def image(name: str, platform: Platform = AMD64) -> ImageBase:
    return ImageBase(Reference.parse(name).with_default_tag, platform, name)


def test_one_stage_from_an_image() -> None:
    plan = plan_of("FROM debian:12\nRUN true\n")
    assert plan.stages[0].base == image("debian:12")
    assert plan.needs_root


def test_stage_that_nobody_needs_is_not_planned() -> None:
    plan = plan_of("FROM a AS one\nFROM b AS two\nFROM c\nCOPY --from=one /x /x\n")
    assert sorted(plan.stages) == [0, 2]


def test_target_by_name_is_case_insensitive_and_ends_the_plan() -> None:
    plan = plan_of("FROM a AS One\nFROM b\n", target="ONE")
    assert (plan.target, sorted(plan.stages)) == (0, [0])


def test_target_by_number() -> None:
    assert plan_of("FROM a\nFROM b\nFROM c\n", target="1").target == 1


def test_unknown_target_suggests_a_stage() -> None:
    with pytest.raises(UsageError) as caught:
        plan_of("FROM a AS builder\n", target="bilder")
    assert caught.value.hint == "did you mean builder?"


def test_stage_based_on_a_stage_needs_it() -> None:
    plan = plan_of("FROM a AS one\nFROM one\n")
    assert plan.stages[1].base == StageBase(0)
    assert plan.stages[1].needs == {0}


def test_later_stage_of_the_same_name_wins() -> None:
    plan = plan_of("FROM a AS x\nFROM b AS x\nFROM x\n")
    assert plan.stages[2].base == StageBase(1)


def test_copy_from_number_name_and_image() -> None:
    plan = plan_of(
        "FROM a AS one\nFROM b\n"
        "COPY --from=0 /x /x\nCOPY --from=ONE /y /y\nCOPY --from=busybox:1 /z /z\n"
    )
    assert dict(plan.stages[1].origins) == {
        "0": StageBase(0),
        "one": StageBase(0),
        "busybox:1": image("busybox:1"),
    }


def test_copy_from_a_number_that_no_stage_has() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:3:13: there is no stage 2"):
        plan_of("FROM a\nFROM b\nCOPY --from=2 /x /x\n")


def test_copy_from_does_not_expand_variables() -> None:
    with pytest.raises(DockerfileError, match="variables are not expanded"):
        plan_of("ARG S=one\nFROM a AS one\nFROM b\nCOPY --from=$S /x /x\n")


def test_global_argument_names_the_base_and_build_arg_wins() -> None:
    text = "ARG TAG=11\nFROM debian:${TAG}\n"
    assert plan_of(text).stages[0].base == image("debian:11")
    assert plan_of(text, TAG="12").stages[0].base == image("debian:12")


def test_empty_base_says_how_to_give_it_a_value() -> None:
    with pytest.raises(DockerfileError, match="the base image is empty") as caught:
        plan_of("ARG BASE\nFROM $BASE\n")
    assert caught.value.line == 2
    assert "--build-arg" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("platform", "sentence"),
    [
        ("", "Dockerfile:1: the platform is empty\n"),
        ("$NOPE", "Dockerfile:1:17: the platform is empty: $NOPE has no value here\n"),
    ],
)
def test_an_empty_platform_is_refused(platform: str, sentence: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan_of(f"FROM --platform={platform} a\n")
    assert str(caught.value).startswith(sentence)


def test_from_platform_is_expanded() -> None:
    plan = plan_of("ARG P=linux/arm64\nFROM --platform=$P a\n")
    assert plan.stages[0].platform == ARM64
    assert plan.images == {image("a", ARM64)}


def test_the_empty_image_is_for_the_target_platform() -> None:
    assert plan_of("FROM --platform=linux/arm64 scratch\n").stages[0].platform == AMD64


def test_predefined_platform_arguments_are_there() -> None:
    plan = plan_of("FROM --platform=$BUILDPLATFORM a-$TARGETARCH\n")
    assert plan.stages[0].base == image("a-amd64")


def test_the_target_is_known_by_what_the_user_says_or_else_by_its_name() -> None:
    text = "FROM a AS one\nFROM b AS Two\n"
    for target, name in (("", "two"), ("one", "one"), ("0", "0")):
        assert plan_of(text, target=target).arguments.variables["TARGETSTAGE"] == name
    assert plan_of("FROM a\n").arguments.variables["TARGETSTAGE"] == "default"


def test_bad_platform_names_file_and_line() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:1: 'a/b/c/d' is not a platform"):
        plan_of("FROM --platform=a/b/c/d x\n")


def test_scratch_is_no_image() -> None:
    plan = plan_of("FROM scratch\nCOPY a /\n")
    assert plan.stages[0].base == Scratch()
    assert plan.images == frozenset()


def test_a_plan_without_file_system_needs_no_root() -> None:
    assert not plan_of('FROM a\nENV A=b\nCMD ["x"]\n').needs_root


def test_order_puts_what_is_needed_first() -> None:
    plan = plan_of("FROM a AS one\nFROM b AS two\nFROM one\nCOPY --from=two / /\n")
    order = list(plan.order().static_order())
    assert order.index(2) == 2


def test_several_targets_share_what_they_need() -> None:
    text = "FROM a AS base\nFROM base AS one\nFROM base AS two\nFROM b AS three\nFROM c AS four\n"
    plan = make_plan(
        parse_dockerfile(text.encode(), "Dockerfile"),
        targets=("three", "two", "one", "THREE", "3"),
        build_platform=AMD64,
        target_platform=AMD64,
    )

    assert plan.targets == (3, 2, 1, 3, 3)
    assert plan.target == 3
    assert sorted(plan.stages) == [0, 1, 2, 3]
    assert plan.packed == {0, 1, 2, 3}
    assert [plan.image_of(number) for number in (3, 2, 1, 0)] == [0, 1, 2, 1]
    assert plan.arguments.variables["TARGETSTAGE"] == "three"
