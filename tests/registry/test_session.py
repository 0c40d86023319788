from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from kaniko_core.errors import RegistryError, Unauthorized
from kaniko_core.progress import Event, Noted
from kaniko_core.registry.auth import Credentials
from kaniko_core.registry.client import Registry
from tests.registry.conftest import FixedKeychain, MakeRegistry
from tests.registry_server import Answer, RegistryServer, Seen
from tests.samples import AMD64, image

ME = Credentials("me", "hunter2")
BASIC = "Basic " + base64.b64encode(b"me:hunter2").decode()


def tokens(server: RegistryServer, life: int = 300) -> Callable[[Seen], Answer]:
    """A token service whose tokens are numbered."""
    count = 0

    def answer(seen: Seen) -> Answer:
        nonlocal count
        count += 1
        server.authorized.add(f"Bearer token-{count}")
        return Answer(200, text=json.dumps({"token": f"token-{count}", "expires_in": life}))

    return answer


@pytest.fixture
def guarded(server: RegistryServer) -> RegistryServer:
    """A registry with a token service, and an image ``app:1``."""
    server.challenge = (
        f'Bearer realm="http://{server.address}/token?account=x",service="the service",'
        'scope="repository:app:pull"'
    )
    server.token_service = tokens(server)
    server.add_image("app", "1", image())
    return server


def asked_tokens(server: RegistryServer) -> list[Seen]:
    return [seen for seen in server.requests if seen.path.startswith("/token")]


# --- tokens -------------------------------------------------------------------------------


def test_anonymous_token_is_got_and_kept(guarded: RegistryServer, registry: Registry) -> None:
    assert registry.get(guarded.reference("app:1"), AMD64) is not None

    (asked,) = asked_tokens(guarded)
    assert asked.authorization is None
    assert parse_qs(urlsplit(asked.path).query) == {
        "account": ["x"],
        "service": ["the service"],
        "scope": ["repository:app:pull"],
    }
    assert [seen.authorization for seen in guarded.requests if seen.path.startswith("/v2/")] == [
        None,
        "Bearer token-1",
        "Bearer token-1",
    ]


def test_password_is_given_to_the_token_service_only(
    guarded: RegistryServer, make_registry: MakeRegistry
) -> None:
    make_registry(ME).head(guarded.reference("app:1"))

    assert [seen.authorization for seen in guarded.requests] == [None, BASIC, "Bearer token-1"]


def test_identity_token_is_exchanged_by_oauth(
    guarded: RegistryServer, make_registry: MakeRegistry
) -> None:
    make_registry(Credentials(identity_token="refresh me")).head(guarded.reference("app:1"))

    (asked,) = asked_tokens(guarded)
    assert asked.method == "POST"
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["kaniko-py"],
        "service": ["the service"],
        "scope": ["repository:app:pull"],
        "refresh_token": ["refresh me"],
    }


def test_registry_token_is_sent_as_it_is(
    guarded: RegistryServer, make_registry: MakeRegistry
) -> None:
    guarded.authorized.add("Bearer ready made")

    make_registry(Credentials(registry_token="ready made")).head(guarded.reference("app:1"))

    assert asked_tokens(guarded) == []


def test_each_scope_has_its_own_token(guarded: RegistryServer, registry: Registry) -> None:
    registry.head(guarded.reference("app:1"))
    registry.head(guarded.reference("other:1"))

    scopes = [parse_qs(urlsplit(seen.path).query)["scope"] for seen in asked_tokens(guarded)]
    assert scopes == [["repository:app:pull"], ["repository:other:pull"]]


def test_token_is_not_sent_to_another_registry(
    guarded: RegistryServer, other_server: RegistryServer, registry: Registry
) -> None:
    registry.head(guarded.reference("app:1"))
    registry.head(other_server.reference("app:1"))

    assert [seen.authorization for seen in other_server.requests] == [None]


