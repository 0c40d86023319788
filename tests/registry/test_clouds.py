"""The clouds' own ways, against servers that speak their documented protocols."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kaniko_core.oci.reference import Repository
from kaniko_core.registry.auth import Credentials, DockerKeychain, Lookup
from kaniko_core.registry.clouds import Cloud, Fetched
from kaniko_core.registry.clouds_amazon import amazon
from kaniko_core.registry.credentials import Finding
from kaniko_core.registry.errands import NoAnswer
from tests.serving import Handler, Server, served

ARTIFACTS = Repository("europe-docker.pkg.dev", "project/app")
AZURE = Repository("mine.azurecr.io", "app")


@pytest.fixture(autouse=True)
def no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def last(found: Lookup) -> str:
    """What the cloud said: it is asked last."""
    return found.sources[-1]


# --- when a cloud is asked ----------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Answers:
    """Fetches what is next in *given*, and knows for whom."""

    given: list[Fetched | NoAnswer]
    asked: list[str] = field(default_factory=list)

    def __call__(self, registry: str) -> Fetched:
        self.asked.append(registry)
        answer = self.given.pop(0)
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


def findings(cloud: Cloud, registry: str = "a.cloud") -> list[Finding]:
    return list(cloud(Repository(registry, "app")))


def test_cloud_is_asked_again_before_its_answer_runs_out() -> None:
    clock = Clock()
    first, second = Credentials("u", "1"), Credentials("u", "2")
    answers = Answers([Fetched(first, 3600, "way"), Fetched(second, 3600, "way")])
    cloud = Cloud("Cloud", lambda registry: True, answers, clock)

    (found,) = findings(cloud)
    assert (found.credentials, str(found)) == (first, "Cloud (way)")
    clock.time += 3299
    assert findings(cloud) == [found]
    clock.time += 2
    (renewed,) = findings(cloud)
    assert renewed.credentials == second
    assert renewed.credentials is not None
    # Whoever keeps them lets them go at the same moment.
    assert renewed.credentials.expires == clock.time + 3300


def test_short_lives_have_short_margins() -> None:
    clock = Clock()
    answers = Answers([Fetched(Credentials("u", "1"), 10, "way"), Fetched(Credentials(), 10, "")])
    cloud = Cloud("Cloud", lambda registry: True, answers, clock)

    findings(cloud)
    clock.time += 7.9
    findings(cloud)
    assert len(answers.asked) == 1
    clock.time += 0.2
    findings(cloud)
    assert len(answers.asked) == 2


def test_refusal_is_remembered_for_a_minute() -> None:
    clock = Clock()
    answers = Answers([NoAnswer("not here"), Fetched(Credentials("u", "1"), 10, "way")])
    cloud = Cloud("Cloud", lambda registry: True, answers, clock)

    assert [str(f) for f in findings(cloud)] == ["Cloud (not here)"]
    clock.time += 59
    assert [str(f) for f in findings(cloud)] == ["Cloud (not here)"]
    clock.time += 2
    assert [str(f) for f in findings(cloud)] == ["Cloud (way)"]


def test_registries_have_credentials_of_their_own_and_strangers_none() -> None:
    answers = Answers([Fetched(Credentials("u", name), 3600, "way") for name in "ab"])
    cloud = Cloud("Cloud", lambda registry: registry.endswith(".cloud"), answers, Clock())

    for registry in ("a.cloud", "B.cloud", "a.cloud", "quay.io"):
        findings(cloud, registry)
    assert answers.asked == ["a.cloud", "b.cloud"]
    assert findings(cloud, "quay.io") == []


@pytest.mark.parametrize(
    "registry",
    [
        "quay.io",
        "docker.io",
        "gcr.io.evil.com",
        "xgcr.io",
        "azurecr.io.evil.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.com",
        "dkr.ecr.us-east-1.amazonaws.com",
        "public.ecr.aws",
    ],
)
def test_clouds_are_not_asked_for_others_registries(registry: str) -> None:
    found = DockerKeychain({}).look_up(Repository(registry, "app"))

    assert [source.partition("_")[0] for source in found.sources] == ["$KANIKO"]


# --- Google -------------------------------------------------------------------------------


@dataclass
class GoogleServices:
    """A metadata server, and Google's token service."""

    address: str
    flavor: str = "Google"
    status: int = 200
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)


