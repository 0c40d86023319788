from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from kaniko_core.errors import DiskError, UsageError
from kaniko_core.oci.reference import Repository
from kaniko_core.registry.auth import Credentials, DockerKeychain
from kaniko_core.registry.logins import Server, erase, store

ME = Credentials("me", "hunter2")
# Keeps what it is given in a file, as `docker-credential-pass` does in its own way.
HELPER = """\
#!/bin/sh
kept={directory}/kept
case "$1" in
store) cat > $kept ;;
get) cat $kept 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;
erase) rm $kept 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;
esac
"""


def with_helper(directory: Path, name: str = "kept") -> dict[str, str]:
    """Install a helper program that keeps one entry; return an environment that has it."""
    program = directory / f"docker-credential-{name}"
    program.write_text(HELPER.format(directory=directory))
    program.chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin", "DOCKER_CONFIG": str(directory)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def content(config: Path) -> object:
    return json.loads(config.read_text())


@pytest.mark.parametrize(
    ("text", "name", "key"),
    [
        ("quay.io", "quay.io", "quay.io"),
        ("QUAY.io/", "quay.io", "quay.io"),
        ("https://quay.io/v2/", "quay.io", "quay.io"),
        ("quay.io/team", "quay.io/team", "quay.io/team"),
        ("localhost:5000", "localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000", "[::1]:5000"),
        ("docker.io", "docker.io", "https://index.docker.io/v1/"),
        ("index.docker.io", "docker.io", "https://index.docker.io/v1/"),
        ("https://index.docker.io/v1/", "docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_names_of_registries(text: str, name: str, key: str) -> None:
    server = Server.parse(text)

    assert (server.name, server.key) == (name, key)
    assert str(server.repository).startswith(name)


@pytest.mark.parametrize("text", ["", "quay", "team/app", "quay.io/Team", "quay.io:x", "a b.io"])
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a registry"):
        Server.parse(text)


@pytest.mark.parametrize("name", ["quay.io", "docker.io", "quay.io/team", "localhost:5000"])
def test_what_is_stored_is_found_until_it_is_erased(config: Path, name: str) -> None:
    server = Server.parse(name)
    keychain = DockerKeychain({"DOCKER_CONFIG": str(config.parent)})
    repository = Repository.parse(f"{name}/app")

    assert store(server, ME, config) == str(config)
    assert keychain.look_up(repository).credentials == ME

    assert erase(server, config)
    assert keychain.look_up(repository).credentials is None
    assert not erase(server, config)


def test_everything_else_stays(config: Path) -> None:
    before = {
        "HttpHeaders": {"X": "y"},
        "auths": {"z.io": {"auth": "eDp5"}, "a.io": {"auth": "eDp6", "email": "x"}},
        "psFormat": "table",
    }
    config.write_text(json.dumps(before))

    store(Server.parse("quay.io"), ME, config)
    after = json.loads(config.read_text())
    assert list(after) == list(before)
    assert after["auths"].pop("quay.io") == {"auth": "bWU6aHVudGVyMg=="}
    assert after == before

    erase(Server.parse("quay.io"), config)
    assert content(config) == before


def test_entry_by_another_spelling_is_replaced(config: Path) -> None:
    auths = {"https://quay.io/v1/": {"auth": "eDp5"}, "quay.io/team": {"auth": "eDp6"}}
    config.write_text(json.dumps({"auths": auths}))

    store(Server.parse("quay.io"), ME, config)

    kept = json.loads(config.read_text())["auths"]
    assert list(kept) == ["quay.io/team", "quay.io"]


def test_only_the_owner_can_read_what_is_stored(tmp_path: Path) -> None:
    config = tmp_path / "new" / "config.json"
    store(Server.parse("quay.io"), ME, config)

    assert config.stat().st_mode & 0o777 == 0o600
    assert config.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in config.parent.iterdir()] == ["config.json"]


def test_link_stays_a_link(tmp_path: Path, config: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("{}")
    config.symlink_to(real)

    store(Server.parse("quay.io"), ME, config)

    assert config.is_symlink()
    assert "quay.io" in real.read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"auths": null}'])
def test_damaged_file_is_left_alone(config: Path, text: str) -> None:
    config.write_text(text)

    with pytest.raises(UsageError, match=r"config\.json|config file"):
        store(Server.parse("quay.io"), ME, config)

    assert config.read_text() == text


def test_no_room_for_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DiskError, match=r"cannot keep credentials in .*config\.json: "):
        store(Server.parse("quay.io"), ME, tmp_path / "file" / "config.json")


def test_logins_at_the_same_time_are_all_kept(config: Path) -> None:
    names = [f"r{number}.example.com" for number in range(20)]
    threads = [
        threading.Thread(target=store, args=(Server.parse(name), ME, config)) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(json.loads(config.read_text())["auths"]) == sorted(names)


# --- helpers ------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [{"credsStore": "kept"}, {"credHelpers": {"quay.io": "kept"}}])
def test_helper_keeps_what_it_is_configured_for(
    tmp_path: Path, config: Path, setting: dict[str, object]
) -> None:
    env = with_helper(tmp_path)
    config.write_text(json.dumps(setting))
    server, repository = Server.parse("quay.io"), Repository("quay.io", "app")

    place = store(server, ME, config, env)

    assert place == f"the credential helper kept, which {config} names"
    assert content(config) == {**setting, "auths": {"quay.io": {}}}
    assert json.loads((tmp_path / "kept").read_text()) == {
        "ServerURL": "quay.io",
        "Username": "me",
        "Secret": "hunter2",
    }
    assert DockerKeychain(env).look_up(repository).credentials == ME

    assert erase(server, config, env)
    assert content(config) == {**setting, "auths": {}}
    assert not (tmp_path / "kept").exists()
    assert DockerKeychain(env).look_up(repository).credentials is None


def test_helper_of_another_registry_is_not_used(tmp_path: Path, config: Path) -> None:
    env = with_helper(tmp_path)
    config.write_text(json.dumps({"credHelpers": {"gcr.io": "kept"}}))

    assert store(Server.parse("quay.io"), ME, config, env) == str(config)
    assert not (tmp_path / "kept").exists()


def test_helper_that_fails_changes_nothing(tmp_path: Path, config: Path) -> None:
    env = with_helper(tmp_path)
    (tmp_path / "docker-credential-kept").write_text("#!/bin/sh\necho it is locked\nexit 1\n")
    before = json.dumps({"credsStore": "kept", "auths": {"quay.io": {"auth": "eDp5"}}})
    config.write_text(before)

    with pytest.raises(UsageError, match=r"docker-credential-kept does not work: .*locked"):
        store(Server.parse("quay.io"), ME, config, env)

    assert config.read_text() == before
