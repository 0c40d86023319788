from __future__ import annotations

import pytest

from kaniko_core.registry.challenges import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            'scope="repository:library/debian:pull,push"',
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:library/debian:pull,push",
            },
        ),
        (
            "Bearer realm=https://a.example/token,service=x,scope=repository:x:pull,push",
            {"realm": "https://a.example/token", "service": "x", "scope": "repository:x:pull,push"},
        ),
        (
            'BEARER  Realm = "https://a.example/t?a=1,b=2" , SERVICE="with \\"quotes\\""',
            {"realm": "https://a.example/t?a=1,b=2", "service": 'with "quotes"'},
        ),
        ("Bearer", {}),
    ],
)
def test_reads_parameters_quoted_or_not(header: str, expected: dict[str, str]) -> None:
    assert parse_challenges([header]) == (Challenge("bearer", expected),)


def test_reads_several_challenges_of_one_header() -> None:
    header = 'Bearer realm="https://a.example/oauth2",service="s", Basic realm="the realm, here"'

    assert parse_challenges([header]) == (
        Challenge("bearer", {"realm": "https://a.example/oauth2", "service": "s"}),
        Challenge("basic", {"realm": "the realm, here"}),
    )


def test_reads_challenges_of_several_headers() -> None:
    found = parse_challenges(["Negotiate", 'Basic realm="x"'])

    assert [challenge.scheme for challenge in found] == ["negotiate", "basic"]


@pytest.mark.parametrize("rubbish", ["", ",,,", "=x", '"', 'realm="x"', "\x00", "Magic a=b"])
def test_skips_what_is_no_challenge(rubbish: str) -> None:
    assert parse_challenges([rubbish]) == ()
