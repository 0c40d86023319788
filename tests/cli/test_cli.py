"""Command lines: what users of Go kaniko type, and what they are told when it is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.main

import kaniko_core
import kaniko_executor.cli
import kaniko_warmer.cli
from kaniko_core.cli import console, go_booleans, run, with_options
from kaniko_core.cli.pages import OLD_NAMES, Command
from kaniko_core.errors import KanikoError, UsageError
from kaniko_core.oci.platform import Platform
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    Destination,
    Flag,
    LayerCacheOptions,
    LogFormat,
    LogOptions,
    OutputOptions,
    RegistryOptions,
    Verbosity,
    WarmOptions,
)
from kaniko_core.progress import Noted
from kaniko_core.values import Secret, SshAgent, build_arg, key_value, secret, ssh_agent
from tests.cli.conftest import Ended, Run

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = {"kaniko-executor": kaniko_executor.cli.app, "kaniko-warmer": kaniko_warmer.cli.app}


class Color(Enum):
    RED = "red"
    GREEN = "green"


def even(text: str) -> int:
    if not text.isdigit() or int(text) % 2:
        raise UsageError(f"{text!r} is not even", hint="try 2")
    return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Toys:
    """One field of each kind."""

    bare: Annotated[bool, Flag("A switch.")] = False
    name: Annotated[str, Flag("A text.")] = "nobody"
    count: Annotated[int, Flag("A number.", metavar="N")] = 3
    where: Annotated[Path, Flag("A path.")] = Path("/here")
    maybe: Annotated[Path | None, Flag("A path or none.", aliases=("--mayBe",))] = None
    words: Annotated[tuple[str, ...], Flag("Texts; repeatable.")] = ()
    pairs: Annotated[tuple[tuple[str, str], ...], Flag("Pairs.", parse=key_value)] = ()
    color: Annotated[Color, Flag("A choice.")] = Color.RED
    pair_of: Annotated[int, Flag("An even number.", parse=even, name="pair")] = 2
    secret: Annotated[str, Flag("Not for everybody.", hidden=True)] = ""
    build_arg: Annotated[tuple[tuple[str, str | None], ...], Flag("ARGs.", parse=build_arg)] = ()
    no_push: Annotated[bool, Flag("A switch that the environment overrides.")] = False
    kaniko_dir: Annotated[Path | None, Flag("A path that the environment knows.")] = None

    def __post_init__(self) -> None:
        if self.count > 9 and not self.bare:
            raise UsageError("too many", hint="use --bare")


def toy(command: Callable[[Toys], object], **seam: Any) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command(cls=Command)
    @with_options(**seam)
    def play(toys: Toys, log: LogOptions) -> None:
        """Play."""
        command(toys)

    return app


def raising(error: BaseException) -> typer.Typer:
    def play(_: Toys) -> None:
        raise error

    return toy(play)


# --- from words to values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("", Toys()),
        ("--bare", Toys(bare=True)),
        ("--bare=true", Toys(bare=True)),
        ("--bare=false", Toys()),
        ("--bare --bare=false", Toys()),
        ("--bare=false --bare", Toys(bare=True)),
        ("--bare=T --name x", Toys(bare=True, name="x")),
        ("-b", Toys(bare=True)),
        ("-b=0", Toys()),
        ("-bn x", Toys(bare=True, name="x")),
        ("-bnx", Toys(bare=True, name="x")),
        ("--name=x", Toys(name="x")),
        ("--name x", Toys(name="x")),
        ("-n x", Toys(name="x")),
        ("-n=x", Toys(name="x")),
        ("-nx", Toys(name="x")),
        ("--name a --name b", Toys(name="b")),
        ("--name --bare", Toys(name="--bare")),
        ("--name=", Toys(name="")),
        ("--name a=b=c", Toys(name="a=b=c")),
        ("--count 0 --count=9", Toys(count=9)),
        ("--count=-1", Toys(count=-1)),
        ("--count 10 --bare", Toys(count=10, bare=True)),
        ("--where /a/b", Toys(where=Path("/a/b"))),
        ("--maybe rel", Toys(maybe=Path("rel"))),
        ("--mayBe rel", Toys(maybe=Path("rel"))),
        ("--maybe=", Toys()),
        ("--words a --words=b --words a", Toys(words=("a", "b", "a"))),
        ("--words=a,b", Toys(words=("a,b",))),
        ("--pairs a=b --pairs=c=d=e", Toys(pairs=(("a", "b"), ("c", "d=e")))),
        ("--color green", Toys(color=Color.GREEN)),
        ("--color GREEN", Toys(color=Color.GREEN)),
        ("--pair 4", Toys(pair_of=4)),
        ("--secret s", Toys(secret="s")),
    ],
)
def test_flags_become_fields(ended: Run, argv: str, expected: Toys) -> None:
    seen: list[Toys] = []
    app = toy(seen.append, short={"bare": "-b", "name": "-n"})
    assert ended(app, *argv.split()) == Ended(0, "", "")
    assert seen == [expected]


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        ("--bare=maybe", "--bare: 'maybe' is neither true nor false", "--bare=false"),
        ("--bare=", "--bare: '' is neither true nor false", "--bare=false"),
        ("--count x", "--count: 'x' is not a whole number", None),
        ("--where=", "--where: the name is empty", None),
        ("--pairs a", "--pairs: 'a' has no key and value", "key=value"),
        ("--color blue", "--color: 'blue' is not one of red, green", None),
        ("--pair 3", "--pair: '3' is not even", "try 2"),
        ("--count 10", "too many", "use --bare"),
        ("--nmae x", "no such option --nmae", "did you mean --name?"),
        ("--nmae=x", "no such option --nmae", "did you mean --name?"),
        ("--quite-another", "no such option --quite-another", "--help"),
        ("-z", "no such option -z", "--help"),
        ("--name", "option '--name' requires an argument", "--help"),
        ("stray", "got unexpected extra argument (stray)", "--help"),
        ("--help=x", "option '--help' does not take a value", "--help"),
    ],
)
def test_wrong_flags_are_told_in_one_sentence(
    ended: Run, argv: str, message: str, hint: str | None
) -> None:
    seen: list[Toys] = []
    result = ended(toy(seen.append), *argv.split())
    error, *more = result.stderr.splitlines()
    assert (result.status, result.stdout, seen) == (2, "", [])
    assert error.replace("(s)", "") == f"error: {message}"
    assert len(more) == (hint is not None)
    assert all(line.startswith("hint: ") and (hint or "") in line for line in more)


def test_hidden_flags_are_not_suggested(ended: Run) -> None:
    result = ended(toy(print), "--secre=x")
    assert result.status == 2
    assert "--secret" not in result.stderr


def test_omitted_fields_are_no_flags_and_keep_their_defaults(ended: Run) -> None:
    seen: list[Toys] = []
    app = toy(seen.append, omit=frozenset({"count"}))
    assert ended(app, "--count=5").status == 2
    assert ended(app).status == 0
    assert seen == [Toys()]
    assert "--count" not in ended(app, "--help").stdout


def test_mistakes_of_programmers_are_found_at_once() -> None:
    with pytest.raises(AssertionError, match="unknown fields"):
        toy(print, short={"nothing": "-n"})
    with pytest.raises(AssertionError, match="declared twice"):

        @with_options()
        def play(one: Toys, other: Toys) -> None:
            """Play."""


def test_parameters_of_typers_own_kind_go_to_typer(ended: Run) -> None:
    seen: list[tuple[str, bool]] = []
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command()
    @with_options()
    def play(
        toys: Toys,
        file: Annotated[str, typer.Argument()],
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> None:
        """Play."""
        seen.append((f"{file} {toys.count}", loud))

    assert ended(app, "x", "--loud", "--count=1").status == 0
    assert seen == [("x 1", True)]


def test_subcommand_is_not_bothered_with_the_options_of_the_root(ended: Run) -> None:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.callback(invoke_without_command=True)
    @with_options()
    def root(warming: WarmOptions) -> None:
        """Insist on an image."""

    @app.command()
    def other() -> None:
        """Be content."""
        typer.echo("content")

    assert ended(app, "other") == Ended(0, "content\n", "")
    assert ended(app).status == 2


def test_help_shows_what_a_user_needs(ended: Run) -> None:
    result = ended(toy(print, short={"name": "-n"}), "--help")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert result.status == 0
    for line in (
        "--bare A switch.",
        "-n, --name NAME A text. [default: nobody]",
        "--count N A number. [default: 3]",
        "--where WHERE A path. [default: /here]",
        "--maybe MAYBE A path or none.",
        "--color COLOR A choice. [default: red]",
        "--pair PAIR_OF An even number. [default: 2]",
    ):
        assert line in lines
    assert "Not for everybody" not in result.stdout
    assert "[env: KANIKO_DIR]" in " ".join(lines)


# --- Go's forms ----------------------------------------------------------------------------

SWITCHES = {"--cache": "--cache", "--force": "--force", "-f": "--force"}
VALUED = {"--destination": "--destination", "-d": "--destination"}


@pytest.mark.parametrize("value", "1 t T TRUE true True".split())
def test_what_go_calls_true(value: str) -> None:
    assert go_booleans([f"--cache={value}"], SWITCHES) == ["--cache=true"]


@pytest.mark.parametrize("value", "0 f F FALSE false False".split())
def test_what_go_calls_false(value: str) -> None:
    assert go_booleans([f"--cache={value}"], SWITCHES) == ["--cache=false"]


@pytest.mark.parametrize("value", ["", "yes", "no", "on", "2", "TrUe", " true", "true "])
def test_what_go_calls_neither(value: str) -> None:
    with pytest.raises(UsageError, match=r"--cache: .* is neither true nor false"):
        go_booleans([f"--cache={value}"], SWITCHES)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--cache", "--cache=true"),
        ("-f", "--force=true"),
        ("-f=false", "--force=false"),
        ("-fd x", "--force=true --destination=x"),
        ("-ff", "--force=true --force=true"),
        ("-d x", "--destination=x"),
        ("-d=x", "--destination=x"),
        ("-dx", "-dx"),
        ("-d --cache", "--destination=--cache"),
        ("--destination", "--destination"),
        ("--cache false", "--cache=true false"),
        ("-- --cache -f", "-- --cache -f"),
        ("--cached --cache-dir=x", "--cached --cache-dir=x"),
        ("-x --other y", "-x --other y"),
    ],
)
def test_forms_of_flags_become_one(argv: str, expected: str) -> None:
    assert go_booleans(argv.split(), SWITCHES, VALUED) == expected.split()


# --- the environment -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "argv", "expected"),
    [
        ("true", (), True),
        ("1", ("--no-push=false",), True),
        ("false", ("--no-push",), False),
        ("", ("--no-push",), True),
        ("", (), False),
    ],
)
def test_kaniko_no_push_wins_over_the_flag(
    ended: Run,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    argv: tuple[str, ...],
    expected: bool,
) -> None:
    monkeypatch.setenv("KANIKO_NO_PUSH", value)
    seen: list[Toys] = []
    assert ended(toy(seen.append), *argv).status == 0
    assert seen[0].no_push is expected


def test_variable_that_is_wrong_is_named(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANIKO_NO_PUSH", "perhaps")
    result = ended(toy(print))
    assert result.status == 2
    assert result.stderr == "error: KANIKO_NO_PUSH: 'perhaps' is neither true nor false\n"


@pytest.mark.parametrize(
    ("argv", "expected"), [((), "/from/env"), (("--kaniko-dir=/from/flag",), "/from/flag")]
)
def test_flag_wins_over_kaniko_dir(
    ended: Run, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setenv("KANIKO_DIR", "/from/env")
    seen: list[Toys] = []
    assert ended(toy(seen.append), *argv).status == 0
    assert seen[0].kaniko_dir == Path(expected)


@pytest.mark.parametrize("name", ["cleanup", "pre_cleanup", "preserve_context"])
@pytest.mark.parametrize(
    ("value", "given", "expected"),
    [
        ("true", None, True),
        ("1", None, True),
        ("false", None, False),
        ("", None, False),
        ("true", "false", False),
        ("false", "true", True),
    ],
)
def test_variable_is_the_default_of_its_switch(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    given: str | None,
    expected: bool,
) -> None:
    """What Go kaniko's users set in the pod, and take back for one build."""
    monkeypatch.setenv(f"KANIKO_{name.upper()}", value)
    flag = () if given is None else (f"--{name.replace('_', '-')}={given}",)
    building, *_ = executed(["--no-push", *flag])
    assert getattr(building, name) is expected


