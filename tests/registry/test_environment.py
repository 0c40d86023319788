from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaniko_core.errors import UsageError
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.options.credentials import CredentialHelper, credential_helper
from kaniko_core.registry.auth import Credentials, DockerKeychain, Lookup

HUB = Reference.parse("debian").repository


def look_up(registry: str, *helpers: CredentialHelper, **env: str) -> Lookup:
    keychain = DockerKeychain(env, helpers or None)
    return keychain.look_up(HUB if registry == "docker.io" else Repository(registry, "team/app"))


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("quay.io", "QUAY_IO"),
        ("my-registry.example.com", "MY_REGISTRY_EXAMPLE_COM"),
        ("a.b.example.com", "B_EXAMPLE_COM"),
        ("a.b.example.com", "EXAMPLE_COM"),
        ("r.example.com:5000", "R_EXAMPLE_COM_5000"),
        ("r.example.com:5000", "R_EXAMPLE_COM"),
        ("r.example.com:5000", "EXAMPLE_COM"),
        ("localhost:5000", "LOCALHOST"),
        ("127.0.0.1:5000", "127_0_0_1_5000"),
        ("[::1]:5000", "__1"),
        ("docker.io", "DOCKER_IO"),
        ("docker.io", "INDEX_DOCKER_IO"),
    ],
)
def test_variables_for_a_registry_or_its_domain(registry: str, name: str) -> None:
    variables = {f"KANIKO_{name}_USER": "me", f"KANIKO_{name}_PASSWORD": "secret"}

    found = look_up(registry, **variables)

    assert found.credentials == Credentials("me", "secret")
    assert found.sources == (f"$KANIKO_{name}_USER (with $KANIKO_{name}_PASSWORD)",)


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("quay.io", "IO"),
        ("r.example.com", "COM"),
        ("127.0.0.1:5000", "0_1"),
        ("quay.io", "R_QUAY_IO"),
        ("example.com:5000", "EXAMPLE_COM_443"),
    ],
)
def test_variables_for_others_are_not_used(registry: str, name: str) -> None:
    variables = {f"KANIKO_{name}_USER": "me", f"KANIKO_{name}_PASSWORD": "secret"}

    assert look_up(registry, **variables).credentials is None


def test_most_exact_variables_win() -> None:
    variables = {
        "KANIKO_EXAMPLE_COM_USER": "domain",
        "KANIKO_EXAMPLE_COM_PASSWORD": "x",
        "KANIKO_R_EXAMPLE_COM_USER": "host",
        "KANIKO_R_EXAMPLE_COM_PASSWORD": "x",
    }
    assert look_up("r.example.com", **variables).credentials == Credentials("host", "x")
    assert look_up("s.example.com", **variables).credentials == Credentials("domain", "x")


@pytest.mark.parametrize(("there", "missing"), [("USER", "PASSWORD"), ("PASSWORD", "USER")])
def test_half_of_a_pair_is_told_without_its_value(there: str, missing: str) -> None:
    found = look_up("quay.io", **{f"KANIKO_QUAY_IO_{there}": "hunter2"})

    assert found == Lookup(
        None, (f"$KANIKO_QUAY_IO_{there} (but $KANIKO_QUAY_IO_{missing} is not set)",)
    )


