"""Credentials from everywhere, against registries that want them; and where they must not show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from integration.programs import Finished, Programs
from integration.registry_world import TokenService, token_registry
from integration.world import REPOSITORY, Passwords, Registry

MakeRegistry = Callable[..., Registry]
USER = Passwords("me", "hunter2-hunter2")
DOCKERFILE = "FROM scratch\nCOPY file /\n"


@pytest.fixture
def closed(make_registry: MakeRegistry) -> Registry:
    """A registry with one user."""
    return make_registry(passwords=USER)


def build_to(
    programs: Programs,
    destination: str,
    *flags: str,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Finished:
    """Build something small and push it, at the most talkative level."""
    context = programs.directory / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "file").write_text("content")
    return programs.executor(
        f"--context={context}",
        f"--destination={destination}",
        "--verbosity=trace",
        *flags,
        env=env,
        check=check,
    )


def executor(programs: Programs, *arguments: str, given: str = "", **env: str) -> Finished:
    """Run the executor with something on stdin."""
    done = subprocess.run(
        [sys.executable, "-m", "kaniko_executor", *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=programs.directory,
        env={
            **programs.environment({}),
            "DOCKER_CONFIG": str(programs.directory / "docker"),
            "PYTHONPATH": str(REPOSITORY),
            **env,
        },
        check=False,
        timeout=60,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def config_of(programs: Programs) -> Path:
    return programs.directory / "docker" / "config.json"


# --- login and logout ---------------------------------------------------------------------


def test_login_push_and_logout(closed: Registry, programs: Programs) -> None:
    logged_in = executor(
        programs,
        *("login", closed.address, "-u", USER.user, "--password-stdin", "-v", "trace"),
        given=f"{USER.password}\n",
    )
    assert logged_in.status == 0, logged_in.stderr
    assert logged_in.stdout == (
        f"logged in to {closed.address}; the credentials are in {config_of(programs)}\n"
    )
    assert logged_in.stderr == ""
    assert config_of(programs).stat().st_mode & 0o777 == 0o600

    env = {"DOCKER_CONFIG": str(config_of(programs).parent)}
    built = build_to(programs, f"{closed.address}/app:1", env=env)
    skopeo = ["skopeo", "inspect", "--tls-verify=false", f"--authfile={config_of(programs)}"]
    subprocess.run([*skopeo, f"docker://{closed.address}/app:1"], check=True, capture_output=True)

    logged_out = executor(programs, "logout", closed.address)
    assert logged_out.stdout == f"logged out of {closed.address}\n"
    again = executor(programs, "logout", closed.address)
    assert again.stdout == f"there were no credentials for {closed.address}\n"
    refused = build_to(programs, f"{closed.address}/app:2", env=env, check=False)
    assert refused.status != 0
    for done in (logged_in, built, logged_out, refused):
        assert USER.password not in done.written


def test_wrong_password_is_not_stored(closed: Registry, programs: Programs) -> None:
    done = executor(programs, "login", closed.address, "-u", "me", "-p", "guessed-it", "-v=trace")

    assert done.status == 1
    assert f"error: cannot log in to {closed.address}: {closed.address} answered 401" in done.stderr
    assert "hint: nothing was stored; check the name and the password" in done.stderr
    assert "the password was given on the command line" in done.stderr
    assert "guessed-it" not in done.written
    assert not config_of(programs).exists()


def test_login_with_a_token_service(tmp_path: Path, programs: Programs) -> None:
    service = TokenService("me", "hunter2-hunter2")
    with token_registry(tmp_path / "registry", service) as address:
        wrong = executor(programs, "login", address, "-u=me", "--password-stdin", given="guess")
        right = executor(
            programs, "login", address, "-u=me", "--password-stdin", given="hunter2-hunter2"
        )

    assert f"error: cannot log in to {address}: {address} answered 401" in wrong.stderr
    assert right.status == 0, right.stderr
    assert address in json.loads(config_of(programs).read_text())["auths"]


def test_login_where_nobody_asks_for_a_password(registry: Registry, programs: Programs) -> None:
    done = executor(programs, "login", registry.address, "-u=me", "--password-stdin", given="x")

    assert done.status == 0
    assert f"{registry.address} did not ask for a password" in done.stderr


def test_login_by_tls(make_registry: MakeRegistry, programs: Programs) -> None:
    closed = make_registry(tls=True, passwords=USER)
    words = ("login", closed.address, "-u=me", "--password-stdin")
    trusting = f"--registry-certificate={closed.address}={closed.certificate}"

    stranger = executor(programs, *words, given=USER.password)
    right = executor(programs, *words, trusting, given=USER.password)

    assert stranger.status == 1
    assert f"error: cannot verify the TLS certificate of {closed.address}" in stranger.stderr
    assert right.status == 0, right.stderr
    assert closed.address in json.loads(config_of(programs).read_text())["auths"]


def test_login_to_a_part_of_a_registry(closed: Registry, programs: Programs) -> None:
    words = ("login", f"{closed.address}/team", "-u=me", "--password-stdin")
    assert executor(programs, *words, given=USER.password).status == 0

    env = {"DOCKER_CONFIG": str(config_of(programs).parent)}
    build_to(programs, f"{closed.address}/team/app:1", env=env)
    other = build_to(programs, f"{closed.address}/app:1", env=env, check=False)
    assert "log in with an account that may push to app" in other.stderr


def test_login_into_a_helper(closed: Registry, programs: Programs) -> None:
    """What the helper keeps is used by builds, and is not in the file."""
    directory = programs.directory / "bin"
    directory.mkdir()
    program = directory / "docker-credential-kept"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in store) cat > {directory}/kept ;; get) cat {directory}/kept ;; '
        f"erase) rm {directory}/kept ;; esac\n"
    )
    program.chmod(0o755)
    config_of(programs).parent.mkdir()
    config_of(programs).write_text('{"credsStore": "kept"}')
    path = f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin"
    words = ("login", closed.address, "-u=me", "--password-stdin")

    done = executor(programs, *words, given=USER.password, PATH=path)
    assert f"the credential helper kept, which {config_of(programs)} names" in done.stdout
    assert json.loads(config_of(programs).read_text()) == {
        "credsStore": "kept",
        "auths": {closed.address: {}},
    }
    env = {"DOCKER_CONFIG": str(config_of(programs).parent), "PATH": path}
    built = build_to(programs, f"{closed.address}/app:1", env=env)
    assert USER.password not in built.written

    assert executor(programs, "logout", closed.address, PATH=path).status == 0
    assert not (directory / "kept").exists()


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (("login",), "", "missing argument 'REGISTRY'"),
        (("login", "a.io"), "", "there is no user's name"),
        (("login", "a.io", "-u=me"), "", "there is no password"),
        (("login", "a.io", "-u=me", "--password-stdin"), "\n", "the password is empty"),
        (("login", "a.io", "-u=a:b", "-p=x"), "", "a user's name cannot have a colon"),
        (("login", "a.io", "-u=me", "-p=x", "--password-stdin"), "", "cannot be given together"),
        (("login", "team/app", "-u=me", "-p=x"), "", "'team/app' is not the name of a registry"),
        (("logout", "A b"), "", "'A b' is not the name of a registry"),
    ],
)
def test_bad_logins(
    programs: Programs, arguments: tuple[str, ...], given: str, sentence: str
) -> None:
    done = executor(programs, *arguments, given=given)

    assert done.status == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_login_without_any_place_for_it(programs: Programs) -> None:
    done = executor(programs, "login", "a.io", "-u=me", "-p=x", DOCKER_CONFIG="", HOME="")

    assert done.status == 2
    assert "neither DOCKER_CONFIG nor HOME is set" in done.stderr


# --- the environment ----------------------------------------------------------------------


def variables_of(registry: Registry) -> dict[str, dict[str, str]]:
    """Return the variables that give a registry's password, by the helper that reads them."""
    name = registry.address.replace(".", "_").replace(":", "_")
    return {
        "env": {f"KANIKO_{name}_USER": USER.user, f"KANIKO_{name}_PASSWORD": USER.password},
        "gitlab": {
            "CI_REGISTRY": registry.address,
            "CI_REGISTRY_USER": USER.user,
            "CI_REGISTRY_PASSWORD": USER.password,
        },
    }