def test_variable_of_a_switch_that_is_wrong_is_named(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANIKO_CLEANUP", "perhaps")
    result = ended(kaniko_executor.cli.app, "--no-push")
    assert result.status == 2
    assert result.stderr == "error: KANIKO_CLEANUP: 'perhaps' is neither true nor false\n"


def test_build_argument_without_value_is_taken_from_the_environment(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKEN", "from env")
    monkeypatch.delenv("ABSENT", raising=False)
    seen: list[Toys] = []
    argv = ("--build-arg", "TAKEN", "--build-arg=ABSENT", "--build-arg", "GIVEN=here")
    assert ended(toy(seen.append), *argv).status == 0
    assert seen[0].build_arg == (("TAKEN", "from env"), ("ABSENT", None), ("GIVEN", "here"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """Options whose values the environment has."""

    secret: Annotated[tuple[Secret, ...], Flag("Secrets.", parse=secret)] = ()
    ssh: Annotated[tuple[SshAgent, ...], Flag("Agents.", parse=ssh_agent)] = ()


def hidden(argv: str) -> Hidden:
    seen: list[Hidden] = []
    app = typer.Typer(add_completion=False)

    @app.command()
    @with_options()
    def command(options: Hidden) -> None:
        seen.append(options)

    typer.main.get_command(app)(argv.split(), standalone_mode=False)
    return seen[0]


def test_secrets_take_the_values_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)
    given = "--secret id=a,env=TOKEN --secret id=TOKEN --secret id=EMPTY,type=env"
    assert hidden(given).secret == (
        Secret("a", variable="TOKEN", value=b"t0ken"),
        Secret("TOKEN", variable="TOKEN", value=b"t0ken"),
        Secret("EMPTY", variable="EMPTY", value=b""),
    )
    given = "--secret id=TOKEN,src=file --secret id=ABSENT --secret id=a,env=ABSENT"
    assert hidden(given).secret == (
        Secret("TOKEN", path=Path("file")),
        Secret("ABSENT"),
        Secret("a", variable="ABSENT"),
    )


def test_ssh_without_a_path_is_the_agent_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    given = "--ssh default --ssh other=/key"
    assert hidden(given).ssh == (
        SshAgent("default", (Path("/run/agent"),)),
        SshAgent("other", (Path("/key"),)),
    )
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert hidden("--ssh default").ssh == (SshAgent("default"),)


# --- ends ----------------------------------------------------------------------------------


class OddError(KanikoError):
    exit_status = 42


def test_error_is_told_with_notes_and_hint_and_gives_its_status(ended: Run) -> None:
    error = OddError("it broke\n    here", hint="mend it")
    error.add_note("in stage a")
    error.add_note("in stage b")
    assert ended(raising(error)) == Ended(
        42,
        "",
        "error: it broke\n    here\nnote: in stage a\nnote: in stage b\nhint: mend it\n",
    )


def test_escape_sequences_of_others_do_not_reach_the_terminal(ended: Run) -> None:
    assert ended(raising(KanikoError("a \x1b[2Jregistry"))).stderr == "error: a \\x1b[2Jregistry\n"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (MemoryError(), 1, "error: there is not enough memory\n"),
        (
            PermissionError(13, "Permission denied", "/a/file"),
            1,
            "error: cannot use /a/file: Permission denied\nhint: this user may not",
        ),
        (
            OSError(24, "Too many open files"),
            1,
            "error: the system refused something: Too many open files\nhint: --verbosity=debug",
        ),
        (
            TypeError("oops"),
            1,
            "error: unexpected TypeError: oops\nhint: this is a bug; run again with --verbosity=",
        ),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: the system refused something"),
    ],
)
def test_other_ends_are_told_without_traceback(
    ended: Run, error: BaseException, status: int, words: str
) -> None:
    result = ended(raising(error))
    assert result.status == status
    assert result.stderr.startswith(words)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("argv", ["--verbosity=debug", "--verbosity trace", "--verbosity DEBUG"])
def test_traceback_of_a_bug_is_for_those_who_ask(ended: Run, argv: str) -> None:
    result = ended(raising(TypeError("oops")), *argv.split())
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith(
        "error: unexpected TypeError: oops\nhint: this is a bug; report it\n"
    )


@pytest.mark.parametrize(
    "argv",
    [
        ("--log-format=json", "--count=x"),
        ("--count=x", "--log-format", "JSON"),
        ("--log-format=json", "--bare=maybe"),
        ("--log-format=json", "--no-such-flag"),
        ("--log-format=json", "--name"),
    ],
)
def test_wrong_usage_is_told_in_json_too(ended: Run, argv: tuple[str, ...]) -> None:
    result = ended(toy(print), *argv)
    told = json.loads(result.stderr)
    assert (result.status, told["level"], told["event"]) == (2, "error", "failed")
    assert told["msg"]


def test_errors_bear_the_time_where_lines_do(ended: Run) -> None:
    result = ended(raising(KanikoError("no")), "--log-timestamp")
    stamp, _, words = result.stderr.partition(" ")
    assert words == "error: no\n"
    assert stamp.endswith("Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_lets_everything_be_cleared_away(
    ended: Run, tmp_path: Path, number: signal.Signals
) -> None:
    half = tmp_path / "half-written"

    def play(_: Toys) -> None:
        half.touch()
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            # What does the clearing away is not disturbed by those who ask twice.
            os.kill(os.getpid(), number)
            half.unlink()

    # Whoever runs the tests may ignore it, as nohup does.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        result = ended(toy(play))
        assert result == Ended(128 + number, "", "error: interrupted\n")
        assert not half.exists()
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_signal_that_is_ignored_stays_so(ended: Run) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ended(toy(lambda _: os.kill(os.getpid(), signal.SIGHUP))).status == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_console_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with console(LogOptions()) as progress:
        progress(Noted("something"))
    assert capsys.readouterr() == ("", "something\n")


def test_console_is_quiet_where_stderr_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with console(LogOptions()) as progress:
        progress(Noted("nobody hears it"))
    assert run(raising(KanikoError("nor this")), [], name="toy") == 1


# --- the programs --------------------------------------------------------------------------

Given = tuple[BuildOptions, OutputOptions, CacheOptions, RegistryOptions, LayerCacheOptions]


def executed(argv: Sequence[str]) -> Given:
    """Return the options that kaniko-executor would build with."""
    seen: list[Given] = []

    def record(*given: Any, image: object, progress: object) -> None:
        seen.append(given)

    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = run(kaniko_executor.cli.application(record), argv, name="kaniko-executor")
    assert status == 0, stderr.getvalue()
    return seen[0]


def test_command_lines_of_go_kaniko_are_understood() -> None:
    """As they stand in many a CI file."""
    building, output, cache, registry, layers = executed(
        [
            "--context=dir:///workspace",
            "--dockerfile",
            "docker/Dockerfile",
            "--destination=registry.example.com/team/app:1",
            "-d=registry.example.com/team/app:latest",
            "--build-arg=A=1",
            "--build-arg",
            "B=x=y",
            "--cache=true",
            "--cache-dir=/cache",
            "--cache-ttl=24h",
            "--cache-repo=registry.example.com/team/app/cache",
            "--cache-copy-layers",
            "--cache-run-layers=false",
            "--no-push-cache=true",
            "--compressed-caching=false",
            "--customPlatform=linux/arm64",
            "--insecure",
            "--insecure-registry=a:5000",
            "--insecure-registry=b:5000",
            "--skip-tls-verify=false",
            "--registry-certificate=registry.example.com=/ca.pem",
            "--label",
            "a=b",
            "--no-push=0",
            "--tarPath=/out/image.tar",
            "--digest-file=",
            "--push-retry=2",
            "-v",
            "warn",
            "--log-format=text",
        ]
    )
    assert building == BuildOptions(
        context="dir:///workspace",
        dockerfile="docker/Dockerfile",
        build_arg=(("A", "1"), ("B", "x=y")),
        custom_platform=(Platform("linux", "arm64"),),
        cache=True,
    )
    assert layers == LayerCacheOptions(
        cache_repo="registry.example.com/team/app/cache",
        cache_copy_layers=True,
        cache_run_layers=False,
        no_push_cache=True,
        compressed_caching=False,
    )
    assert output == OutputOptions(
        destination=(
            Destination.parse("registry.example.com/team/app:1"),
            Destination.parse("registry.example.com/team/app:latest"),
        ),
        tar_path=Path("/out/image.tar"),
    )
    assert cache == CacheOptions(cache_ttl=timedelta(hours=24))
    assert registry == RegistryOptions(
        insecure=True,
        insecure_registry=("a:5000", "b:5000"),
        registry_certificate=(("registry.example.com", "/ca.pem"),),
        push_retry=2,
    )


def test_short_flags_of_the_executor() -> None:
    building, output, *_ = executed("-c . -f D -d app:1 -v error".split())
    assert (building.context, building.dockerfile) == (".", "D")
    assert output.destination == (Destination.parse("app:1"),)


def test_dash_is_a_dockerfile_from_stdin() -> None:
    for flags in ("-f -", "-f=-", "--dockerfile -", "--dockerfile=-"):
        building, *_ = executed(["--no-push", *flags.split()])
        assert building.dockerfile == "-"


@pytest.fixture
def project(tmp_path: Path) -> str:
    """The flag for a context whose Dockerfile has one thing to warn of."""
    (tmp_path / "Dockerfile").write_text("FROM scratch AS one\nMAINTAINER \x1b[31mme\n")
    return f"--context={tmp_path}"


def test_check_builds_nothing_and_needs_no_destination(ended: Run, project: str) -> None:
    seen: list[object] = []
    app = kaniko_executor.cli.application(lambda *given, **_: seen.append(given))
    result = ended(app, "--check", project)
    assert (result.status, result.stderr, seen) == (1, "", [])
    assert result.stdout.startswith("WARNING: MaintainerDeprecated - https://")
    assert "2 | >>> MAINTAINER \\x1b[31mme\n" in result.stdout


def test_check_for_machines_is_json(ended: Run, project: str) -> None:
    result = ended(kaniko_executor.cli.app, "--check", project, "--log-format=json")
    assert [found["ruleName"] for found in json.loads(result.stdout)["warnings"]] == [
        "MaintainerDeprecated"
    ]


def test_check_comes_before_dryrun(ended: Run, project: str) -> None:
    assert ended(kaniko_executor.cli.app, "--check", "--dryrun", project).status == 1


def test_dryrun_builds_nothing_and_needs_no_destination(ended: Run, project: str) -> None:
    seen: list[object] = []
    app = kaniko_executor.cli.application(lambda *given, **_: seen.append(given))
    result = ended(app, "--dryrun", project)
    assert (result.status, seen) == (0, [])
    assert "  2  config  MAINTAINER \\x1b[31mme\n" in result.stdout
    assert result.stdout.endswith("\n\npush nowhere\n")
    assert "(MaintainerDeprecated)" in result.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_log_flags_are_the_same_in_both(ended: Run, program: str) -> None:
    options = typer.main.get_command(PROGRAMS[program]).params
    spellings = {spelling for option in options for spelling in option.opts}
    assert {"-v", "--verbosity", "--log-format", "--log-timestamp"} <= spellings


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_every_option_under_the_names_of_today(ended: Run, program: str) -> None:
    result = ended(PROGRAMS[program], "--help", name=program)
    assert (result.status, result.stderr) == (0, "")
    assert result.stdout == ended(PROGRAMS[program], "-h", name=program).stdout
    words = set(result.stdout.replace(",", " ").split())
    for option in typer.main.get_command(PROGRAMS[program]).params:
        shown = {name for name in option.opts if name.islower() and name not in OLD_NAMES}
        assert option.hidden or shown <= words
        assert not (set(option.opts) - shown) & words


def test_version_is_that_of_the_package(ended: Run) -> None:
    result = ended(kaniko_executor.cli.app, "version")
    assert result == Ended(0, f"kaniko-py version: {kaniko_core.__version__}\n", "")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == kaniko_core.__version__


# Whatever these need must not be loaded before there is something to do.
_LOADED = """
import sys
from {module}.__main__ import main
sys.argv[1:] = {argv}
status = main()
print(status, *sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""
_HEAVY = {"httpx", "oras", "requests", "rich", "isal", "dockerfile_parse", "filelock", "asyncio"}


@pytest.mark.parametrize(
    ("module", "argv", "status"),
    [
        ("kaniko_executor", ["--help"], 0),
        ("kaniko_executor", ["version"], 0),
        ("kaniko_executor", ["--no-such-flag"], 2),
        ("kaniko_executor", [], 2),
        ("kaniko_warmer", ["--help"], 0),
    ],
)
def test_nothing_heavy_is_loaded_to_say_a_few_words(
    module: str, argv: list[str], status: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(module=module, argv=argv)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    ended_with, *loaded = done.stderr.splitlines()[-1].split()
    assert int(ended_with) == status
    assert not _HEAVY & set(loaded)


@pytest.mark.parametrize(("library", "written"), [("obstore", "told"), ("other", "told late")])
def test_threads_of_a_library_do_not_outlive_the_interpreter(library: str, written: str) -> None:
    script = (
        "import atexit, sys\n"
        "from kaniko_core.cli import leave\n"
        f"sys.modules[{library!r}] = sys\n"
        "atexit.register(print, 'late')\n"
        "print('told')\n"
        "sys.exit(leave(3))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (3, written.split())


def test_log_options_reach_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    def talk(*_: object, progress: Callable[[Noted], None], **more: object) -> None:
        progress(Noted("something"))

    app = kaniko_executor.cli.application(talk)
    for flags, expected in (
        (["--log-format=text"], "something\n"),
        (["-v", "error"], ""),
        (["--log-format=json"], '"msg": "something"'),
    ):
        assert run(app, ["--no-push", *flags], name="kaniko-executor") == 0
        assert expected in capsys.readouterr().err


def test_every_log_format_and_level_has_a_flag_value() -> None:
    for value in (*LogFormat, *Verbosity):
        flag = "--log-format" if isinstance(value, LogFormat) else "--verbosity"
        executed(["--no-push", f"{flag}={value.value}"])