def test_token_is_renewed_before_it_expires(
    guarded: RegistryServer, make_registry: MakeRegistry
) -> None:
    from kaniko_core.registry.challenges import Challenge
    from kaniko_core.registry.failures import Answer as Received
    from kaniko_core.registry.tokens import Access, Authorizer

    now, given = 1000.0, 0

    def exchange(*request: object) -> Received:
        nonlocal given
        given += 1
        body = json.dumps({"access_token": f"t{given}", "expires_in": 100}).encode()
        return Received(200, {}, body, "")

    authorizer = Authorizer(FixedKeychain(), exchange, now=lambda: now)
    access = Access(guarded.reference("app").repository, ("s",), "https://r.example")
    challenge = Challenge("bearer", {"realm": "https://r.example/t"})

    assert authorizer.answer(access, (challenge,), None) == "Bearer t1"
    now += 79
    assert authorizer.known(access) == "Bearer t1"
    now += 2
    assert authorizer.known(access) == "Bearer t2"


def test_rejected_token_is_renewed_once(guarded: RegistryServer, registry: Registry) -> None:
    reference = guarded.reference("app:1")
    registry.head(reference)
    guarded.authorized.clear()

    assert registry.head(reference) is not None
    assert len(asked_tokens(guarded)) == 2


def test_registry_that_is_never_satisfied_is_given_up(
    guarded: RegistryServer, make_registry: MakeRegistry
) -> None:
    guarded.token_service = lambda seen: Answer(200, text='{"token": "useless"}')

    with pytest.raises(Unauthorized, match="401") as caught:
        make_registry(ME).manifest(guarded.reference("app:1"))

    assert guarded.address in str(caught.value)
    assert "first.json (not there), then second.json (entry x)" in (caught.value.hint or "")
    assert len(asked_tokens(guarded)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_password_is_a_sentence_without_the_password(
    guarded: RegistryServer, make_registry: MakeRegistry, status: int
) -> None:
    guarded.token_service = lambda seen: Answer(status, code="UNAUTHORIZED", message="bad password")

    with pytest.raises(Unauthorized, match=f"{status}.*bad password") as caught:
        make_registry(ME).head(guarded.reference("app:1"))

    assert "second.json" in (caught.value.hint or "")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_identity_token_that_has_expired_is_told_with_its_source(
    guarded: RegistryServer, make_registry: MakeRegistry
) -> None:
    """OAuth2 says 400 where a refresh token is not good any more."""
    guarded.token_service = lambda seen: Answer(400, text='{"error": "invalid_grant"}')

    with pytest.raises(
        Unauthorized, match=r"token service answered 400 \(invalid_grant\)$"
    ) as caught:
        make_registry(Credentials(identity_token="hunter2")).head(guarded.reference("app:1"))

    assert "(or they have expired)" in (caught.value.hint or "")
    assert "second.json" in (caught.value.hint or "")


@pytest.mark.parametrize("status", [400, 401, 403, 503])
@pytest.mark.parametrize("path", ["/manifests/", "/token"])
def test_registry_that_repeats_what_it_was_sent_shows_no_secret(
    guarded: RegistryServer, make_registry: MakeRegistry, status: int, path: str
) -> None:
    """Some put the whole request into their message."""
    secrets = ["token-1"] if path != "/token" else []
    secrets += [BASIC.removeprefix("Basic "), ME.password]
    repeats = Answer(status, code="UNKNOWN", message=f"you sent {' and '.join(secrets)}")
    registry = make_registry(ME, retries=0)
    if path != "/token":  # which gives the one token before
        assert registry.head(guarded.reference("app:1")) is not None
    guarded.misbehave(repeats, path=path, times=None)

    with pytest.raises(RegistryError, match="you sent") as caught:
        registry.manifest(guarded.reference("app:2"))

    for secret in secrets:
        assert secret not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"token": 5}',
        '{"token": "", "access_token": ""}',
        '{"token": "a\\nb"}',
        '{"token": "x", "expires_in": "soon"}',
        '{"token": "x", "expires_in": 1' + "0" * 400 + "}",
    ],
)
def test_token_service_must_give_a_token(
    guarded: RegistryServer, registry: Registry, text: str
) -> None:
    guarded.token_service = lambda seen: Answer(200, text=text)

    with pytest.raises(Unauthorized, match="without a token"):
        registry.head(guarded.reference("app:1"))


