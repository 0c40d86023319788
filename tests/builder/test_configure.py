from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kaniko_core.builder.configure import StageState, configure, scratch, start_stage
from kaniko_core.builder.history import duration, quoted_words, run_text
from kaniko_core.dockerfile.instructions import Heredoc
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.scope import Scope, global_scope
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.errors import DockerfileError, KanikoError
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference
from kaniko_core.oci.spec import ImageConfig, RuntimeConfig

AMD64 = Platform("linux", "amd64")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STUB = ImageConfig(AMD64, RuntimeConfig(env=(PATH,), cmd=("sh",)))
CONFORMANCE = Path(__file__).parents[2] / "../shared/conformance/dockerfiles-configured.json"


def cases() -> Iterator[Any]:
    if not CONFORMANCE.exists():
        reason = f"{CONFORMANCE} is not there"
        yield pytest.param({}, {}, marks=pytest.mark.skip(reason=reason))
        return
    for number, case in enumerate(json.loads(CONFORMANCE.read_text())["cases"]):
        yield pytest.param(case["in"]["text"], case["out"], id=str(number))


def configured(text: str, build_args: dict[str, str] | None = None) -> StageState:
    """Return the last stage of a Dockerfile whose base images are all the same stub."""
    dockerfile = parse_dockerfile(text.encode(), "Dockerfile")
    given = build_args or {}
    arguments = global_scope(
        dockerfile, build_args=given, build_platform=AMD64, target_platform=AMD64
    )
    stages: dict[str, StageState] = {}
    state = None
    for stage in dockerfile.stages:
        image = Lexer(dockerfile.escape).expand(stage.start.image, arguments.variables)
        base = stages.get(image.lower())
        if base is not None:
            state = replace(base, cmd_set=False)
        elif image == "scratch":
            state = start_stage(scratch(AMD64), arguments, dockerfile.escape)
        else:
            Reference.parse(image)
            state = start_stage(STUB, arguments, dockerfile.escape)
        for instruction in stage.instructions:
            state = configure(state, instruction, given)
        if stage.start.name:
            stages[stage.start.name] = state
    assert state is not None
    return state


def config_of(text: str, **build_args: str) -> RuntimeConfig:
    return configured(f"FROM base\n{text}", build_args).config.config


def history_of(text: str, **build_args: str) -> list[str]:
    return [
        entry.created_by for entry in configured(f"FROM base\n{text}", build_args).config.history
    ]


@pytest.mark.parametrize(("text", "expected"), list(cases()))
def test_buildkit_makes_the_same_config(text: str, expected: dict[str, Any]) -> None:
    if "error" in expected:
        with pytest.raises(KanikoError):
            configured(text)
        return
    image = json.loads(configured(text).config.to_bytes())
    assert image["config"] == expected["image"]["config"]
    assert image["history"] == (expected["image"].get("history") or [])
    assert image.get("author") == expected["image"].get("author")


