from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from kaniko_core.errors import NotFound, RegistryError, Unauthorized
from kaniko_core.oci.reference import Reference
from kaniko_core.registry.failures import Answer, Attempt, Busy, refusal, retry_after
from kaniko_core.registry.pacing import Pacing

HUB = Reference.parse("library/no-such").repository


def error(status: int, body: bytes = b"", *, push: bool = False) -> RegistryError:
    return refusal(Answer(status, {}, body, ""), Attempt("do it", HUB, push))


def busy(retry_after: float | None) -> Busy:
    found = Busy("busy", status=503, code=None, hint=None)
    found.retry_after = retry_after
    return found


def test_docker_hubs_401_for_missing_repositories_is_explained() -> None:
    found = error(401)

    assert isinstance(found, Unauthorized)
    assert "no such repository" in (found.hint or "")
    assert "no such repository" not in (error(401, push=True).hint or "")


@pytest.mark.parametrize(
    ("status", "words"), [(405, "read-only"), (413, "limits the size"), (404, "create the")]
)
def test_refused_pushes_have_hints(status: int, words: str) -> None:
    assert words in (error(status, push=True).hint or "")


@pytest.mark.parametrize(
    ("name", "mirror"),
    [("library/x", "--registry-mirror=MIRROR"), ("quay.io/x", "--registry-map=quay.io=MIRROR")],
)
def test_limit_on_pulls_names_the_ways_out(name: str, mirror: str) -> None:
    repository = Reference.parse(name).repository
    hint = refusal(Answer(429, {}, b"", ""), Attempt("do it", repository)).hint or ""

    assert f"kaniko-executor login {repository.registry}" in hint
    assert mirror in hint
    assert "kaniko-warmer" in hint


def test_limit_on_pushes_is_not_said_to_be_one_on_pulls() -> None:
    hint = error(429, push=True).hint or ""

    assert "limits how much is asked" in hint
    assert "pulls" not in hint


def test_what_a_registry_repeats_of_our_secrets_is_not_shown() -> None:
    secrets = ("hunter2", "bWU6aHVudGVyMg==")
    said = {"code": "hunter2", "message": "x" * 195 + "Basic bWU6aHVudGVyMg== hunter2"}
    attempt = Attempt("do it", HUB, secrets=secrets)

    found = refusal(Answer(400, {}, json.dumps({"errors": [said]}).encode(), ""), attempt)

    assert "hunter2" not in str(found)
    assert "bWU6" not in str(found)
    assert "hunter2" not in repr(attempt)


def test_statuses_have_types() -> None:
    assert isinstance(error(403), Unauthorized)
    assert isinstance(error(404), NotFound)
    assert isinstance(error(503), Busy)
    assert type(error(400)) is RegistryError


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"errors": []}', b'{"errors": "x"}', b'{"errors": [5]}', b"\xff"],
)
def test_bodies_that_say_nothing_are_left_out(body: bytes) -> None:
    assert str(error(400, body)) == "cannot do it: docker.io answered 400"


def test_message_of_a_registry_fits_one_line() -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "one\\ntwo\\u001b[31m' + b"x" * 500 + b'"}]}'

    text = str(error(400, body))

    assert text.isprintable()
    assert len(text) < 300


def test_code_of_a_registry_ends_no_line() -> None:
    assert str(error(400, b'{"errors": [{"code": "A\\nerror: B"}]}')).endswith("(A error: B)")


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("0", 0.0), ("", None), ("soon", None)])
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}) == seconds


def test_retry_after_as_a_date() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    found = retry_after({"retry-after": then})
    assert found is not None
    assert 25 < found <= 30
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_a_date_beyond_the_calendar_asks_for_nothing() -> None:
    assert retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2300"}) is None


def test_pauses_grow_and_are_uneven_and_end() -> None:
    pacing = Pacing(retries=9, first=0.5)
    pauses = [[pacing.pause(RegistryError("x"), n) for _ in range(20)] for n in range(9)]

    assert all(0.25 <= pause <= 0.5 for pause in pauses[0])
    assert all(1.0 <= pause <= 2.0 for pause in pauses[2])
    assert all(10.0 <= pause <= 20.0 for pause in pauses[8])
    assert len(set(pauses[0])) > 1
    assert [pacing.gives_up(n) for n in (8, 9)] == [False, True]


def test_registry_decides_how_long_to_wait_within_reason() -> None:
    pacing = Pacing()

    assert pacing.pause(busy(10.0), 0) == 10.0
    assert pacing.pause(busy(3600.0), 0) == 60.0
    assert pacing.pause(busy(0.0), 5) == 0.0
    assert pacing.pause(busy(0.01), 0) >= 0.25


def test_registry_that_wants_to_be_left_alone_for_long_is() -> None:
    pacing = Pacing(retries=4)

    assert [pacing.gives_up(n, busy(120.0)) for n in (0, 2, 3)] == [False, False, True]
    assert pacing.gives_up(0, busy(3600.0))
    assert not pacing.gives_up(0, busy(None))


def test_where_somebody_else_can_be_asked_nobody_is_waited_for() -> None:
    brief = Pacing(retries=4).brief

    assert not brief.gives_up(0, busy(1.0))
    assert brief.gives_up(0, busy(60.0))
    assert brief.gives_up(1)
    assert Pacing(retries=0).brief.gives_up(0)