class GoogleHandler(Handler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        state: GoogleServices = self.server.state  # type: ignore[attr-defined]
        state.asked.append(self.path)
        good = self.headers.get("Metadata-Flavor") == "Google"
        known = self.path == "/computeMetadata/v1/instance/service-accounts/default/token"
        status = 403 if not good else 404 if not known else state.status
        answer = {"access_token": "ya29.metadata", "expires_in": 3599, "token_type": "Bearer"}
        self.answer(status, answer if status == 200 else {"error": "sorry"}, state.flavor)

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        state: GoogleServices = self.server.state  # type: ignore[attr-defined]
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        state.forms.append(form)
        if state.status == 200:
            token = {"access_token": "ya29.file", "expires_in": 3599, "token_type": "Bearer"}
            issued = {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
            self.answer(200, {**token, **issued})
        else:
            self.answer(state.status, {"error": "invalid_grant", "error_description": "revoked"})

    def answer(self, status: int, value: object, flavor: str = "") -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if flavor:
            self.send_header("Metadata-Flavor", flavor)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def services() -> Iterator[GoogleServices]:
    with served(GoogleHandler, GoogleServices) as state:
        yield state


@pytest.mark.parametrize("registry", ["gcr.io", "eu.gcr.io", "europe-docker.pkg.dev"])
def test_metadata_server_of_google(services: GoogleServices, registry: str) -> None:
    keychain = DockerKeychain({"GCE_METADATA_HOST": services.address})
    found = [keychain.look_up(Repository(registry, "project/app")) for _ in range(2)]

    assert found[0].credentials == Credentials("oauth2accesstoken", "ya29.metadata")
    assert last(found[0]) == "Google (the metadata server)"
    assert found[0] == found[1]
    assert len(services.asked) == 1


def test_metadata_server_is_not_asked_through_a_proxy(
    services: GoogleServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    found = DockerKeychain({"GCE_METADATA_HOST": services.address}).look_up(ARTIFACTS)

    assert found.credentials is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flavor": ""}, "what answers in the place of the metadata server is something else"),
        ({"status": 404}, "the metadata server answered 404: sorry"),
        ({"address": "127.0.0.1:1"}, "the metadata server cannot be reached: Connection refused"),
        ({"address": "::"}, "the address of the metadata server cannot be used"),
    ],
)
def test_metadata_server_that_is_none(
    services: GoogleServices, change: dict[str, object], said: str
) -> None:
    for name, value in change.items():
        setattr(services, name, value)
    found = DockerKeychain({"GCE_METADATA_HOST": services.address}).look_up(ARTIFACTS)

    assert found.credentials is None
    assert last(found) == f"Google ({said})"


def account_key(path: Path, services: GoogleServices) -> rsa.RSAPrivateKey:
    """Write a service account's key file, as Google gives it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    content = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "builder@project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"http://{services.address}/token",
    }
    path.write_text(json.dumps(content))
    return key


def test_key_of_a_service_account(services: GoogleServices, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    key = account_key(path, services)

    found = DockerKeychain({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}).look_up(ARTIFACTS)

    assert found.credentials == Credentials("oauth2accesstoken", "ya29.file")
    assert last(found) == f"Google ({path})"
    (form,) = services.forms
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    signed, _, signature = form["assertion"][0].rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    key.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_users_own_credentials_below_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    path.parent.mkdir(parents=True)
    content = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "hunter2",
        "refresh_token": "hunter3",
    }
    path.write_text(json.dumps(content))
    # Nobody listens there: it is enough to see that Google's token service was asked.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    found = DockerKeychain({"HOME": str(tmp_path)}).look_up(ARTIFACTS)

    assert last(found) == ("Google (Google's token service cannot be reached: Connection refused)")


def test_workload_identity_federation(services: GoogleServices, tmp_path: Path) -> None:
    subject = tmp_path / "subject"
    subject.write_text("the token of another issuer")
    path = tmp_path / "federation.json"
    content = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"http://{services.address}/v1/token",
        "credential_source": {"file": str(subject)},
    }
    path.write_text(json.dumps(content))

    found = DockerKeychain({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}).look_up(ARTIFACTS)

    assert found.credentials == Credentials("oauth2accesstoken", "ya29.file")
    assert services.forms[0]["subject_token"] == ["the token of another issuer"]


def federation_by_program(path: Path, services: GoogleServices, script: str) -> dict[str, str]:
    """Write a file whose token comes from a program, and return the variable that names it."""
    program = path.with_suffix(".sh")
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    content = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"http://{services.address}/v1/token",
        "credential_source": {"executable": {"command": str(program), "timeout_millis": 5000}},
    }
    path.write_text(json.dumps(content))
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def test_workload_identity_federation_by_a_program(
    services: GoogleServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "the token of a program",
        "expiration_time": int(time.time()) + 600,
    }
    script = f"echo '{json.dumps(said)}'"
    env = federation_by_program(tmp_path / "federation.json", services, script)
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")

    found = DockerKeychain(env).look_up(ARTIFACTS)

    assert found.credentials == Credentials("oauth2accesstoken", "ya29.file")
    assert services.forms[0]["subject_token"] == ["the token of a program"]


@pytest.mark.parametrize(
    ("allowed", "why"), [("1", "exited with non-zero"), ("0", "explicitly allowed")]
)
def test_program_of_a_federation_that_fails_or_is_not_allowed(
    services: GoogleServices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: str,
    why: str,
) -> None:
    """What it wrote is not shown: there may be a token in it."""
    env = federation_by_program(tmp_path / "federation.json", services, "echo hunter2; exit 3")
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", allowed)

    found = DockerKeychain(env).look_up(ARTIFACTS)

    assert found.credentials is None
    assert why in last(found)
    assert "hunter2" not in last(found)


def test_file_of_google_that_is_refused(services: GoogleServices, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    account_key(path, services)
    services.status = 400

    found = DockerKeychain({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}).look_up(ARTIFACTS)

    assert found.credentials is None
    assert last(found).startswith(f"Google ({path}: ")
    assert "invalid_grant" in last(found)
    assert "PRIVATE KEY" not in last(found)


@pytest.mark.parametrize(
    "content", [None, "{", "{}", "[]", '{"type": "service_account"}', '{"type": "x"}']
)
def test_file_of_google_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)

    found = DockerKeychain({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}).look_up(ARTIFACTS)

    assert found.credentials is None
    assert last(found).startswith(f"Google ({path}: ")


def test_helper_programs_of_google_need_not_be_installed(
    services: GoogleServices, tmp_path: Path
) -> None:
    config = {"credHelpers": {"gcr.io": "gcloud"}, "credsStore": "gcr"}
    env = {
        "DOCKER_AUTH_CONFIG": json.dumps(config),
        "GCE_METADATA_HOST": services.address,
        "PATH": str(tmp_path),
    }
    keychain = DockerKeychain(env, helpers=())

    for registry in ("gcr.io", "europe-docker.pkg.dev"):
        found = keychain.look_up(Repository(registry, "project/app"))
        assert found.credentials == Credentials("oauth2accesstoken", "ya29.metadata")
    assert keychain.look_up(Repository("quay.io", "app")) == Lookup(
        None,
        ("$DOCKER_AUTH_CONFIG (credential helper gcr, built in: it is for other registries)",),
    )


# --- Azure: as far as the registry itself --------------------------------------------------


@dataclass
class AzureServices:
    """Azure AD, the metadata server and the endpoint of App Service, as far as they refuse."""

    address: str
    asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = field(default_factory=list)


class AzureHandler(GoogleHandler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        state: AzureServices = self.server.state  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        state.asked.append((parts.path, parse_qs(parts.query), dict(self.headers)))
        self.answer(400, {"error": "invalid_request", "error_description": "Identity not found"})

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        state: AzureServices = self.server.state  # type: ignore[attr-defined]
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        state.asked.append((self.path, form, dict(self.headers)))
        self.answer(401, {"error": "invalid_client", "error_description": "AADSTS7\r\nTrace: 1"})


@contextmanager
def azure_services() -> Iterator[AzureServices]:
    with served(AzureHandler, AzureServices) as state:
        yield state


def test_workload_identity_is_proved_to_azure_ad(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of the pod\n")
    with azure_services() as services:
        env = {
            "AZURE_FEDERATED_TOKEN_FILE": str(token),
            "AZURE_TENANT_ID": "tenant",
            "AZURE_CLIENT_ID": "client",
            "AZURE_AUTHORITY_HOST": f"http://{services.address}/",
        }
        found = DockerKeychain(env).look_up(AZURE)

    assert last(found) == "Azure (Azure AD answered 401: invalid_client: AADSTS7)"
    ((path, form, _),) = services.asked
    assert path == "/tenant/oauth2/v2.0/token"
    assert form == {
        "grant_type": ["client_credentials"],
        "client_id": ["client"],
        "scope": ["https://containerregistry.azure.net/.default"],
        "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
        "client_assertion": ["of the pod"],
    }


def test_managed_identity_is_asked_for_at_the_metadata_server() -> None:
    with azure_services() as services:
        env = {
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{services.address}",
            "AZURE_CLIENT_ID": "client",
        }
        found = DockerKeychain(env).look_up(AZURE)

    assert last(found) == (
        "Azure (the metadata server answered 400: invalid_request: Identity not found)"
    )
    ((path, query, headers),) = services.asked
    assert path == "/metadata/identity/oauth2/token"
    assert query == {
        "api-version": ["2018-02-01"],
        "resource": ["https://containerregistry.azure.net/"],
        "client_id": ["client"],
    }
    assert headers["Metadata"] == "true"


def test_managed_identity_of_app_service() -> None:
    with azure_services() as services:
        env = {
            "IDENTITY_ENDPOINT": f"http://{services.address}/msi/token",
            "IDENTITY_HEADER": "hunter2",
        }
        found = DockerKeychain(env).look_up(AZURE)

    assert "the identity endpoint answered 400" in last(found)
    ((path, _, headers),) = services.asked
    assert path == "/msi/token"
    assert headers["X-IDENTITY-HEADER"] == "hunter2"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AZURE_CLIENT_SECRET": "hunter2"}, "$AZURE_TENANT_ID is not set"),
        (
            {"AZURE_CLIENT_SECRET": "hunter2", "AZURE_TENANT_ID": "t"},
            "$AZURE_CLIENT_ID is not set",
        ),
        (
            {
                "AZURE_CLIENT_SECRET": "hunter2",
                "AZURE_TENANT_ID": "t",
                "AZURE_CLIENT_ID": "c",
                "AZURE_AUTHORITY_HOST": "http://login.example.com",
            },
            "Azure AD is not reached by https",
        ),
        (
            {"AZURE_FEDERATED_TOKEN_FILE": "/nowhere/token"},
            "cannot read /nowhere/token: No such file or directory",
        ),
    ],
)
def test_azures_variables_that_do_not_suffice(env: dict[str, str], said: str) -> None:
    assert last(DockerKeychain(env).look_up(AZURE)) == f"Azure ({said})"


class _Refusing(Handler):
    server: Server[tuple[int, bytes]]

    def _serve(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body = self.server.state
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = _serve  # noqa: N815 - http.server's name


_DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(403, _DENIED, "AccessDenied"), (403, b"", "cannot be read"), (200, b"<no", "cannot be read")],
)
def test_role_that_amazon_refuses_is_a_sentence_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
    said: str,
) -> None:
    pytest.importorskip("botocore")
    token = tmp_path / "token"
    token.write_text("hunter2")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    addresses: list[str] = []

    def answer_at(address: str) -> tuple[int, bytes]:
        addresses.append(address)
        return status, body

    with served(_Refusing, answer_at):
        for name, value in {
            "AWS_ENDPOINT_URL_STS": f"http://{addresses[0]}",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/builder",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        }.items():
            monkeypatch.setenv(name, value)
        host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
        (finding,) = amazon({})(Repository(host, "app"))

    assert finding.credentials is None
    assert said in finding.said
    assert not [record for record in caplog.records if record.exc_info]