class TestVariables:
    def test_env_keeps_its_place_when_it_changes(self) -> None:
        assert config_of("ENV A=1 B=2\nENV A=3").env == (PATH, "A=3", "B=2")

    def test_one_instruction_sees_the_values_before_it(self) -> None:
        config = config_of("ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc")
        assert config.env[1:] == ("abc=bye", "def=hello", "ghi=bye")

    def test_path_is_there_even_if_the_base_has_none(self) -> None:
        state = start_stage(ImageConfig(AMD64), Scope())
        assert state.config.config.env == (PATH,)

    def test_argument_expands_but_does_not_stay(self) -> None:
        config = config_of("ARG V=1\nLABEL v=$V $V=x\nUSER u$V\nVOLUME /$V")
        assert (config.labels, config.user, config.volumes) == ({"v": "1", "1": "x"}, "u1", ("/1",))
        assert config.env == (PATH,)

    def test_given_value_beats_the_default(self) -> None:
        assert history_of("ARG V=1\nRUN x", V="2") == [
            "ARG V=2",
            "RUN |1 V=2 /bin/sh -c x # buildkit",
        ]

    def test_undeclared_value_is_not_seen(self) -> None:
        assert history_of("RUN x\nLABEL v=$V", V="2") == [
            "RUN /bin/sh -c x # buildkit",
            "LABEL v=",
        ]

    def test_run_shows_every_argument_once_with_the_value_in_force(self) -> None:
        text = "ARG A=1 B\nARG C=3\nENV C=4\nARG A=5\nRUN x"
        assert history_of(text)[-1] == "RUN |3 A=5 B= C=4 /bin/sh -c x # buildkit"

    def test_windows_has_a_shell_and_a_path_of_its_own(self) -> None:
        platform = Platform("windows", "amd64", os_version="10.0")
        state = start_stage(scratch(platform), Scope())
        assert state.shell == ("cmd", "/S", "/C")
        assert state.config.config.env == ()

    def test_argument_without_default_takes_the_global_value(self) -> None:
        state = configured("ARG V=7\nFROM base\nARG V\nRUN x")
        assert [entry.created_by for entry in state.config.history] == [
            "ARG V=7",
            "RUN |1 V=7 /bin/sh -c x # buildkit",
        ]

    def test_arguments_reach_stages_that_start_from_this_one(self) -> None:
        state = configured("FROM base AS one\nARG V=7\nFROM one\nRUN x")
        assert state.config.history[-1].created_by == "RUN |1 V=7 /bin/sh -c x # buildkit"

    def test_proxies_leave_no_trace(self) -> None:
        assert history_of("RUN x", HTTP_PROXY="http://p") == ["RUN /bin/sh -c x # buildkit"]

    def test_impossible_expansion_is_located(self) -> None:
        with pytest.raises(
            DockerfileError, match=r"(?s)Dockerfile:2:7: .*ENV A=\$\{B:\?say\}\n          \^"
        ) as caught:
            config_of("ENV A=${B:?say}")
        assert caught.value.line == 2


class TestCommands:
    def test_shell_form_goes_to_the_stages_shell(self) -> None:
        config = config_of('SHELL ["/bin/bash", "-c"]\nCMD run it\nENTRYPOINT ./start')
        assert config.cmd == ("/bin/bash", "-c", "run it")
        assert config.entrypoint == ("/bin/bash", "-c", "./start")

    def test_entrypoint_voids_an_inherited_command(self) -> None:
        assert config_of('ENTRYPOINT ["x"]').cmd is None

    def test_entrypoint_keeps_the_stages_own_command(self) -> None:
        assert config_of('CMD ["y"]\nENTRYPOINT ["x"]').cmd == ("y",)

    def test_command_of_the_stage_below_counts_as_inherited(self) -> None:
        state = configured('FROM base AS one\nCMD ["y"]\nFROM one\nENTRYPOINT ["x"]')
        assert state.config.config.cmd is None

    def test_empty_command_is_empty_not_absent(self) -> None:
        assert config_of("CMD []").cmd == ()


class TestHealthcheck:
    def test_none_switches_off(self) -> None:
        assert config_of("HEALTHCHECK NONE").healthcheck == {"Test": ["NONE"]}

    def test_durations_are_nanoseconds(self) -> None:
        config = config_of("HEALTHCHECK --interval=1m30s --timeout=250ms --retries=2 CMD probe")
        assert config.healthcheck == {
            "Test": ["CMD-SHELL", "probe"],
            "Interval": 90 * 10**9,
            "Timeout": 250 * 10**6,
            "Retries": 2,
        }

    def test_history_prints_it_as_go_does(self) -> None:
        text = 'HEALTHCHECK --interval=1h0m1.5s --timeout=250ms CMD ["a", "b c"]'
        assert history_of(text) == [
            "HEALTHCHECK {Test:[CMD a b c] Interval:1h0m1.5s Timeout:250ms "
            "StartPeriod:0s StartInterval:0s Retries:0}"
        ]


