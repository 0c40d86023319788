"""The clouds' own ways to credentials, through to a push: with the names of registries there.

The registries are Debian's docker-registry; Amazon's services are moto's, the others small servers
that speak the documented protocol and refuse what is not as it says.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from moto.server import ThreadedMotoServer

from integration.clouds_world import running_internet
from integration.programs import Finished, Programs, said
from integration.registry_world import TokenService, token_registry
from integration.world import Passwords, Registry
from tests.serving import Handler, served

MakeRegistry = Callable[..., Registry]


def build_to(
    programs: Programs, destination: str, env: dict[str, str], *, check: bool = True
) -> Finished:
    """Build something small and push it."""
    context = programs.directory / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    (context / "file").write_text("content")
    flags = [f"--context={context}", f"--destination={destination}", "--push-retry=0"]
    if check:
        # Whatever shows a secret, shows it then.
        flags.append("--verbosity=trace")
    return programs.executor(*flags, env=env, check=check)


# --- Google -------------------------------------------------------------------------------

ACCESS_TOKEN = "ya29.of-the-metadata-server"


class _GoogleMetadata(Handler):
    def do_GET(self) -> None:  # noqa: N802 - the library's name
        good = self.headers["Metadata-Flavor"] == "Google"
        good = good and self.path.endswith("/instance/service-accounts/default/token")
        body = json.dumps({"access_token": ACCESS_TOKEN, "expires_in": 3599}).encode()
        self.send_response(200 if good else 403)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_artifact_registry_by_the_metadata_server(
    make_registry: MakeRegistry, programs: Programs, tmp_path: Path
) -> None:
    registry = make_registry(passwords=Passwords("oauth2accesstoken", ACCESS_TOKEN))
    host = "europe-docker.pkg.dev"
    with (
        running_internet({host: registry.address}) as internet,
        served(_GoogleMetadata, str) as metadata,
    ):
        env = {**internet.environment(tmp_path), "GCE_METADATA_HOST": metadata}
        done = build_to(programs, f"{host}/project/app:1", {**env})

    assert f"PUT {host}/v2/project/app/manifests/1" in internet.asked
    assert ACCESS_TOKEN not in done.written


# --- Amazon -------------------------------------------------------------------------------

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
# What moto gives for the account that everybody is by default.
ECR_PASSWORD = Passwords("AWS", "123456789012-auth-token")


@pytest.fixture
def amazon() -> Iterator[str]:
    """Amazon's services: the URL of all of them."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["keys", "web identity", "instance role"])
def amazon_variables(request: pytest.FixtureRequest, amazon: str, tmp_path: Path) -> dict[str, str]:
    services = {"AWS_ENDPOINT_URL": amazon}
    if request.param == "instance role":
        return services | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": amazon}
    services["AWS_EC2_METADATA_DISABLED"] = "true"
    if request.param == "keys":
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}
        return services | keys
    token = tmp_path / "token"
    token.write_text("hunter2-hunter2")
    return services | {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/builder",
        "AWS_REGION": "eu-central-1",
    }


def test_ecr(
    make_registry: MakeRegistry,
    programs: Programs,
    tmp_path: Path,
    amazon_variables: dict[str, str],
) -> None:
    registry = make_registry(passwords=ECR_PASSWORD)
    with running_internet({ECR: registry.address}) as internet:
        env = {**internet.environment(tmp_path), "NO_PROXY": "127.0.0.1", **amazon_variables}
        done = build_to(programs, f"{ECR}/app:1", env)

    assert f"PUT {ECR}/v2/app/manifests/1" in internet.asked
    assert ECR_PASSWORD.password not in done.written
    assert "hunter2" not in done.written