@pytest.mark.parametrize("helper", ["env", "gitlab"])
def test_variables_are_enough(closed: Registry, programs: Programs, helper: str) -> None:
    env = variables_of(closed)[helper]
    selected = f"--credential-helpers={helper}"
    for flags in ((), (selected,)):
        done = build_to(programs, f"{closed.address}/app:1", *flags, env=env)
        assert USER.password not in done.written

    for flags in (("--credential-helpers=",), (f"--credential-helpers={_OTHER[helper]}",)):
        done = build_to(programs, f"{closed.address}/app:1", *flags, env=env, check=False)
        assert done.status != 0
        assert "log in with an account that may push to app" in done.stderr
        assert USER.password not in done.written


_OTHER = {"env": "gitlab", "gitlab": "env"}


def test_gitlabs_job_token(make_registry: MakeRegistry, programs: Programs) -> None:
    registry = make_registry(passwords=Passwords("gitlab-ci-token", USER.password))
    env = {"CI_REGISTRY": registry.address, "CI_JOB_TOKEN": USER.password}
    done = build_to(programs, f"{registry.address}/app:1", env=env)

    assert USER.password not in done.written


def test_refusal_names_every_source_and_what_it_said(closed: Registry, programs: Programs) -> None:
    """At night, in a CI's log, it must be plain which file was meant to have the password."""
    home, name = programs.directory, closed.address.replace(".", "_").replace(":", "_")
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text('{"auths": {"quay.io": {"auth": "eDp5"}}}')
    env = {
        "DOCKER_AUTH_CONFIG": "{}",
        "REGISTRY_AUTH_FILE": "/nowhere/auth.json",
        "XDG_RUNTIME_DIR": "/nowhere",
        f"KANIKO_{name}_USER": "me",
    }
    done = build_to(programs, f"{closed.address}/app:1", env=env, check=False)

    assert done.status == 1
    assert (
        f"credentials were looked for in $DOCKER_AUTH_CONFIG (no entry for {closed.address}), "
        f"then {home}/.docker/config.json (no entry for {closed.address}), "
        "then /nowhere/auth.json (not there), "
        "then /nowhere/containers/auth.json (not there), "
        f"then {home}/.config/containers/auth.json (not there), "
        f"then $KANIKO_{name}_USER (but $KANIKO_{name}_PASSWORD is not set)"
    ) in " ".join(done.stderr.split())


