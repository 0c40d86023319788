"""Each rule on its own: what it finds, and what it leaves alone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from kaniko_core.dockerfile.checks.check import Report, check_dockerfile
from kaniko_core.dockerfile.checks.policy import CheckPolicy
from kaniko_core.dockerfile.checks.rules import RULES
from kaniko_core.dockerfile.checks.surroundings import Surroundings
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.stages import Check, Stage
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import ImageConfig, RuntimeConfig

AMD64 = Platform("linux", "amd64")
EVERYTHING = CheckPolicy(experimental=frozenset({"all"}))


def report(
    text: str,
    *,
    base: ImageConfig | None = None,
    ignored: Callable[[str], bool] | None = None,
    stages: frozenset[int] | None = None,
    target_platform: Platform = AMD64,
    **build_args: str,
) -> Report:
    around = Surroundings(
        build_args,
        AMD64,
        target_platform,
        base=lambda _: base,
        ignored=ignored,
        stages=stages,
    )
    return check_dockerfile(parse_dockerfile(text.encode(), "Dockerfile"), around, EVERYTHING)


def found(text: str, **options: object) -> list[tuple[str, int]]:
    """Return the rules that find something, and where."""
    checked = report(text, **options)  # type: ignore[arg-type]
    assert checked.error is None
    return [(check.rule, check.line) for check in checked.checks]


def message(text: str, **options: object) -> str:
    (check,) = report(text, **options).checks  # type: ignore[arg-type]
    return check.message


def image(
    *, on_build: tuple[str, ...] = (), shell: tuple[str, ...] = (), **env: str
) -> ImageConfig:
    variables = tuple(f"{name}={value}" for name, value in env.items())
    return ImageConfig(AMD64, RuntimeConfig(env=variables, on_build=on_build, shell=shell or None))


CLEAN = """\
# A is described
ARG A=debian:12
# builder is, too
FROM ${A} AS builder
ARG A
ENV B=$A
ENV C=${B:-c}
WORKDIR /src
WORKDIR below
COPY --chown=$B . .
RUN echo $NOBODY && make
EXPOSE 80 53/udp
LABEL a=$B
FROM scratch
COPY --from=builder /src /
CMD ["/app"]
ENTRYPOINT ["/start"]
HEALTHCHECK NONE
"""


def test_nothing_is_found_in_a_dockerfile_without_faults() -> None:
    assert found(CLEAN) == []


def test_stage_name_casing() -> None:
    assert found("FROM scratch AS Base\n") == [("StageNameCasing", 1)]
    assert message("FROM scratch AS Base\n") == "Stage name 'Base' should be lowercase"


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("FROM scratch as a\n", ["FromAsCasing"]),
        ("from scratch AS a\n", ["FromAsCasing"]),
        ("FROM scratch As a\n", ["FromAsCasing"]),
        ("from scratch as a\n", []),
        ("FROM --platform=$BUILDPLATFORM scratch as a\n", ["FromAsCasing"]),
        ("FROM scratch\n", []),
        # Which is at fault, another rule says.
        ("From scratch as a\n", ["ConsistentInstructionCasing"]),
    ],
)
def test_from_as_casing(text: str, rules: list[str]) -> None:
    assert [rule for rule, _ in found(text)] == rules


def test_no_empty_continuation_names_the_line_where_the_text_ends() -> None:
    text = "FROM scratch\nCOPY a \\\n\n  b \\\n # why\n  /\nCOPY c \\\n # comment\n  /\n"
    assert found(text) == [("NoEmptyContinuation", 6)]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("FROM scratch\ncopy a /\nCOPY b /\n", [2]),
        ("from scratch\ncopy a /\nCOPY b /\n", [3]),
        ("from scratch\nCOPY a /\n", [1]),
        ("FROM scratch\nCopy a /\n", [2]),
        ("frOM scratch\nfrom scratch\n", [1]),
        ("from scratch\ncopy a /\n", []),
        ("arg A\nFROM scratch\nCOPY a /\n", []),
        ("FROM scratch\nCOPY <<E /\ncopy\ncopy\nE\n", []),
    ],
)
def test_consistent_instruction_casing(text: str, lines: list[int]) -> None:
    assert found(text) == [("ConsistentInstructionCasing", line) for line in lines]


def test_stage_names_are_not_used_twice_nor_reserved() -> None:
    text = "FROM scratch AS a\nFROM scratch AS A2\nFROM scratch AS a\nFROM scratch AS context\n"
    assert found(text) == [
        ("StageNameCasing", 2),
        ("DuplicateStageName", 3),
        ("ReservedStageName", 4),
    ]


@pytest.mark.parametrize("keyword", ["CMD", "ENTRYPOINT"])
def test_json_args_recommended(keyword: str) -> None:
    text = f"FROM x\n{keyword} run it\n"
    assert found(text) == [("JSONArgsRecommended", 2)]
    assert message(text).startswith(f"JSON arguments recommended for {keyword} to ")
    assert found(f'FROM x\n{keyword} ["run", "it"]\n') == []
    # Who sets a SHELL wants it.
    assert found(f'FROM x\nSHELL ["/bin/bash", "-c"]\n{keyword} run it\n') == []
    assert found(f'FROM x AS a\nSHELL ["/bin/bash", "-c"]\nFROM a\n{keyword} run\n') == []
    assert found(text, base=image(shell=("/bin/bash", "-c"))) == []


def test_maintainer_deprecated() -> None:
    assert found("FROM x\nMAINTAINER me\n") == [("MaintainerDeprecated", 2)]
    assert found("FROM x\nLABEL maintainer=me\n") == []


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("ARG V=1\nFROM x:$V\n", []),
        ("ARG V\nFROM x${V}\n", []),
        ("FROM x:1${V}\n", ["FROM argument 'V' is not declared"]),
        (
            "ARG VERSION=1\nFROM x:1${VERSIONS}\n",
            ["FROM argument 'VERSIONS' is not declared (did you mean VERSION?)"],
        ),
        ("FROM --platform=$BUILDPLATFORM x\n", []),
        # An ARG of a stage is not one of the file.
        ("FROM y\nARG V=1\nFROM x:1$V\n", ["FROM argument 'V' is not declared"]),
    ],
)
def test_undefined_arg_in_from(text: str, messages: list[str]) -> None:
    assert [check.message for check in report(text).checks] == messages


def test_an_undefined_platform_stops_the_checks() -> None:
    checked = report("FROM --platform=$BULIDPLATFORM x\nMAINTAINER me\nENV a b\n")
    assert [check.rule for check in checked.checks] == [
        "UndefinedArgInFrom",
        "MaintainerDeprecated",
    ]
    assert "did you mean BUILDPLATFORM?" in checked.checks[0].message
    assert "is not a platform" in str(checked.error)


def test_a_from_that_cannot_be_expanded_stops_the_checks() -> None:
    checked = report("ARG A\nFROM x:${A:?give}\nENV a b\n")
    assert checked.checks == ()
    assert str(checked.error).startswith('Dockerfile:2:6: failed to process "x:${A:?give}"')


def test_an_empty_image_stops_the_checks() -> None:
    checked = report("ARG A\nFROM $A\nENV a b\n")
    assert [check.rule for check in checked.checks] == ["InvalidDefaultArgInFrom"]
    assert "Dockerfile:2: the image is empty: $A has no value here" in str(checked.error)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("FROM x\nWORKDIR app\nWORKDIR more\n", [2]),
        ("FROM x\nWORKDIR /app\nWORKDIR more\n", []),
        ("FROM x\nARG A=/a\nWORKDIR $A/b\n", []),
        ("FROM x AS a\nWORKDIR /app\nFROM a\nWORKDIR more\n", []),
        ("FROM x AS a\nWORKDIR /app\nFROM x\nWORKDIR more\n", [4]),
    ],
)
def test_workdir_relative_path(text: str, lines: list[int]) -> None:
    base = ImageConfig(AMD64, RuntimeConfig(working_dir="/of/the/base"))
    assert found(text, base=base) == [("WorkdirRelativePath", line) for line in lines]


@pytest.mark.parametrize(
    "text",
    [
        "COPY $V /",
        "ADD a$V /",
        "COPY --chown=$V a /",
        "COPY --chmod=$V a /",
        "COPY a /$V",
        "ENV A=$V",
        'ENV A="${V:-x}"',
        "LABEL $V=x",
        "LABEL x=$V",
        "USER $V",
        "WORKDIR /$V",
        "VOLUME /$V",
        "STOPSIGNAL 9$V",
        "ARG A=$V",
        "RUN --mount=type=cache,target=/c$V make",
        "COPY <<E /\n$V\nE",
        "ADD <<E /\n'$V'\nE",
    ],
)
def test_undefined_var(text: str) -> None:
    assert found(f"FROM x\n{text}\n") == [("UndefinedVar", 2)]
    assert message(f"FROM x\n{text}\n") == "Usage of undefined variable '$V'"
    for defined in ("ENV V=v", "ARG V=v"):
        assert found(f"FROM x\n{defined}\n{text}\n") == []
    assert found(f"FROM x AS a\nARG V=v\nFROM a\n{text}\n") == []
    assert found(f"FROM x\n{text}\n", base=image(V="v")) == []


@pytest.mark.parametrize(
    "text",
    [
        "RUN echo $V",
        'CMD ["$V"]',
        "HEALTHCHECK CMD $V",
        "EXPOSE 80$V",
        "ONBUILD COPY $V /",
        "COPY <<'E' /\n$V\nE",
        "RUN <<E\n$V\nE",
        "ENV A='$V'",
        r"ENV A=\$V",
        "ARG V\nCOPY a$V /",
        "ARG V\nFROM x\nENV PATH=$PATH:/more",
        "ARG BUILDKIT_SBOM_SCAN_STAGE=1\nENV A=$BUILDKIT_SBOM_SCAN_STAGE",
    ],
)
def test_a_variable_that_is_another_s_may_be_undefined(text: str) -> None:
    assert found(f"FROM x\n{text}\n") == []


def test_a_build_argument_makes_its_default_unused() -> None:
    text = "FROM x\nARG A=$V\n"
    assert found(text) == [("UndefinedVar", 2)]
    assert found(text, A="a") == []


def test_arguments_of_one_instruction_see_each_other() -> None:
    assert found("FROM x\nARG A=1 B=$A\n") == []
    assert found("FROM x\nENV A=1 B=$A\n") == [("UndefinedVar", 2)]


@pytest.mark.parametrize(
    ("used", "suggested"),
    [("PAHT", "PATH"), ("ASSET", "ASSETS"), ("ASSE", "ASSETS"), ("path", ""), ("ASS", "")],
)
def test_an_undefined_variable_gets_the_nearest_name(used: str, suggested: str) -> None:
    text = f"FROM x\nARG ASSETS=a\nCOPY ${used} /\n"
    suggestion = f" (did you mean ${suggested}?)" if suggested else ""
    assert message(text) == f"Usage of undefined variable '${used}'{suggestion}"


def test_multiple_instructions_disallowed_names_the_one_without_effect() -> None:
    text = """\