def test_busy_token_service_is_asked_again(guarded: RegistryServer, registry: Registry) -> None:
    guarded.misbehave(Answer(503, {"Retry-After": "0"}), path="/token", times=2)

    assert registry.head(guarded.reference("app:1")) is not None


def test_threads_share_one_token(guarded: RegistryServer, registry: Registry) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: registry.head(guarded.reference("app:1")), range(16)))

    assert None not in found
    assert len(asked_tokens(guarded)) == 1


# --- Basic --------------------------------------------------------------------------------


def test_basic_challenge_is_answered_and_remembered(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.challenge, server.authorized = 'Basic realm="Registry Realm"', {BASIC}
    registry = make_registry(ME)

    registry.get(server.add_image("app", "1", image()), AMD64)

    assert [seen.authorization for seen in server.requests] == [None, BASIC, BASIC]


def test_without_credentials_the_hint_says_where_they_were_looked_for(
    server: RegistryServer, registry: Registry
) -> None:
    server.challenge = 'Basic realm="x"'

    with pytest.raises(Unauthorized, match=r"401 \(UNAUTHORIZED: authentication") as caught:
        registry.manifest(server.reference("app:1"))

    assert "log in" in (caught.value.hint or "")
    assert "first.json (not there)" in (caught.value.hint or "")


def test_forbidden_is_a_sentence(server: RegistryServer, make_registry: MakeRegistry) -> None:
    server.misbehave(Answer(403, code="DENIED", message="not\nyours"), times=None)

    with pytest.raises(Unauthorized, match=r"403 \(DENIED: not yours\)"):
        make_registry(ME).manifest(server.reference("app:1"))


# --- where credentials do not go ----------------------------------------------------------


def test_token_service_of_strangers_is_not_given_the_password(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.challenge = 'Bearer realm="http://stranger.invalid/token",service="x"'

    with pytest.raises(Unauthorized, match=r"not sent: .*stranger\.invalid"):
        make_registry(ME).head(server.reference("app:1"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_takes_no_credentials_along(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry, status: int
) -> None:
    server.challenge, server.authorized = 'Basic realm="x"', {BASIC}
    original = image()
    reference = server.add_image("app", "1", original)
    other_server.add_image("app", "1", original)
    registry = make_registry(ME)
    registry.head(reference)
    for layer in original.layers:
        path = f"/v2/app/blobs/{layer.descriptor.digest}"
        target = f"http://{other_server.address}{path}?signature=s3cret"
        server.misbehave(Answer(status, {"Location": target}), path=path)

    got = registry.get(reference, AMD64)
    assert got is not None
    for layer in got.layers:
        with layer.open() as stream:
            assert stream.read()

    assert len(other_server.requests) == 2
    assert all(seen.authorization is None for seen in other_server.requests)


def test_redirect_on_the_same_host_keeps_them(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    server.challenge, server.authorized = 'Basic realm="x"', {BASIC}
    server.add_image("new", "1", image())
    registry = make_registry(ME)
    server.misbehave(Answer(307, {"Location": "/v2/new/manifests/1"}), path="/v2/old/", times=None)

    assert registry.head(server.reference("old:1")) is not None
    assert server.requests[-1].authorization == BASIC


def test_challenge_of_another_host_is_not_answered(
    server: RegistryServer, other_server: RegistryServer, make_registry: MakeRegistry
) -> None:
    other_server.challenge = 'Basic realm="give me"'
    target = f"http://{other_server.address}/v2/app/manifests/1"
    server.misbehave(Answer(307, {"Location": target}), times=None)

    with pytest.raises(Unauthorized):
        make_registry(ME).manifest(server.reference("app:1"))

    assert [seen.authorization for seen in other_server.requests] == [None]


def test_redirects_without_end_are_not_followed(server: RegistryServer, registry: Registry) -> None:
    server.misbehave(Answer(307, {"Location": "/v2/app/manifests/1"}), times=None)

    with pytest.raises(RegistryError, match="redirects without end"):
        registry.head(server.reference("app:1"))


def test_redirect_to_what_is_no_address_is_a_sentence(
    server: RegistryServer, registry: Registry
) -> None:
    for target in ("ftp://x/y", "http://[", "http://exa mple:x/"):
        server.misbehave(Answer(307, {"Location": target}))
        with pytest.raises(RegistryError):
            registry.head(server.reference("app:1"))


def test_signatures_and_passwords_are_not_logged(
    server: RegistryServer,
    other_server: RegistryServer,
    make_registry: MakeRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.challenge, server.authorized = 'Basic realm="x"', {BASIC}
    target = f"http://u:pw@{other_server.address}/x?signature=s3cret"
    server.misbehave(Answer(307, {"Location": target}), method="GET", path="/blobs/")
    reference = server.add_image("app", "1", image())

    with pytest.raises(RegistryError) as caught:
        make_registry(ME).get(reference, AMD64)

    written = f"{caplog.text} {caught.value} {caught.value.hint}"
    assert not any(word in written for word in ("s3cret", "hunter2", BASIC[6:], "u:pw"))


def test_cookies_are_not_kept(server: RegistryServer, registry: Registry) -> None:
    """Harbor takes a client with cookies for a browser."""
    server.misbehave(Answer(404, {"Set-Cookie": "session=1; Path=/"}))
    registry.head(server.reference("app:1"))
    registry.head(server.reference("app:1"))

    assert "cookie" not in server.requests[-1].headers


# --- trying again -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_pass_are_survived(
    server: RegistryServer, registry: Registry, status: int
) -> None:
    reference = server.add_image("app", "1", image())
    server.misbehave(Answer(status), times=3)

    assert registry.head(reference) is not None


@pytest.mark.parametrize("retries", [0, 2])
def test_failures_that_last_are_given_up(
    server: RegistryServer, make_registry: MakeRegistry, retries: int
) -> None:
    server.misbehave(Answer(503, code="UNAVAILABLE", message="upgrading"), times=None)

    with pytest.raises(RegistryError, match=r"503 \(UNAVAILABLE: upgrading\)") as caught:
        make_registry(retries=retries).manifest(server.reference("app:1"))

    assert caught.value.temporary
    assert len(server.requests) == 1 + retries


def test_refusals_are_not_repeated(server: RegistryServer, registry: Registry) -> None:
    server.misbehave(Answer(400, code="NAME_INVALID"), times=None)

    with pytest.raises(RegistryError, match="NAME_INVALID"):
        registry.manifest(server.reference("app:1"))

    assert len(server.requests) == 1


def test_limit_on_pulls_says_what_to_do(server: RegistryServer, registry: Registry) -> None:
    server.misbehave(Answer(429, code="TOOMANYREQUESTS", message="slow down"), times=None)

    with pytest.raises(RegistryError, match=r"429 \(TOOMANYREQUESTS: slow down\)") as caught:
        registry.manifest(server.reference("app:1"))

    assert "kaniko-warmer" in (caught.value.hint or "")


def test_limit_that_lasts_for_hours_is_not_waited_for(
    server: RegistryServer, registry: Registry
) -> None:
    limit = Answer(429, {"Retry-After": "21600"}, code="TOOMANYREQUESTS", message="pull rate limit")
    server.misbehave(limit, times=None)

    with pytest.raises(RegistryError, match="TOOMANYREQUESTS") as caught:
        registry.manifest(server.reference("app:1"))

    assert len(server.requests) == 1
    assert caught.value.__notes__ == [
        "it asks us to come back in 21600 s, which is too long to wait for"
    ]


def test_limit_is_waited_for_as_long_as_the_registry_says(
    server: RegistryServer, make_registry: MakeRegistry
) -> None:
    reference = server.add_image("app", "1", image())
    server.misbehave(Answer(429, {"Retry-After": "1"}, code="TOOMANYREQUESTS"), times=1)
    events: list[Event] = []

    assert make_registry(progress=events.append).head(reference) is not None

    (noted,) = (event.message for event in events if isinstance(event, Noted))
    assert "answered 429" in noted
    assert noted.endswith("; trying again in 1 s")
