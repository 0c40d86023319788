"""Variables that stand for flags, and those that only look as if they did."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.main

from kaniko_core.cli import go_booleans
from kaniko_core.cli.flags import groups_of
from kaniko_core.cli.option import Option
from kaniko_core.cli.variables import strangers, variable_of
from tests.cli.conftest import Run
from tests.cli.programs import PROGRAMS, recording


def options() -> list[tuple[str, Option]]:
    """Return every option of every command, with the name of its command."""
    found = []
    for program, app in PROGRAMS.items():
        root: Any = typer.main.get_command(app)
        for name, command in (("", root), *root.commands.items()):
            for group in groups_of(command):
                found += [(f"{program} {name}", option) for option in group.options]
    return found


@pytest.mark.parametrize(
    ("flag", "variable"),
    [
        ("--destination", "KANIKO_DESTINATION"),
        ("--cache-dir", "KANIKO_CACHE_DIR"),
        ("--kaniko-dir", "KANIKO_DIR"),
        ("--no-push", "KANIKO_NO_PUSH"),
    ],
)
def test_a_variable_is_called_as_its_flag(flag: str, variable: str) -> None:
    assert variable_of(flag).name == variable


@pytest.mark.parametrize(
    ("command", "option"), options(), ids=lambda item: getattr(item, "spelling", item)
)
def test_every_option_has_a_variable_of_its_own(command: str, option: Option) -> None:
    others = {
        name
        for other_command, other in options()
        if other_command == command and other.name != option.name
        for name in other.variables
    }
    assert option.variables
    assert not others & set(option.variables)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_spelling_means_the_same_in_all_commands_of_a_program(program: str) -> None:
    """Words are made values before it is known which command they are for."""
    meanings: dict[str, set[tuple[str, bool]]] = {}
    for command, option in options():
        if command.split()[0] == program:
            for spelling in option.spellings:
                meaning = (option.spelling, option.metavar == "")
                meanings.setdefault(spelling, set()).add(meaning)
    assert {name for name, found in meanings.items() if len(found) > 1} == set()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("KANIKO_CONTEXT", "/src", "context", "/src"),
        ("KANIKO_CACHE", "true", "cache", True),
        ("KANIKO_USE_CACHE", "1", "cache", True),
        ("KANIKO_CACHE_RUN_LAYERS", "false", "cache_run_layers", False),
        ("KANIKO_CACHE_TTL", "6h", "cache_ttl", timedelta(hours=6)),
        ("KANIKO_CACHE_DIR", "/here", "cache_dir", Path("/here")),
        ("KANIKO_PUSH_RETRY", "7", "push_retry", 7),
        ("KANIKO_TAR_PATH", "/out.tar", "tar_path", Path("/out.tar")),
        ("KANIKO_INSECURE_REGISTRY", "a:5000", "insecure_registry", ("a:5000",)),
        (
            "KANIKO_INSECURE_REGISTRY",
            "a:1\n b:2 \r\n\nc\n",
            "insecure_registry",
            ("a:1", "b:2", "c"),
        ),
        ("KANIKO_BUILD_ARG", "A=1\nB=two words", "build_arg", (("A", "1"), ("B", "two words"))),
        ("KANIKO_CONTEXT", "", "context", "/workspace/"),
        ("KANIKO_INSECURE_REGISTRY", "", "insecure_registry", ()),
        ("KANIKO_CREDENTIAL_HELPERS", " \n", "credential_helpers", None),
    ],
)
def test_a_variable_stands_for_its_flag(
    ended: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(name, value)
    seen: dict[str, Any] = {}
    result = ended(recording(seen), "--no-push")
    assert (result.status, result.stderr) == (0, "")
    assert seen[field] == expected


@pytest.mark.parametrize(
    ("name", "value", "flag", "field", "expected"),
    [
        ("KANIKO_CONTEXT", "/variable", "--context=/flag", "context", "/flag"),
        ("KANIKO_CACHE", "true", "--cache=false", "cache", False),
        ("KANIKO_CACHE", "not read", "--cache", "cache", True),
        ("KANIKO_PUSH_RETRY", "7", "--push-retry=0", "push_retry", 0),
        ("KANIKO_TAR_PATH", "/variable", "--tar-path=", "tar_path", None),
        ("KANIKO_INSECURE_REGISTRY", "a\nb", "--insecure-registry=c", "insecure_registry", ("c",)),
    ],
)
def test_a_flag_wins_over_its_variable(
    ended: Run,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    flag: str,
    field: str,
    expected: object,
) -> None:
    monkeypatch.setenv(name, value)
    seen: dict[str, Any] = {}
    assert ended(recording(seen), "--no-push", flag).status == 0
    assert seen[field] == expected


def test_mirrors_of_the_variable_come_after_those_of_the_flag(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANIKO_REGISTRY_MIRROR", "second.example.com\nthird.example.com/hub")
    monkeypatch.setenv("KANIKO_REGISTRY_MAP", "a.example.com=b.example.com;c.example.com=d")
    seen: dict[str, Any] = {}
    assert ended(recording(seen), "--no-push", "--registry-mirror=first.example.com").status == 0
    hosts = [mirror.host for mirror in seen["registry_mirror"]]
    assert hosts == ["first.example.com", "second.example.com", "third.example.com"]
    assert [[mirror.host for mirror in of_one] for of_one in seen["registry_map"]] == [
        ["b.example.com", "d"]
    ]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("KANIKO_CACHE", "perhaps", "'perhaps' is neither true nor false"),
        ("KANIKO_PUSH_RETRY", "often", "'often' is not a whole number"),
        ("KANIKO_CACHE_TTL", "soon", "'soon' is not a duration"),
        ("KANIKO_REGISTRY_CERTIFICATE", "a=b\nc", "'c' has no key and value"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    ended: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    result = ended(recording({}), "--no-push")
    assert result.status == 2
    assert result.stderr.splitlines()[0] == f"error: {name}: {sentence}"


def test_rules_between_flags_tell_which_variables_are_set(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANIKO_PUSH_RETRY", "-1")
    monkeypatch.setenv("KANIKO_INSECURE_PULL", "true")
    result = ended(recording({}), "--no-push", "--insecure-pull=false")
    assert (result.status, result.stderr) == (
        2,
        "error: --push-retry cannot be negative\nnote: KANIKO_PUSH_RETRY is set\n",
    )


@pytest.mark.parametrize("name", ["KANIKO_SECRET", "KANIKO_BUILD_ARG", "KANIKO_SSH"])
def test_a_variable_that_may_be_somebodys_secret_is_not_shown(
    ended: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """CI jobs have variables of such names, and a flag is not what they are for."""
    monkeypatch.setenv(name, "=hunter2=")
    result = ended(recording({}), "--no-push", "--verbosity=trace")
    error, hint = result.stderr.splitlines()
    assert (result.status, error) == (2, f"error: {name} cannot be read")
    assert hint.startswith("hint: write ")
    assert "hunter2" not in result.stdout + result.stderr


def test_errors_are_told_as_variables_say(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANIKO_LOG_FORMAT", "json")
    assert json.loads(ended(recording({}), "--no-such-flag").stderr)["event"] == "failed"
    assert ended(recording({}), "--no-such-flag", "--log-format=text").stderr.startswith("error: ")


def test_a_subcommand_has_variables_too(
    ended: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KANIKO_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("KANIKO_FORMAT", "json")
    result = ended(PROGRAMS["kaniko-warmer"], "list", name="kaniko-warmer")
    assert (result.status, result.stderr) == (0, "")
    assert json.loads(result.stdout)


@pytest.mark.parametrize(
    ("program", "argv", "option"),
    [
        ("kaniko-executor", "--customPlatform=linux/arm64", "--custom-platform=linux/arm64"),
        ("kaniko-executor", "--snapshotMode=time", "--snapshot-mode=time"),
        ("kaniko-executor", "--tarPath=/x.tar", "--tar-path=/x.tar"),
        ("kaniko-warmer", "--customPlatform=linux/arm64", "--custom-platform=linux/arm64"),
    ],
)
def test_old_spellings_are_understood(program: str, argv: str, option: str) -> None:
    found: list[dict[str, Any]] = []
    for flag in (argv, option):
        root: Any = typer.main.get_command(PROGRAMS[program])
        words = go_booleans([flag], {}, {})
        with root.make_context(program, words, resilient_parsing=True) as context:
            found.append(dict(context.params))
    assert found[0] == found[1]
    assert any(found[0].values())


# --- what only looks like one of ours ------------------------------------------------------


SERVICES = """
KANIKO_SERVICE_HOST KANIKO_SERVICE_PORT KANIKO_SERVICE_PORT_HTTP KANIKO_PORT KANIKO_PORT_80_TCP
KANIKO_PORT_80_TCP_PROTO KANIKO_PORT_80_TCP_PORT KANIKO_PORT_80_TCP_ADDR KANIKO_CACHE_SERVICE_HOST
KANIKO_CACHE_SERVICE_PORT KANIKO_CACHE_PORT KANIKO_CACHE_PORT_5000_TCP KANIKO_CACHE_REPO_PORT
KANIKO_NO_PUSH_PORT_53_UDP_ADDR KANIKO_TARGET_SERVICE_PORT_METRICS_2
""".split()


def test_services_of_kubernetes_are_nobodys_flags(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is called kaniko puts these into every container of its namespace."""
    for name in SERVICES:
        monkeypatch.setenv(name, "tcp://10.0.0.7:80")
    seen: dict[str, Any] = {}
    result = ended(recording(seen), "--no-push", "--verbosity=debug")
    assert (result.status, result.stderr) == (0, "")
    plain: dict[str, Any] = {}
    for name in SERVICES:
        monkeypatch.delenv(name)
    ended(recording(plain), "--no-push", "--verbosity=debug")
    assert seen == plain


