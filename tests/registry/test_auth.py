from __future__ import annotations

import base64
import json
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.home import MARKER
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.registry.auth import Credentials, DockerKeychain, Lookup, config_files
from kaniko_core.registry.credentials import Keychain, LateKeychain
from tests.registry.conftest import FixedKeychain

HUB = Reference.parse("debian").repository
TEAM = Repository("quay.io", "team/app")


def auth(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def look_up(path: Path, config: object, repository: Repository, **env: str) -> Lookup:
    (path / "config.json").write_text(json.dumps(config))
    return DockerKeychain({"DOCKER_CONFIG": str(path), **env}).look_up(repository)


def user(found: Lookup) -> str | None:
    return found.credentials.username if found.credentials else None


@pytest.mark.parametrize(
    ("key", "repository"),
    [
        ("https://index.docker.io/v1/", HUB),
        ("index.docker.io", HUB),
        ("docker.io", HUB),
        ("registry-1.docker.io", HUB),
        ("https://quay.io", TEAM),
        ("quay.io/", TEAM),
        ("https://quay.io/v2/", TEAM),
        ("QUAY.io", TEAM),
        ("quay.io/team", TEAM),
        ("quay.io/team/app", TEAM),
        ("localhost:5000", Repository("localhost:5000", "x")),
    ],
)
def test_finds_entries_however_the_key_is_written(
    tmp_path: Path, key: str, repository: Repository
) -> None:
    assert user(look_up(tmp_path, {"auths": {key: auth("me")}}, repository)) == "me"


@pytest.mark.parametrize("key", ["quay.io:443", "quay.io/tea", "quay.io/team/app/x", "xquay.io"])
def test_ignores_entries_of_others(tmp_path: Path, key: str) -> None:
    assert look_up(tmp_path, {"auths": {key: auth("me")}}, TEAM).credentials is None


def test_longest_path_wins(tmp_path: Path) -> None:
    auths = {"quay.io": auth("a"), "quay.io/team": auth("b"), "quay.io/team/app": auth("c")}
    config = {"auths": auths}

    assert user(look_up(tmp_path, config, TEAM)) == "c"
    assert user(look_up(tmp_path, config, Repository("quay.io", "team/other"))) == "b"
    assert user(look_up(tmp_path, config, Repository("quay.io", "teams"))) == "a"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("me", "pass:word"), Credentials("me", "pass:word")),
        ({"username": "me", "password": "secret"}, Credentials("me", "secret")),
        ({"identitytoken": "t"}, Credentials(identity_token="t")),
        ({**auth("me", ""), "identitytoken": "t"}, Credentials("me", "", identity_token="t")),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
    ],
)
def test_reads_every_form_of_entry(
    tmp_path: Path, entry: dict[str, str], expected: Credentials
) -> None:
    assert look_up(tmp_path, {"auths": {"quay.io": entry}}, TEAM).credentials == expected


def test_config_is_named_as_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"auths": {"quay.io": auth("me")}}))

    assert user(DockerKeychain({"DOCKER_CONFIG": str(file)}).look_up(TEAM)) == "me"


def test_sources_are_asked_in_order(tmp_path: Path) -> None:
    home, runtime = tmp_path / "home", tmp_path / "run"
    (home / ".docker").mkdir(parents=True)
    (runtime / "containers").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {"a.io": auth("home")}}))
    both = {"auths": {"a.io": auth("file"), "b.io": auth("file")}}
    (tmp_path / "auth.json").write_text(json.dumps(both))
    everything = {"auths": {host: auth("runtime") for host in ("a.io", "b.io", "c.io")}}
    (runtime / "containers" / "auth.json").write_text(json.dumps(everything))
    inline = json.dumps({"auths": {"d.io": auth("inline")}})
    keychain = DockerKeychain(
        {
            "HOME": str(home),
            "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
            "XDG_RUNTIME_DIR": str(runtime),
            "DOCKER_AUTH_CONFIG": inline,
        }
    )
    found = {host: user(keychain.look_up(Repository(host, "x"))) for host in ("a.io", "b.io")}
    assert found == {"a.io": "home", "b.io": "file"}
    assert user(keychain.look_up(Repository("c.io", "x"))) == "runtime"
    assert user(keychain.look_up(Repository("d.io", "x"))) == "inline"

    missing = keychain.look_up(Repository("e.io", "x"))
    assert missing.credentials is None
    assert [source.partition(" ")[0] for source in missing.sources] == [
        "$DOCKER_AUTH_CONFIG",
        str(home / ".docker" / "config.json"),
        str(tmp_path / "auth.json"),
        str(runtime / "containers" / "auth.json"),
        str(home / ".config" / "containers" / "auth.json"),
        "$KANIKO_E_IO_USER",
    ]


@pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME"])
def test_podmans_file_below_the_home_directory(tmp_path: Path, variable: str) -> None:
    directory = tmp_path / ".config" if variable == "HOME" else tmp_path
    (directory / "containers").mkdir(parents=True)
    content = json.dumps({"auths": {"quay.io/team": auth("me")}})
    (directory / "containers" / "auth.json").write_text(content)

    assert user(DockerKeychain({variable: str(tmp_path)}).look_up(TEAM)) == "me"


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    found = DockerKeychain({"HOME": str(tmp_path)}).look_up(TEAM)

    assert found.credentials is None
    assert found.sources == (
        f"{tmp_path}/.docker/config.json (not there)",
        f"{tmp_path}/.config/containers/auth.json (not there)",
        "$KANIKO_QUAY_IO_USER (not set)",
    )
    assert DockerKeychain({}, helpers=()).look_up(TEAM) == Lookup(None)


def test_unreadable_file_is_a_source_without_entries(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()

    found = DockerKeychain({"DOCKER_CONFIG": str(tmp_path)}).look_up(TEAM)

    assert found.credentials is None
    assert found.sources[0] == f"{tmp_path}/config.json (Is a directory)"


@pytest.mark.parametrize("content", ["{", "[]", "\x00\x01", "null"])
def test_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(UsageError, match=r"config\.json: it is not a JSON object"):
        DockerKeychain({"DOCKER_CONFIG": str(tmp_path)}).look_up(TEAM)


@pytest.mark.parametrize("value", ["not base64!", "bm9jb2xvbg=="])
def test_damaged_entry_is_named_without_its_value(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match=r"entry quay\.io is damaged") as caught:
        look_up(tmp_path, {"auths": {"quay.io": {"auth": value}}}, TEAM)

    assert value not in str(caught.value)


def test_files_that_are_read_late_are_known() -> None:
    """A build in place keeps them where they are."""
    env = {
        "DOCKER_CONFIG": "/docker",
        "REGISTRY_AUTH_FILE": "/podman.json",
        "XDG_RUNTIME_DIR": "/run/me",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/aws/token",
        "AZURE_FEDERATED_TOKEN_FILE": "/azure/token",
        "GOOGLE_APPLICATION_CREDENTIALS": "/google/key.json",
    }
    assert set(map(str, config_files(env))) == {
        "/docker/config.json",
        "/podman.json",
        "/run/me/containers/auth.json",
        "/aws/token",
        "/azure/token",
        "/google/key.json",
    }


# --- helpers ------------------------------------------------------------------------------


def helper(path: Path, name: str, script: str) -> str:
    """Install a credential helper; return a PATH that has it."""
    directory = path / "bin"
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(
        f'#!/bin/sh\nread -r server || true\necho "$server" >> {path}/asked\n{script}'
    )
    program.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


ANSWER = """echo '{"ServerURL":"x","Username":"me","Secret":"secret"}'\n"""


def test_helper_of_the_registry_is_asked(tmp_path: Path) -> None:
    path = helper(tmp_path, "mine", ANSWER)
    config = {"credHelpers": {"quay.io": "mine"}, "auths": {"quay.io": auth("other")}}

    found = look_up(tmp_path, config, TEAM, PATH=path)

    assert found.credentials == Credentials("me", "secret")
    assert (tmp_path / "asked").read_text() == "quay.io\n"
    assert found.sources == (f"{tmp_path}/config.json (credential helper mine)",)


def test_store_is_asked_for_docker_hub_by_its_old_name(tmp_path: Path) -> None:
    path = helper(tmp_path, "store", ANSWER)
    config = {"credsStore": "store", "auths": {"https://index.docker.io/v1/": {}}}

    assert user(look_up(tmp_path, config, HUB, PATH=path)) == "me"
    assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/\n"


def test_helper_may_have_an_identity_token(tmp_path: Path) -> None:
    path = helper(tmp_path, "s", """echo '{"Username":"<token>","Secret":"t"}'\n""")

    found = look_up(tmp_path, {"credsStore": "s"}, TEAM, PATH=path)

    assert found.credentials == Credentials(identity_token="t")


def test_helper_may_know_nothing(tmp_path: Path) -> None:
    script = "echo 'credentials not found in native keychain'; exit 1\n"
    path = helper(tmp_path, "s", script)

    found = look_up(tmp_path, {"credsStore": "s"}, TEAM, PATH=path)

    assert found.credentials is None
    assert found.sources[0] == f"{tmp_path}/config.json (credential helper s knows none)"


def test_registrys_own_helper_that_knows_nothing_is_not_the_last(tmp_path: Path) -> None:
    script = "echo 'credentials not found in native keychain'; exit 1\n"
    path = helper(tmp_path, "s", script)
    config = {"credHelpers": {"quay.io": "s"}, "auths": {"quay.io": auth("me")}}

    found = look_up(tmp_path, config, TEAM, PATH=path)

    assert user(found) == "me"
    assert found.sources == (
        f"{tmp_path}/config.json (credential helper s knows none)",
        f"{tmp_path}/config.json (entry quay.io)",
    )


def test_helper_beside_our_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In our images there is nothing on PATH that a build could not replace."""
    helper(tmp_path, "mine", ANSWER)
    (tmp_path / MARKER).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))

    found = look_up(tmp_path, {"credsStore": "mine"}, TEAM, PATH="/usr/bin:/bin")

    assert found.credentials == Credentials("me", "secret")


def test_files_that_are_renewed_are_read_again(tmp_path: Path) -> None:
    """Kubernetes replaces a secret while the pod that has it mounted is running."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {"quay.io": auth("before")}}))
    keychain = DockerKeychain({"DOCKER_CONFIG": str(tmp_path)})
    assert user(keychain.look_up(TEAM)) == "before"

    config.write_text(json.dumps({"auths": {"quay.io": auth("after")}}))

    assert user(keychain.look_up(TEAM)) == "after"


@pytest.mark.parametrize(
    ("name", "script", "why"),
    [
        ("s", "echo 'keychain is locked'; exit 1\n", "keychain is locked"),
        ("s", "echo rubbish\n", "no Username and Secret"),
        ("other", "", "not installed"),
    ],
)
def test_broken_helper_is_named(tmp_path: Path, name: str, script: str, why: str) -> None:
    path = helper(tmp_path, name, script)

    with pytest.raises(UsageError, match=f"docker-credential-s does not work: .*{why}") as caught:
        look_up(tmp_path, {"credsStore": "s"}, TEAM, PATH=path)

    assert "config.json" in (caught.value.hint or "")


def test_helper_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    path = helper(tmp_path, "s", ANSWER)
    (tmp_path / "bin" / "docker-credential-s").chmod(0o644)

    with pytest.raises(UsageError, match="docker-credential-s does not work"):
        look_up(tmp_path, {"credsStore": "s"}, TEAM, PATH=path)


def test_helpers_name_cannot_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no credential helper"):
        look_up(tmp_path, {"credsStore": "../../bin/sh"}, TEAM)


# --- secrecy ------------------------------------------------------------------------------


def test_credentials_do_not_show() -> None:
    secret = Credentials("someone", "hunter2", "identity1", "registry2")
    shown = [repr(secret), str(secret), f"{secret}", repr(Lookup(secret)), f"{[secret]}"]
    try:
        raise ValueError(secret)
    except ValueError:
        shown.append(traceback.format_exc())

    words = ("someone", "hunter2", "identity1", "registry2")
    for text in shown:
        assert not any(word in text for word in words)


def test_a_late_keychain_is_made_once_and_when_it_is_asked() -> None:
    inner, made = FixedKeychain(Credentials("me", "secret")), []

    def make() -> Keychain:
        made.append(inner)
        return inner

    late = LateKeychain(make)
    assert not made
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(late.look_up, [HUB, TEAM] * 8))
    assert {user(each) for each in found} == {"me"}
    assert (len(made), len(inner.asked)) == (1, 16)
