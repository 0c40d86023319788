"""Options: what users may write, and which options fit together."""

from __future__ import annotations

import dataclasses
import typing
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.reference import Reference
from kaniko_core.options import (
    BuildOptions,
    CacheOptions,
    Destination,
    Flag,
    ImageOptions,
    LayerCacheOptions,
    ListOptions,
    LogOptions,
    OutputOptions,
    PruneOptions,
    RegistryOptions,
    WarmOptions,
)
from kaniko_core.values import build_arg, duration, key_value
from tests.conformance import cases

_BOTH = (CacheOptions, RegistryOptions, LogOptions)
PROGRAMS = {
    "kaniko-executor": (BuildOptions, OutputOptions, ImageOptions, LayerCacheOptions, *_BOTH),
    "kaniko-warmer": (WarmOptions, *_BOTH),
}
GROUPS = tuple(dict.fromkeys((*chain(*PROGRAMS.values()), PruneOptions, ListOptions)))
APP = Reference.parse("registry.example.com/app:1")


def flags(group: type) -> dict[str, Flag]:
    hints = typing.get_type_hints(group, include_extras=True)
    return {name: typing.get_args(hint)[1] for name, hint in hints.items()}


# --- values --------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), cases("durations.json"))
def test_durations_are_gos(given: dict[str, Any], expected: dict[str, Any]) -> None:
    if "error" in expected:
        with pytest.raises(UsageError, match="not a duration"):
            duration(given["d"])
    else:
        assert duration(given["d"]) == timedelta(microseconds=expected["ns"] // 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta(0)),
        ("336h", timedelta(weeks=2)),
        ("1h30m", timedelta(hours=1.5)),
        ("1.5h", timedelta(hours=1.5)),
        ("1.h", timedelta(hours=1)),
        ("2m0.5s", timedelta(minutes=2, seconds=0.5)),
        ("1h1h", timedelta(hours=2)),
        ("100ms", timedelta(milliseconds=100)),
        ("3µs", timedelta(microseconds=3)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "h", "5", "5 h", "5d", "-1h", "1h ", ".h", "1h30", "one", "1e3s", "9" * 30 + "h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration") as caught:
        duration(text)
    assert caught.value.hint


def test_only_the_first_equals_sign_separates() -> None:
    assert key_value("a=b=c") == ("a", "b=c")
    assert key_value("a=") == ("a", "")
    assert build_arg("A=b=c") == ("A", "b=c")


@pytest.mark.parametrize("text", ["", "a", "=b"])
def test_key_without_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no key and value"):
        key_value(text)


def test_build_argument_without_value_is_left_to_the_environment() -> None:
    assert build_arg("A") == ("A", None)
    assert build_arg("A=") == ("A", "")


@pytest.mark.parametrize("text", ["", "=b"])
def test_build_argument_has_a_name(text: str) -> None:
    with pytest.raises(UsageError, match="not a build argument"):
        build_arg(text)


# --- declarations --------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_field_is_a_flag_with_help_and_default(group: type) -> None:
    for field in dataclasses.fields(group):
        flag = flags(group)[field.name]
        assert isinstance(flag, Flag)
        assert flag.help.endswith(".")
        assert field.default is not dataclasses.MISSING


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_flag_of_a_program_is_declared_twice(program: str) -> None:
    names = [field.name for group in PROGRAMS[program] for field in dataclasses.fields(group)]
    assert len(set(names)) == len(names)


# --- what fits together --------------------------------------------------------------------


def test_image_goes_somewhere_or_nowhere_on_purpose() -> None:
    with pytest.raises(UsageError) as caught:
        OutputOptions().require_destination()
    assert "--destination" in (caught.value.hint or "")
    OutputOptions(no_push=True).require_destination()
    OutputOptions(destination=(Destination(APP),)).require_destination()


def test_digest_cannot_be_pushed_to() -> None:
    with pytest.raises(UsageError, match="a destination has a tag"):
        Destination(APP.at(Digest.of(b"")))


@pytest.mark.parametrize("name", ["image_download_retry", "push_retry"])
def test_fewer_than_no_retries_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be negative"):
        RegistryOptions(**{name: -1})
    assert getattr(RegistryOptions(**{name: 0}), name) == 0


def test_defaults_are_go_kanikos() -> None:
    assert BuildOptions().context == "/workspace/"
    assert BuildOptions().dockerfile == "Dockerfile"
    assert CacheOptions() == CacheOptions(cache_dir=Path("/cache"), cache_ttl=timedelta(hours=336))


def test_only_one_thing_comes_from_stdin() -> None:
    assert BuildOptions(context="tar://stdin").stdin_takers == ("the context tar://stdin",)
    assert BuildOptions(dockerfile="-").stdin_takers == ("the Dockerfile",)
    for more in (
        {"dockerfile": "-"},
        {"build_context": (("more", "tar://stdin"),)},
    ):
        with pytest.raises(UsageError, match="cannot both come from stdin"):
            BuildOptions(context="tar://stdin", **more)


def test_bucket_is_a_context() -> None:
    assert BuildOptions(bucket="b").location == "gs://b"
    assert BuildOptions(bucket="s3://b/key", context="").location == "s3://b/key"
    with pytest.raises(UsageError, match="two build contexts"):
        BuildOptions(bucket="b", context="/elsewhere")