@pytest.mark.parametrize(
    ("command", "option"), options(), ids=lambda item: getattr(item, "spelling", item)
)
def test_no_service_has_the_variable_of_a_flag(command: str, option: Option) -> None:
    """Were it so, strangers() would not know it: it leaves out what services may be called."""
    ours = [name for name in option.variables if name.startswith("KANIKO_")]
    assert [name for name, _ in strangers(ours, ())] == sorted(ours)


def test_a_slip_is_told_with_what_was_meant(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANIKO_DESTINATON", "s3cret")
    result = ended(recording({}))
    assert result.status == 2
    assert result.stderr.startswith(
        "warning: KANIKO_DESTINATON is no variable of kaniko-executor\n"
        "hint: did you mean KANIKO_DESTINATION?\n"
        "error: nowhere to push the image to\n"
    )
    assert "s3cret" not in result.stderr


def test_somebodys_own_variable_is_told_to_who_wants_to_know(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANIKO_JOB_NUMBER", "s3cret")
    assert ended(recording({}), "--no-push").stderr == ""
    told = ended(recording({}), "--no-push", "--verbosity=debug").stderr
    assert told == "KANIKO_JOB_NUMBER is no variable of kaniko-executor\n"


@pytest.mark.parametrize(
    "name",
    [
        "KANIKO_QUAY_IO_USER",
        "KANIKO_QUAY_IO_PASSWORD",
        "KANIKO_TELEMETRY_ENDPOINT",
        "KANIKO_TELEMETRY_OMIT_DOCKERFILE",
        "KANIKO_IGNORE_ASSERTIONS",
        "KANIKO_OLDER_THAN",
        "KANIKO_UNPACK",
    ],
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_others_read_is_no_slip(
    ended: Run, monkeypatch: pytest.MonkeyPatch, name: str, program: str
) -> None:
    monkeypatch.setenv(name, "")
    told = ended(PROGRAMS[program], "--verbosity=debug", name=program).stderr
    assert told.startswith("error: no")


def test_help_is_not_disturbed(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANIKO_DESTINATON", "x")
    for argv in (["--help"], ["version"], ["login", "--help"], ["completion", "bash"]):
        assert ended(PROGRAMS["kaniko-executor"], *argv).stderr == ""
