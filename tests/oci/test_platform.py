"""Platforms: what containerd says they mean."""

from __future__ import annotations

from typing import Any

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.platform import Platform
from tests.conformance import cases

AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize(("given", "expected"), cases("platforms.json"))
def test_names_mean_what_containerd_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    if "error" in expected:
        with pytest.raises(UsageError):
            Platform.parse(given["spec"])
        return
    if given["spec"] == expected["os"] and Platform.host() != AMD64:
        pytest.skip("the table was made on linux/amd64, and this case takes the host's part")
    assert str(Platform.parse(given["spec"])) == expected["normalized"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("Linux/AMD64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/armhf/v6", "linux/arm/v7"),
        ("linux/i386/v2", "linux/386"),
        ("LINUX/ARM/V6", "linux/arm/v6"),
        ("windows(10.0.17763+win32k)/amd64", "windows/amd64"),
        ("x/y.z/w", "x/y.z/w"),
    ],
)
def test_other_names_are_normalised(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "linux//v7", "a/b/c/d", "linux/a b"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a platform") as caught:
        Platform.parse(text)
    assert caught.value.hint


def test_an_operating_system_may_have_a_version() -> None:
    assert Platform.parse("windows(10.0%2B1)/amd64").os_version == "10.0+1"
    for text in ("win.dows/amd64", "windows(/amd64", "windows(1(2))/amd64", "linux*", "(1)/amd64"):
        with pytest.raises(UsageError, match="not a platform"):
            Platform.parse(text)


@pytest.mark.parametrize(
    "text", ["windows(10.0.17763)/amd64", "windows(10.0%2B1)/x", "linux/arm/v7"]
)
def test_the_complete_name_is_read_as_what_it_was(text: str) -> None:
    assert Platform.parse(text).complete == text


def test_host_is_a_linux() -> None:
    assert Platform.host().os == "linux"
    assert Platform.parse("linux") == Platform.host()


@pytest.mark.parametrize(
    ("offered", "wanted", "serves"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
        ("linux/amd64/v3", "linux/amd64", False),
    ],
)
def test_image_serves_its_own_platform(offered: str, wanted: str, serves: bool) -> None:
    assert Platform.parse(offered).serves(Platform.parse(wanted)) is serves


def test_variant_that_an_index_leaves_out_is_the_usual_one() -> None:
    assert Platform("linux", "arm").serves(Platform("linux", "arm", "v7"))
    assert Platform("linux", "arm64", "v8").serves(Platform("linux", "arm64"))


def test_attestations_serve_nobody() -> None:
    assert not Platform("unknown", "unknown").serves(AMD64)