@pytest.mark.parametrize("place", ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME"])
def test_what_podman_and_skopeo_keep_is_found(
    closed: Registry, programs: Programs, tmp_path: Path, place: str
) -> None:
    directory = tmp_path / "kept"
    below = directory / ".config" if place == "HOME" else directory
    file = below / "containers" / "auth.json"
    file.parent.mkdir(parents=True)
    words = ["skopeo", "login", "--tls-verify=false", f"--authfile={file}", "-u=me"]
    subprocess.run(
        [*words, "--password-stdin", f"{closed.address}/team"],
        input=USER.password.encode(),
        check=True,
        capture_output=True,
    )
    done = build_to(programs, f"{closed.address}/team/app:1", env={place: str(directory)})

    assert USER.password not in done.written


# --- helper programs ----------------------------------------------------------------------

HELPER = """\
#!{python}
import json, sys
server = sys.stdin.read().strip()
assert sys.argv[1:] == ["get"]
if server != "{server}":
    sys.exit("credentials not found in native keychain")
print(json.dumps({{"ServerURL": server, "Username": "{user}", "Secret": "{password}"}}))
"""


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_helper_program(closed: Registry, programs: Programs, setting: str) -> None:
    directory = programs.directory / "bin"
    directory.mkdir()
    program = directory / "docker-credential-tests"
    text = HELPER.format(
        python=sys.executable, server=closed.address, user=USER.user, password=USER.password
    )
    program.write_text(text)
    program.chmod(0o755)
    config = {"credsStore": "tests", "credHelpers": {closed.address: "tests"}}[setting]
    env = {
        "DOCKER_AUTH_CONFIG": json.dumps({setting: config}),
        "PATH": f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    done = build_to(programs, f"{closed.address}/app:1", env=env)

    assert USER.password not in done.written


def test_several_credentials_for_one_registry(
    closed: Registry, programs: Programs, tmp_path: Path
) -> None:
    """The longest path that fits wins, even where what it has is wrong."""
    auths = {
        closed.address: {"username": "me", "password": USER.password},
        f"{closed.address}/team": {"username": "me", "password": "wrong-wrong"},
        f"{closed.address}/team/app": {"username": "me", "password": USER.password},
    }
    env = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": auths})}
    for path in ("app", "team/app", "teams"):
        build_to(programs, f"{closed.address}/{path}:1", env=env)
    done = build_to(programs, f"{closed.address}/team/other:1", env=env, check=False)

    assert done.status == 1
    assert "the credentials that were found may be wrong" in done.stderr
    assert f"(entry {closed.address}/team)" in done.stderr
    assert "wrong-wrong" not in done.written


# --- what registries with tokens refuse -----------------------------------------------------


def logged_in(address: str, **entry: str) -> dict[str, str]:
    return {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {address: entry}})}


