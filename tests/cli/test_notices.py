"""What Go kaniko's users still write is understood, and they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.programs import PROGRAMS, recording


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("--use-cache", "--cache", "cache"),
        ("--whitelist-var-run", "--ignore-var-run", "ignore_var_run"),
    ],
)
def test_an_old_name_is_understood_with_a_notice(
    ended: Run, old: str, new: str, field: str
) -> None:
    seen: dict[str, Any] = {}
    result = ended(recording(seen), "--no-push", f"{old}=true")
    assert (result.status, result.stderr) == (0, f"{old} is the old name of {new}\n")
    assert seen[field] is True


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--force-build-metadata", "the history of an image has all its instructions"),
        ("--skip-unused-stages", "stages that the image does not need are never built"),
    ],
)
def test_a_flag_without_effect_says_so(
    ended: Run, monkeypatch: pytest.MonkeyPatch, flag: str, reason: str
) -> None:
    told = f"{flag} has no effect: {reason}\n"
    for argv in ([flag], [f"{flag}=false"], [f"{flag}=1"]):
        result = ended(recording({}), "--no-push", *argv)
        assert (result.status, result.stderr) == (0, told)
    assert flag not in ended(recording({}), "--help").stdout
    assert ended(recording({}), "--no-push", f"{flag}=maybe").status == 2
    monkeypatch.setenv(f"KANIKO_{flag[2:].replace('-', '_').upper()}", "true")
    assert ended(recording({}), "--no-push").stderr == told


def test_notices_obey_the_flags_for_logs(ended: Run) -> None:
    argv = ("--no-push", "--skip-unused-stages")
    assert ended(recording({}), *argv, "--verbosity=warn").stderr == ""
    assert ended(recording({}), *argv, "--log-format=json").stderr.startswith("{")


def test_feature_flags_change_nothing_and_this_is_told(
    ended: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: dict[str, Any] = {}
    ended(recording(plain), "--no-push")
    monkeypatch.setenv("FF_KANIKO_RUN_VIA_TINI", "true")
    seen: dict[str, Any] = {}
    result = ended(recording(seen), "--no-push")
    assert result.stderr == (
        "FF_KANIKO_RUN_VIA_TINI changes nothing: here, features have no switches\n"
    )
    assert seen == plain
    monkeypatch.setenv("FF_KANIKO_OCI_WARMER", "false")
    assert ended(PROGRAMS["kaniko-warmer"], name="kaniko-warmer").stderr.startswith(
        "FF_KANIKO_OCI_WARMER, FF_KANIKO_RUN_VIA_TINI change nothing: "
    )


# --- the plan ------------------------------------------------------------------------------


@pytest.mark.parametrize("by_variable", [True, False])
def test_the_plan_is_printed_and_the_image_built(
    ended: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_variable: bool
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nMAINTAINER me\n")
    argv = ["--no-push", f"--context={tmp_path}"]
    only = ended(recording({}), *argv, "--dryrun")
    if by_variable:
        monkeypatch.setenv("KANIKO_PRINT_PLAN", "true")
    else:
        argv.append("--print-plan")
    seen: dict[str, Any] = {}
    result = ended(recording(seen), *argv)
    # What there is to warn of is told by the build.
    assert (result.status, result.stdout, result.stderr) == (0, only.stdout, "")
    assert seen["context"] == str(tmp_path)
    assert "push nowhere" in result.stdout


def test_what_comes_from_stdin_is_not_read_twice(ended: Run, tmp_path: Path) -> None:
    for argv in (("--context=tar://stdin",), (f"--context={tmp_path}", "--dockerfile=-")):
        result = ended(recording({}), "--no-push", *argv, "--print-plan")
        assert result.status == 2
        assert "nothing is left of it for the build" in result.stderr


def test_without_a_plan_there_is_no_image(ended: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nRUNN x\n")
    seen: dict[str, Any] = {}
    result = ended(recording(seen), "--no-push", f"--context={tmp_path}", "--print-plan")
    assert (result.status, result.stdout, seen) == (1, "", {})
    assert "did you mean RUN?" in result.stderr