class TestRest:
    def test_ports_are_split_after_expansion(self) -> None:
        config = config_of('ENV P="3000 4000/udp"\nEXPOSE $P 80-81:81-82/TCP')
        assert set(config.exposed_ports) == {"3000/tcp", "4000/udp", "81/tcp", "82/tcp"}

    @pytest.mark.parametrize(
        "text", ["EXPOSE x", "STOPSIGNAL SIGNOPE", 'VOLUME [""]', "VOLUME $NO"]
    )
    def test_meaningless_values_are_located(self, text: str) -> None:
        with pytest.raises(DockerfileError, match="Dockerfile:2: "):
            config_of(text)

    def test_maintainer_is_the_images_author(self) -> None:
        assert configured("FROM base\nMAINTAINER me").config.author == "me"

    def test_workdir_joins_the_one_before(self) -> None:
        assert config_of("WORKDIR /a\nWORKDIR b/../c\nWORKDIR $PWD").working_dir == "/a/c"
        assert history_of("WORKDIR b")[-1] == "WORKDIR /b"

    def test_only_the_root_as_workdir_has_no_layer(self) -> None:
        history = configured("FROM base\nWORKDIR /\nWORKDIR /a").config.history
        assert [entry.empty_layer for entry in history] == [True, False]

    def test_scratch_starts_at_the_root(self) -> None:
        config = configured("FROM scratch").config.config
        assert (config.working_dir, config.env) == ("/", (PATH,))

    def test_trigger_is_kept_as_it_is_written_and_not_passed_on(self) -> None:
        state = configured("FROM base\nONBUILD RUN echo $X")
        assert state.config.config.on_build == ("RUN echo $X",)
        assert state.config.history == ()
        assert start_stage(state.config, Scope()).config.config.on_build == ()

    def test_flags_of_copy_show_in_the_history(self) -> None:
        text = "ARG M=755\nCOPY --from=x --link --chmod=$M --chown=1:2 a b /c/"
        assert history_of(text)[-1] == "COPY --chown=1:2 --chmod=755 a b /c/ # buildkit"

    def test_what_the_base_has_stays(self) -> None:
        base = replace(
            STUB, author="them", extra={"docker_version": "1"}, created="2020-01-01T00:00:00Z"
        )
        state = start_stage(base, Scope())
        assert (state.config.author, dict(state.config.extra)) == ("them", {"docker_version": "1"})
        # When the new image was made is for the build to say.
        assert state.config.created is None


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_000_000_001, "1.000000001s"),
        (60 * 10**9, "1m0s"),
        (3_661 * 10**9 + 500_000_000, "1h1m1.5s"),
        (100 * 3600 * 10**9, "100h0m0s"),
    ],
)
def test_durations_read_as_in_go(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ('say "hi"', r'["say \"hi\""]'),
        ("a\\b\tc\nd\x00\x7f", r'["a\\b\tc\nd\x00\x7f"]'),
        ("é ☃ 𝄞", '["é ☃ 𝄞"]'),
        ("\u200b\U000e0001", r'["\u200b\U000e0001"]'),
        ("\udcff", r'["\xff"]'),
    ],
)
def test_words_are_quoted_as_in_go(word: str, text: str) -> None:
    assert quoted_words([word]) == text


@pytest.mark.parametrize(
    ("command", "heredocs", "text"),
    [
        ("make", (), "make"),
        ("<<EOF", (Heredoc("EOF", "a\nb\n"),), "a\nb\n"),
        ("<<-EOF", (Heredoc("EOF", "\ta\n\t\tb\n", chomp=True),), "a\nb\n"),
        ("<<-EOF", (Heredoc("EOF", "\t\u2028\tb\x0c\tc", chomp=True),), "\u2028\tb\x0c\tc"),
        ("<<EOF", (Heredoc("EOF", "#!/bin/x\n"),), "/dev/pipes/EOF"),
        ("<<-EOF", (Heredoc("EOF", "#!/bin/x\n\ta", chomp=True),), "/dev/pipes/EOF"),
        ("<<-EOF", (Heredoc("EOF", "\t#!/bin/x\n", chomp=True),), "/dev/pipes/EOF"),
        ("<<EOF", (Heredoc("EOF", "\t#!/bin/x\n"),), "\t#!/bin/x\n"),
        ("<<'E F'", (Heredoc("E F", "#!/bin/x\n"),), "/dev/pipes/E F"),
        ("sh <<A", (Heredoc("A", "#!/bin/x\n"),), "sh <<A\n#!/bin/x\nA"),
        ("cat <<A 3<<B", (Heredoc("A", "a\n"), Heredoc("B", "b\n")), "cat <<A 3<<B\na\nA\nb\nB"),
        ("sh <<A", (Heredoc("A", "a\n"),), "sh <<A\na\nA"),
    ],
)
def test_here_documents_become_what_the_shell_reads(
    command: str, heredocs: tuple[Heredoc, ...], text: str
) -> None:
    assert run_text(command, heredocs) == text