FROM x AS a
CMD ["a"]
ENTRYPOINT ["a"]
HEALTHCHECK NONE
RUN true
ENTRYPOINT ["b"]
CMD ["b"]
HEALTHCHECK CMD ["b"]
CMD ["c"]
FROM a
CMD ["d"]
"""
    rule = "MultipleInstructionsDisallowed"
    assert found(text) == [(rule, line) for line in (2, 3, 4, 7)]


def test_legacy_key_value_format() -> None:
    text = "FROM x\nENV a b\nLABEL a b c\nENV a=b\nLABEL a=b\n"
    assert found(text) == [("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]
    assert message("from x\nenv a b\n").startswith('"env key=value" should be used')


def test_invalid_base_image_platform() -> None:
    arm = ImageConfig(Platform("linux", "arm64", "v8"))
    assert found("FROM x\n", base=arm) == [("InvalidBaseImagePlatform", 1)]
    assert message("FROM x:1\n", base=arm) == (
        'Base image x:1 was pulled with platform "linux/arm64", expected "linux/amd64" for '
        "current build"
    )
    arm_stage = "FROM --platform=linux/arm64 x AS for-arm64\n"
    assert found(arm_stage, base=arm) == []
    assert found("FROM x\n", base=arm, target_platform=Platform("linux", "arm64")) == []
    assert found("FROM x AS a\nFROM a\n", base=arm) == [("InvalidBaseImagePlatform", 1)]
    assert found("FROM scratch\n", base=arm) == []


@pytest.mark.parametrize(
    ("platform", "named"),
    [
        (Platform("linux", ""), "linux"),
        (Platform("my os", "mine"), "my os/mine"),
        (Platform("linux", "aarch64"), "linux/arm64"),
    ],
)
def test_the_platform_of_an_image_may_be_anything(platform: Platform, named: str) -> None:
    assert f'"{named}"' in message("FROM x\n", base=ImageConfig(platform))


@pytest.mark.parametrize("platform", ["$TARGETPLATFORM", "${TARGETPLATFORM}"])
def test_redundant_target_platform(platform: str) -> None:
    assert found(f"FROM --platform={platform} x\n") == [("RedundantTargetPlatform", 1)]
    assert f"predefined {platform} in FROM" in message(f"FROM --platform={platform} x\n")


def test_other_platforms_from_variables_are_not_redundant() -> None:
    assert found("FROM --platform=$BUILDPLATFORM x\n") == []
    assert found("FROM --platform=$TARGETOS/$TARGETARCH x\n") == []
    assert found("FROM --platform=${TARGETPLATFORM}/v2 x\n") == []


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("PASSWORD", True),
        ("db_password", True),
        ("GITHUB_TOKEN", True),
        ("token_of_mine", True),
        ("apikey", True),
        ("Api_Key_Id", True),
        ("auth", True),
        ("AUTHOR", False),
        ("MONKEY", False),
        ("PUBLIC_KEY", False),
        ("TOKEN_FILE", False),
        ("KEY_VERSION", False),
    ],
)
def test_secrets_used_in_arg_or_env(name: str, secret: bool) -> None:
    for text in (f"ARG {name}", f"ARG {name}=x", f"ENV {name}=x"):
        expected = [("SecretsUsedInArgOrEnv", 2)] if secret else []
        assert found(f"FROM x\n{text}\n") == expected
    if secret:
        assert message(f"FROM x\nENV {name}=\n").endswith(f'(ENV "{name}")')
    # It reaches no image.
    assert found(f"ARG {name}\nFROM x\n") == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("ARG V\nFROM x:$V\n", True),
        ("ARG I\nFROM $I\n", True),
        ('ARG S="box:"\nFROM busy$S\n', True),
        ("ARG V=1\nFROM x:$V\n", False),
        ('ARG V=""\nFROM x:1$V\n', False),
        ("ARG V\nFROM x:1$V\n", False),
        ("FROM x:1$TARGETARCH\n", False),
    ],
)
def test_invalid_default_arg_in_from(text: str, wrong: bool) -> None:
    values = {"V": "2", "I": "x", "S": "box:1"}
    line = text.count("\n")
    assert found(text, **values) == ([("InvalidDefaultArgInFrom", line)] if wrong else [])


def test_defaults_that_cannot_be_expanded_are_left_to_the_build() -> None:
    assert found("ARG A=${B:?b}\nFROM x:$A\n", A="1") == []
    assert found("ARG B\nFROM x:${B:?b}\n", B="1") == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("FROM --platform=linux/arm64 x\n", True),
        ("FROM --platform=linux/arm64 x AS other\n", True),
        ("FROM --platform=linux/arm64 x AS for-arm64\n", False),
        ("FROM --platform=linux/arm64 x AS on-linux\n", False),
        ("ARG P=linux/arm64\nFROM --platform=$P x\n", False),
    ],
)
def test_from_platform_flag_const_disallowed(text: str, wrong: bool) -> None:
    expected = [("FromPlatformFlagConstDisallowed", 1)] if wrong else []
    assert found(text) == expected
    if wrong:
        assert message(text).endswith('should not use constant value "linux/arm64"')


def test_copy_ignored_file() -> None:
    def ignored(path: str) -> bool:
        return path in ("a", "b/c")

    text = """\
