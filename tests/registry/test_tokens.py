"""When headers are made anew: the clock is the test's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from kaniko_core.oci.reference import Repository
from kaniko_core.registry.auth import Credentials, Lookup
from kaniko_core.registry.challenges import Challenge
from kaniko_core.registry.failures import Answer
from kaniko_core.registry.tokens import Access, Authorizer, push_scope

APP = Repository("quay.io", "app")
ACCESS = Access(APP, (push_scope(APP),), "https://quay.io")
BEARER = Challenge("bearer", {"realm": "https://quay.io/token"})
BASIC = Challenge("basic")


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Rotating:
    """A keychain whose credentials change each time, and live for 100 seconds."""

    def __init__(self, clock: Clock, pattern: Credentials) -> None:
        self._clock = clock
        self._pattern = pattern
        self.asked = 0

    def look_up(self, repository: Repository) -> Lookup:
        self.asked += 1
        fields = ("password", "identity_token", "registry_token")
        values = {name: getattr(self._pattern, name) for name in fields}
        changed = {name: f"{value}{self.asked}" for name, value in values.items() if value}
        return Lookup(replace(self._pattern, **changed, expires=self._clock() + 100))


class Service:
    """Gives tokens that live for 50 seconds, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        self.shown.append((body or b"").decode())
        token = {"token": f"token-{len(self.shown)}", "expires_in": 50}
        return Answer(200, {}, json.dumps(token).encode(), url)


@pytest.mark.parametrize(
    ("pattern", "scheme"),
    [
        (Credentials("AWS", "password"), BASIC),
        (Credentials(registry_token="token"), BEARER),
    ],
)
def test_credentials_of_a_cloud_are_renewed_when_they_run_out(
    pattern: Credentials, scheme: Challenge
) -> None:
    """Amazon's passwords end after hours; a build may be longer."""
    clock = Clock()
    keychain = Rotating(clock, pattern)
    authorizer = Authorizer(keychain, Service(), clock)

    first = authorizer.answer(ACCESS, (scheme,), None)
    clock.time += 99
    assert authorizer.known(ACCESS) == first
    clock.time += 2
    second = authorizer.known(ACCESS)

    assert second is not None
    assert second != first
    assert keychain.asked == 2


def test_tokens_are_renewed_before_they_run_out_with_what_is_valid_then() -> None:
    clock, service = Clock(), Service()
    keychain = Rotating(clock, Credentials(identity_token="identity"))
    authorizer = Authorizer(keychain, service, clock)

    assert authorizer.answer(ACCESS, (BEARER,), None) == "Bearer token-1"
    clock.time += 39
    assert authorizer.known(ACCESS) == "Bearer token-1"
    # Ten seconds before its end.
    clock.time += 2
    assert authorizer.known(ACCESS) == "Bearer token-2"
    assert "refresh_token=identity1" in service.shown[0]
    assert "refresh_token=identity2" in service.shown[1]