def test_account_that_may_only_pull(tmp_path: Path, programs: Programs) -> None:
    """The token service gives a token all the same, without the scope that was asked for."""
    service = TokenService("me", "hunter2-hunter2", rights=frozenset({"pull"}))
    with token_registry(tmp_path / "registry", service) as address:
        env = logged_in(address, username="me", password="hunter2-hunter2")
        done = build_to(programs, f"{address}/team/app:1", env=env, check=False)

    assert done.status == 1
    text = " ".join(done.stderr.split())
    assert f"error: cannot push to {address}/team/app: {address} answered 401" in text
    assert (
        "hint: the credentials that were found are not for an account that may push to team/app; "
        f"credentials were looked for in $DOCKER_AUTH_CONFIG (entry {address})"
    ) in text
    assert "hunter2" not in done.written


def test_token_that_has_expired(tmp_path: Path, programs: Programs) -> None:
    """A ready token of the registry, as some CI systems write it, that was made too long ago."""
    service = TokenService("me", "hunter2-hunter2", seconds=-60)
    with token_registry(tmp_path / "registry", service) as address:
        old = service.token(["repository:team/app:pull,push"], None)
        assert old is not None
        env = logged_in(address, registrytoken=old)
        done = build_to(programs, f"{address}/team/app:1", env=env, check=False)

    assert done.status == 1
    text = " ".join(done.stderr.split())
    assert f"error: cannot push to {address}/team/app: {address} answered 401" in text
    assert "or may not push to team/app (or they have expired)" in text
    assert old not in done.written


def test_token_service_elsewhere_is_not_given_the_password(
    tmp_path: Path, programs: Programs
) -> None:
    service = TokenService("me", "hunter2-hunter2")
    realm = "https://tokens.example.com/token"
    with token_registry(tmp_path / "registry", service, realm=realm) as address:
        env = logged_in(address, username="me", password="hunter2-hunter2")
        done = build_to(programs, f"{address}/team/app:1", env=env, check=False)

    assert done.status == 1
    assert (
        f"error: the credentials for {address} were not sent: it wants them sent to "
        "tokens.example.com, which is another site"
    ) in " ".join(done.stderr.split())
    assert "hunter2" not in done.written


@pytest.mark.parametrize("value", ["bogus", "env,google"])
def test_helper_that_we_do_not_have(programs: Programs, value: str) -> None:
    flag = f"--credential-helpers={value}"
    done = build_to(programs, "localhost:1/app", flag, check=False)

    assert done.status == 2
    assert f"--credential-helpers: '{value}' is no credential helper of ours" in done.stderr
    assert "there are env, google, ecr, acr, gitlab; for several" in done.stderr