FROM x AS x
COPY ./a b/../d /
ADD ./b//c https://example.com/a git@example.com:a /
COPY --from=x a /
COPY <<a /
a
COPY . /
"""
    # The body of the here-document ends where its name stands alone.
    text = text.replace("a\nCOPY . /", "text\na\nCOPY . /")
    rule = "CopyIgnoredFile"
    assert found(text, ignored=ignored) == [(rule, 2), (rule, 3)]
    assert [check.message for check in report(text, ignored=ignored).checks] == [
        'Attempting to Copy file "a" that is excluded by .dockerignore',
        'Attempting to Add file "b/c" that is excluded by .dockerignore',
    ]
    assert found(text) == []


def test_the_whole_context_is_ignored_by_a_pattern_for_any_file() -> None:
    def hidden(path: str) -> bool:
        return re.fullmatch(r"\.[^/]*", path) is not None

    assert found("FROM x\nCOPY . /\n", ignored=hidden) == []
    assert found("FROM x\nCOPY . /\n", ignored=lambda _: True) == [("CopyIgnoredFile", 2)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("# what this is\nFROM x AS app\n", "FROM should follow the format: `# app <"),
        ("# App what this is\nFROM x AS App\n", "FROM should follow the format: `# app <"),
        ("# a version\nARG V=1\nFROM x\n", "ARG should follow the format: `# V <"),
        ("FROM x\n# versions\nARG V=1 W\n", "ARG should follow the format: `# <arg_key> <"),
        ("# app is it\nFROM x AS app\n", None),
        ("# what this is\n# app is it\nFROM x AS app\n", None),
        ("# W is another\nARG V=1 W\nFROM x\n", None),
        ("# what this is\n#\nFROM x AS app\n", None),
        ("# what this is\nFROM x\n", None),
        ("FROM x\n# what it does\nRUN make\n", None),
        ("# app is it\n# check=skip=FromAsCasing\nFROM x AS app\n", None),
    ],
)
def test_invalid_definition_description(text: str, wanted: str | None) -> None:
    text = f"# head\n\n#\n{text}"
    messages = [c.message for c in report(text).checks if c.rule == "InvalidDefinitionDescription"]
    assert len(messages) == (wanted is not None)
    assert wanted is None or messages[0].startswith(f"Comment for {wanted}description>`")


def test_expose_rules_see_what_variables_hold() -> None:
    text = "FROM x\nENV P='80/TcP 81/udp'\nEXPOSE $P 8080:80/tcp 127.0.0.1:90:90/UDP 1-2/sctp\n"
    casing, invalid = "ExposeProtoCasing", "ExposeInvalidFormat"
    checks = report(text).checks
    assert sorted((check.rule, check.message) for check in checks) == [
        (
            invalid,
            "EXPOSE instruction should not define an IP address or host-port mapping, "
            "found '127.0.0.1:90:90/UDP'",
        ),
        (
            invalid,
            "EXPOSE instruction should not define an IP address or host-port mapping, "
            "found '8080:80/tcp'",
        ),
        (
            casing,
            "Defined protocol '127.0.0.1:90:90/UDP' in EXPOSE instruction should be lowercase",
        ),
        (casing, "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase"),
    ]
    assert {check.line for check in checks} == {3}


def test_triggers_of_an_image_are_checked_where_from_stands() -> None:
    base = image(on_build=("ENV a b", "COPY $V /", "CMD run"))
    text = 'FROM scratch AS other\nFROM x\nCMD ["a"]\n'
    assert found(text, base=base) == [
        ("LegacyKeyValueFormat", 2),
        ("UndefinedVar", 2),
        ("JSONArgsRecommended", 2),
        ("MultipleInstructionsDisallowed", 2),
    ]


def test_triggers_of_a_stage_are_checked_in_those_that_start_from_it() -> None:
    text = "FROM x AS a\nONBUILD ARG V=1\nONBUILD WORKDIR w$U\nFROM a AS b\nCOPY $V /\nFROM b\n"
    assert found(text) == [("UndefinedVar", 4), ("WorkdirRelativePath", 4)]


def test_a_trigger_that_cannot_be_read_stops_the_checks() -> None:
    checked = report("FROM x\nENV a b\n", base=image(on_build=("FROM y",)))
    assert checked.checks == ()
    assert "Dockerfile:1: FROM is not allowed as an ONBUILD trigger" in str(checked.error)


def test_stages_that_are_not_built_are_checked_for_how_they_are_written_only() -> None:
    text = "FROM x:1$W as a\nENV a b\nFROM x AS base\nARG V=1\nFROM base\nCOPY $V$U /\n"
    everything = found(text)
    assert ("LegacyKeyValueFormat", 2) in everything
    assert found(text, stages=frozenset({2})) == [
        ("FromAsCasing", 1),
        ("UndefinedArgInFrom", 1),
        ("UndefinedVar", 6),
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ENV A=${B:?b}", "Dockerfile:2:7: failed to process"),
        ('ENV A="b', "Dockerfile:2:7: failed to process"),
        ("EXPOSE many", "Dockerfile:2: 'many' is not a port"),
        ("RUN --mount=type=none make", "Dockerfile:2: 'none' is not the type of a mount"),
        ("ARG A=${B:?b}", "Dockerfile:2:7: failed to process"),
    ],
)
def test_what_a_build_would_fail_with_ends_the_checks(text: str, error: str) -> None:
    checked = report(f"FROM x\n{text}\nENV a b\n")
    assert str(checked.error).startswith(error)
    assert checked.checks == ()
    # Nobody asks for the stage.
    assert report(f"FROM x\n{text}\nFROM y\n", stages=frozenset({1})) == Report()


def test_an_image_name_that_is_none_ends_the_checks() -> None:
    assert "'X' is not an image" in str(report("FROM X\n").error)
    # A named context may have any name.
    assert report("FROM X\n", base=image()).error is None


def test_only_images_are_asked_for() -> None:
    asked: list[int] = []

    def base(stage: Stage) -> None:
        asked.append(stage.number)

    text = "FROM x AS a\nFROM a\nFROM scratch\nFROM y\n"
    check_dockerfile(parse_dockerfile(text.encode(), "Dockerfile"), Surroundings(base=base))
    assert asked == [0, 3]


def test_checks_are_in_the_order_of_the_lines() -> None:
    lines = [check.line for check in report("FROM x as a\nENV a b\nFROM y as b\nCMD x\n").checks]
    assert lines == [1, 2, 3, 4]


def test_every_rule_has_a_page_but_one() -> None:
    assert len(RULES) == 22
    pages = {rule.name: rule.url for rule in RULES.values()}
    root = "https://docs.docker.com/go/dockerfile/rule"
    assert pages["JSONArgsRecommended"] == f"{root}/json-args-recommended/"
    assert pages["SecretsUsedInArgOrEnv"] == f"{root}/secrets-used-in-arg-or-env/"
    assert pages["UndefinedArgInFrom"] == f"{root}/undefined-arg-in-from/"
    assert [name for name, url in pages.items() if not url] == ["InvalidBaseImagePlatform"]
    assert [rule.name for rule in RULES.values() if rule.experimental] == [
        "InvalidDefinitionDescription"
    ]
    check = Check("FromAsCasing", "said", 3)
    assert check.url == f"{root}/from-as-casing/"
    assert check.description == RULES["FromAsCasing"].description