def test_ecr_without_any_credentials_says_so(
    make_registry: MakeRegistry, programs: Programs, tmp_path: Path
) -> None:
    registry = make_registry(passwords=ECR_PASSWORD)
    with running_internet({ECR: registry.address}) as internet:
        env = {**internet.environment(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
        done = build_to(programs, f"{ECR}/app:1", env, check=False)

    said(done, "log in with an account that may push to app")
    assert "then Amazon (Unable to locate credentials)" in " ".join(done.stderr.split())


# --- Azure --------------------------------------------------------------------------------

ACR, AUTHORITY = "mine.azurecr.io", "login.microsoftonline.com"
FEDERATED, ENTRA, CLIENT_SECRET = "of-the-pod", "of-entra", "of-the-principal"


@dataclass
class Azure:
    """Entra ID, the metadata server, and the endpoints for tokens of a registry of Azure's."""

    address: str
    service: TokenService = field(default_factory=lambda: TokenService("me", "x"))

    @property
    def identity(self) -> str:
        """The registry's refresh token, which is a JWT that says when it ends."""
        claims = json.dumps({"exp": int(time.time()) + 3600}).encode()
        return f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.of-the-registry"

    def entra(self, form: dict[str, str]) -> dict[str, str] | None:
        """Return an access token for whoever proves to be our client."""
        proved = form.get("client_assertion") == FEDERATED
        proved = proved or form.get("client_secret") == CLIENT_SECRET
        known = form["client_id"] == "client" and form["grant_type"] == "client_credentials"
        scope = form["scope"] == "https://containerregistry.azure.net/.default"
        return {"access_token": ENTRA} if proved and known and scope else None

    def exchange(self, form: dict[str, str]) -> dict[str, str] | None:
        """Return the registry's refresh token for an access token of Entra ID."""
        good = form["access_token"] == ENTRA and form["service"] == ACR
        return {"refresh_token": self.identity} if good else None

    def token(self, form: dict[str, str]) -> dict[str, str] | None:
        """Return a token for the scopes that are wanted."""
        if not form.get("refresh_token", "").endswith(".of-the-registry"):
            return None
        pair = base64.b64encode(b"me:x").decode()
        token = self.service.token(form["scope"].split(), f"Basic {pair}")
        return {"access_token": token} if token else None


class _AzureHandler(Handler):
    def do_POST(self) -> None:  # noqa: N802 - the library's name
        azure: Azure = self.server.state  # type: ignore[attr-defined]
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(text).items()}
        endpoints = {
            "/tenant/oauth2/v2.0/token": azure.entra,
            "/oauth2/exchange": azure.exchange,
            "/oauth2/token": azure.token,
        }
        self._answer(endpoints[self.path](form))

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        good = parts.path == "/metadata/identity/oauth2/token"
        good = good and self.headers["Metadata"] == "true"
        good = good and query["resource"] == ["https://containerregistry.azure.net/"]
        self._answer({"access_token": ENTRA} if good else None)

    def _answer(self, value: dict[str, str] | None) -> None:
        body = json.dumps(value or {"error": "invalid_client"}).encode()
        self.send_response(200 if value else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(params=["workload identity", "service principal", "managed identity"])
def azure_variables(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "federated").write_text(FEDERATED)
    client = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client"}
    return {
        "workload identity": {"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "federated"), **client},
        "service principal": {"AZURE_CLIENT_SECRET": CLIENT_SECRET, **client},
        "managed identity": {},
    }[request.param]


def test_azure_container_registry(
    programs: Programs, tmp_path: Path, azure_variables: dict[str, str]
) -> None:
    with served(_AzureHandler, Azure) as azure:
        realm = f"https://{ACR}/oauth2/token"
        with token_registry(tmp_path / "registry", azure.service, realm=realm) as address:
            backends = {
                ACR: address,
                f"{ACR}/oauth2": azure.address,
                AUTHORITY: azure.address,
            }
            with running_internet(backends) as internet:
                env = {
                    **internet.environment(tmp_path),
                    "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{azure.address}",
                    **azure_variables,
                }
                done = build_to(programs, f"{ACR}/team/app:1", env)

    assert f"PUT {ACR}/v2/team/app/manifests/1" in internet.asked
    assert internet.asked.count(f"POST {ACR}/oauth2/exchange") == 1
    assert ("repository:team/app:pull,push",) in azure.service.granted
    for secret in (FEDERATED, ENTRA, CLIENT_SECRET, "of-the-registry"):
        assert secret not in done.written


def test_azure_that_refuses_says_so(programs: Programs, tmp_path: Path) -> None:
    with served(_AzureHandler, Azure) as azure:
        realm = f"https://{ACR}/oauth2/token"
        with token_registry(tmp_path / "registry", azure.service, realm=realm) as address:
            backends = {ACR: address, f"{ACR}/oauth2": azure.address, AUTHORITY: azure.address}
            with running_internet(backends) as internet:
                env = {
                    **internet.environment(tmp_path),
                    "AZURE_CLIENT_SECRET": "guessed-secret",
                    "AZURE_TENANT_ID": "tenant",
                    "AZURE_CLIENT_ID": "client",
                }
                done = build_to(programs, f"{ACR}/team/app:1", env, check=False)

    said(done)
    text = " ".join(done.stderr.split())
    assert "then Azure (Azure AD answered 401: invalid_client)" in text
    assert "guessed-secret" not in done.written
