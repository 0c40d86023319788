"""Variables are in force where the Dockerfile reference says."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kaniko_core.dockerfile.instructions import Arg, Env
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.scope import Scope, declared, global_scope, unused_build_args
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.errors import DockerfileError
from kaniko_core.oci.platform import Platform

BUILD = Platform("linux", "amd64")
TARGET = Platform("linux", "arm", "v7")


def scope_of(text: str, given: Mapping[str, str], env: Mapping[str, str]) -> Scope:
    """Walk the last stage of a Dockerfile that starts from an image with *env*."""
    dockerfile = parse_dockerfile(text.encode(), "Dockerfile")
    arguments = global_scope(
        dockerfile, build_args=given, build_platform=BUILD, target_platform=TARGET
    )
    scope = arguments.stage(env)
    lexer = Lexer(dockerfile.escape)
    for instruction in dockerfile.stages[-1].instructions:
        match instruction:
            case Arg():
                scope, _ = declared(scope, instruction, given, lexer)
            case Env(pairs=pairs):
                values = {name: lexer.expand(value, scope.variables) for name, value in pairs}
                scope = scope.with_env(values)
    return scope


def variables(text: str, given: Mapping[str, str] | None = None, **env: str) -> dict[str, str]:
    return dict(scope_of(text, given or {}, env).variables)


def from_scope(text: str, **given: str) -> Mapping[str, str]:
    """Return what FROM lines see."""
    dockerfile = parse_dockerfile(text.encode(), "Dockerfile")
    return global_scope(
        dockerfile, build_args=given, build_platform=BUILD, target_platform=TARGET
    ).variables


def test_platforms_are_predefined_for_from() -> None:
    found = from_scope("FROM a\n")
    assert found["BUILDPLATFORM"] == "linux/amd64"
    assert found["TARGETPLATFORM"] == "linux/arm/v7"
    assert (found["TARGETOS"], found["TARGETARCH"], found["TARGETVARIANT"]) == (
        "linux",
        "arm",
        "v7",
    )
    assert found["TARGETSTAGE"] == "default"


def test_a_build_arg_replaces_a_predefined_argument() -> None:
    assert from_scope("FROM a\n", TARGETARCH="mips")["TARGETARCH"] == "mips"


def test_a_global_argument_sees_those_before_it() -> None:
    found = from_scope("ARG A=1\nARG B=$A.2 C=${B}.3 D\nFROM a\n", A="0")
    assert (found["A"], found["B"], found["C"]) == ("0", "0.2", "0.2.3")
    assert "D" not in found


def test_a_global_argument_is_not_in_force_in_a_stage() -> None:
    assert variables("ARG A=1\nFROM a\n") == {}


def test_a_stage_imports_a_global_argument_by_its_name() -> None:
    assert variables("ARG A=1\nFROM a\nARG A\nARG TARGETARCH\n") == {"A": "1", "TARGETARCH": "arm"}


def test_a_default_of_the_stage_comes_before_the_global_value() -> None:
    assert variables("ARG A=1\nFROM a\nARG A=2\n") == {"A": "2"}


def test_a_build_arg_comes_before_every_default() -> None:
    assert variables("ARG A=1\nFROM a\nARG A=2\n", {"A": "3"}) == {"A": "3"}


def test_a_build_arg_that_is_not_declared_is_not_in_force() -> None:
    assert variables("FROM a\n", {"A": "3"}) == {}


def test_an_argument_without_value_is_unset() -> None:
    assert variables("FROM a\nARG A\n") == {}
    assert variables("FROM a\nARG A=\n") == {"A": ""}


def test_an_argument_without_value_keeps_the_one_before() -> None:
    assert variables("FROM a\nARG A=1\nARG A\n") == {"A": "1"}


def test_of_env_and_arg_the_later_one_counts() -> None:
    assert variables("FROM a\nARG A=1\nENV A=2\n") == {"A": "2"}
    assert variables("FROM a\nENV A=2\nARG A=1\n") == {"A": "1"}
    assert variables("FROM a\nARG A=1\n", A="image") == {"A": "1"}
    assert variables("FROM a\nARG A\n", A="image") == {"A": "image"}
    assert variables("ARG A=1\nFROM a\nARG A\n", A="image") == {"A": "1"}


def test_a_default_that_is_not_used_is_not_expanded() -> None:
    assert from_scope("ARG A=${B:?no}\nFROM a\n", A="1")["A"] == "1"


def test_one_env_sees_the_values_before_it_and_one_arg_those_beside_it() -> None:
    assert variables("FROM a\nARG A=1\nARG A=2 B=$A\n")["B"] == "2"
    assert variables("FROM a\nENV A=1\nENV A=2 B=$A\n") == {"A": "2", "B": "1"}


def test_stages_do_not_see_each_other() -> None:
    assert variables("FROM a\nARG A=1\nENV B=2\nFROM c\n") == {}


def test_a_process_sees_proxies_that_nobody_declared() -> None:
    given = {"http_proxy": "http://p", "NO_PROXY": "", "OTHER": "x"}
    scope = scope_of("FROM a\nARG A=1\nENV B=2\n", given, {})
    assert scope.process_variables == {
        **{"http_proxy": "http://p", "HTTP_PROXY": "http://p"},
        **{"A": "1", "B": "2"},
    }
    assert scope.variables == {"A": "1", "B": "2"}


def test_a_proxy_given_for_the_build_comes_before_env_and_each_case_keeps_its_own() -> None:
    given = {"http_proxy": "http://p", "HTTPS_PROXY": "http://q", "https_proxy": "http://r"}
    found = scope_of("FROM a\nENV HTTP_PROXY=x\n", given, {}).process_variables
    assert (found["http_proxy"], found["HTTP_PROXY"]) == ("http://p", "http://p")
    assert (found["https_proxy"], found["HTTPS_PROXY"]) == ("http://r", "http://q")


def test_defaults_of_arguments_are_expanded_and_names_are_not() -> None:
    assert variables('FROM a\nARG A=x\nARG $A-y="$A z"\n') == {"A": "x", "$A-y": "x z"}


def test_a_global_default_that_cannot_be_expanded_names_its_line() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2:7: .*B: give") as caught:
        from_scope("ARG A=1\nARG C=${B:?give}\nFROM a\n")
    assert caught.value.line == 2


def test_build_args_that_nothing_declares_are_unused() -> None:
    dockerfile = parse_dockerfile(b"ARG A\nFROM a\nARG B=1 C\nFROM b\n", "Dockerfile")
    given = ["Z", "A", "B", "C", "https_proxy", "BUILDKIT_SYNTAX", "TARGETOS", "Y"]
    assert unused_build_args(dockerfile, given) == ("Z", "Y")


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("BUILDKIT_SYNTAX", True),
        ("BUILDKIT_CACHE_MOUNT_NS", True),
        ("BUILDKIT_CONTEXT_KEEP_GIT_DIR", True),
        ("BUILDKIT_DOCKERFILE_CHECK", True),
        ("BUILDKIT_SANDBOX_HOSTNAME", True),
        ("SOURCE_DATE_EPOCH", True),
        ("BUILDKIT_INLINE_CACHE", False),
        ("BUILDKIT_MULTI_PLATFORM", False),
        ("BUILDKIT_BUILD_NAME", False),
        ("BUILDKIT_SBOM_SCAN_CONTEXT", False),
        ("BUILDKIT_SBOM_SCAN_STAGE", False),
    ],
)
def test_build_args_that_speak_to_buildkit_are_unused_where_they_have_no_effect(
    name: str, used: bool
) -> None:
    dockerfile = parse_dockerfile(b"FROM a\n", "Dockerfile")
    assert unused_build_args(dockerfile, [name]) == (() if used else (name,))