def test_config_files_come_before_variables(tmp_path: Path) -> None:
    config = {"auths": {"quay.io": {"username": "file", "password": "x"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    variables = {"KANIKO_QUAY_IO_USER": "variable", "KANIKO_QUAY_IO_PASSWORD": "x"}

    found = look_up("quay.io", DOCKER_CONFIG=str(tmp_path), **variables)

    assert found.credentials == Credentials("file", "x")


# --- GitLab -------------------------------------------------------------------------------

JOB = {
    "CI_REGISTRY": "registry.gitlab.com",
    "CI_REGISTRY_USER": "gitlab-ci-token",
    "CI_REGISTRY_PASSWORD": "of the registry",
    "CI_JOB_TOKEN": "of the job",
    "CI_DEPENDENCY_PROXY_SERVER": "gitlab.com:443",
    "CI_DEPENDENCY_PROXY_USER": "proxy",
    "CI_DEPENDENCY_PROXY_PASSWORD": "of the proxy",
}


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in JOB.items() if name not in names}


def test_job_of_gitlab_has_credentials_for_its_registry() -> None:
    found = look_up("registry.gitlab.com", **JOB)

    assert found.credentials == Credentials("gitlab-ci-token", "of the registry")
    assert found.sources[-1] == "$CI_REGISTRY_USER (GitLab)"


def test_jobs_token_serves_where_there_is_no_password() -> None:
    found = look_up("registry.gitlab.com", **without("CI_REGISTRY_PASSWORD"))

    assert found.credentials == Credentials("gitlab-ci-token", "of the job")
    assert found.sources[-1] == "$CI_JOB_TOKEN (GitLab)"


def test_job_without_any_password_says_so() -> None:
    found = look_up("registry.gitlab.com", **without("CI_REGISTRY_PASSWORD", "CI_JOB_TOKEN"))

    assert found.credentials is None
    assert found.sources[-1] == "$CI_REGISTRY_USER (GitLab: $CI_REGISTRY_PASSWORD is not set)"


def test_dependency_proxy_has_its_own_password() -> None:
    assert look_up("gitlab.com", **JOB).credentials == Credentials("proxy", "of the proxy")


@pytest.mark.parametrize("registry", ["quay.io", "registry.gitlab.com:5000", "docker.io"])
def test_jobs_credentials_are_for_nobody_else(registry: str) -> None:
    found = look_up(registry, **JOB)

    assert found.credentials is None
    assert not any("CI_" in source for source in found.sources)


def test_helper_program_that_is_built_in_need_not_be_installed(tmp_path: Path) -> None:
    """Go kaniko's image has it; config files that name it work here, too."""
    config = {"credHelpers": {"registry.gitlab.com": "gitlabci"}}
    (tmp_path / "config.json").write_text(json.dumps(config))

    found = look_up(
        "registry.gitlab.com",
        CredentialHelper.NONE,
        DOCKER_CONFIG=str(tmp_path),
        PATH=str(tmp_path),
        **JOB,
    )
    assert found.credentials == Credentials("gitlab-ci-token", "of the registry")
    assert found.sources[0].endswith(
        "(credential helper gitlabci, built in: $CI_REGISTRY_USER (GitLab))"
    )


# --- the selection ------------------------------------------------------------------------

BOTH = {
    **JOB,
    "KANIKO_REGISTRY_GITLAB_COM_USER": "variable",
    "KANIKO_REGISTRY_GITLAB_COM_PASSWORD": "x",
}


@pytest.mark.parametrize(
    ("helpers", "user"),
    [
        ((), "variable"),
        ((CredentialHelper.ENV,), "variable"),
        ((CredentialHelper.GITLAB,), "gitlab-ci-token"),
        ((CredentialHelper.GITLAB, CredentialHelper.ENV), "gitlab-ci-token"),
    ],
)
def test_only_what_is_selected_is_asked(helpers: tuple[CredentialHelper, ...], user: str) -> None:
    found = look_up("registry.gitlab.com", *helpers, **BOTH)

    assert found.credentials is not None
    assert found.credentials.username == user


def test_nothing_may_be_selected() -> None:
    assert look_up("registry.gitlab.com", CredentialHelper.NONE, **BOTH) == Lookup(None)


def test_selection_is_read_from_text() -> None:
    assert credential_helper("gitlab") is CredentialHelper.GITLAB
    assert credential_helper("") is CredentialHelper.NONE
    with pytest.raises(UsageError, match="'env,gitlab' is no credential helper") as caught:
        credential_helper("env,gitlab")
    assert "several times" in (caught.value.hint or "")
