"""Azure Container Registry: by workload identity, a service principal, or a managed identity.

Who we are is proved to Azure AD (Entra ID) or to the metadata server; its token is exchanged for
one of the registry's, which is an identity token as Docker has it. The first way that the
environment speaks of is taken:

1. workload identity: ``AZURE_FEDERATED_TOKEN_FILE``, ``AZURE_TENANT_ID``, ``AZURE_CLIENT_ID``
2. a service principal: ``AZURE_CLIENT_SECRET``, ``AZURE_TENANT_ID``, ``AZURE_CLIENT_ID``
3. a managed identity of App Service or Container Apps: ``IDENTITY_ENDPOINT``, ``IDENTITY_HEADER``
4. a managed identity of a virtual machine or AKS node: the metadata server (IMDS)

``AZURE_CLIENT_ID`` alone selects one of several managed identities.
Sources: learn.microsoft.com, "Microsoft identity platform and the OAuth 2.0 client credentials
flow", "How to use managed identities … to acquire an access token", and Azure/acr, "AAD-OAuth.md".
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from kaniko_core.errors import reason_of
from kaniko_core.lean import dataclass
from kaniko_core.registry.clouds import Cloud, Fetched
from kaniko_core.registry.credentials import Credentials
from kaniko_core.registry.errands import NoAnswer, ask_far, ask_near, text_of
from kaniko_core.registry.hosts import host_name

_IMDS = "http://169.254.169.254"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE = 3 * 3600.0  # seconds, of the registries' tokens
_SHORTEST_LIFE = 3600.0  # seconds, of tokens of Azure AD
_SAFE_LIFE = 60.0  # seconds, where a token says something that cannot be read


@dataclass(frozen=True, slots=True)
class Nation:
    """What one of the separate clouds has: something to open with a token, and who gives those."""

    resource: str
    authority: str


# The resource of the first is Azure's registries alone: such a token opens nothing else, and is
# taken where a registry refuses those of the resource manager.
_NATIONS = {
    ".azurecr.io": Nation(
        "https://containerregistry.azure.net/", "https://login.microsoftonline.com"
    ),
    ".azurecr.cn": Nation(
        "https://management.chinacloudapi.cn/", "https://login.partner.microsoftonline.cn"
    ),
    ".azurecr.us": Nation(
        "https://management.usgovcloudapi.net/", "https://login.microsoftonline.us"
    ),
}


def azure(environment: Mapping[str, str]) -> Cloud:
    """Return the source ``acr``."""
    return Cloud("Azure", _serves, partial(_fetch, environment))


def _serves(registry: str) -> bool:
    return host_name(registry).endswith(tuple(_NATIONS))


def _fetch(env: Mapping[str, str], registry: str) -> Fetched:
    nation = next(n for suffix, n in _NATIONS.items() if host_name(registry).endswith(suffix))
    proof = azure_token(env, nation)
    token = proof.credentials.password
    form = {"grant_type": "access_token", "service": registry, "access_token": token}
    if tenant := env.get("AZURE_TENANT_ID"):
        form["tenant"] = tenant
    answer = ask_far(f"https://{registry}/oauth2/exchange", form, what="the registry's exchange")
    identity = text_of(answer, "refresh_token", "the registry's exchange")
    return Fetched(Credentials(identity_token=identity), _life_of(identity), proof.way)


def azure_token(env: Mapping[str, str], nation: Nation) -> Fetched:
    """Return a token that opens the nation's resource, as a password.

    Raises:
        NoAnswer: there is none to be had.
    """
    if env.get("AZURE_FEDERATED_TOKEN_FILE"):
        way, token = "workload identity", _from_workload(env, nation)
    elif env.get("AZURE_CLIENT_SECRET"):
        secret = {"client_secret": env["AZURE_CLIENT_SECRET"]}
        way, token = "service principal", _from_authority(env, nation, secret)
    elif env.get("IDENTITY_ENDPOINT"):
        way, token = "managed identity", _from_app_service(env, nation)
    else:
        way, token = "managed identity", _from_imds(env, nation)
    return Fetched(Credentials(password=token), min(_life_of(token), _SHORTEST_LIFE), way)


def _from_workload(env: Mapping[str, str], nation: Nation) -> str:
    path = Path(env["AZURE_FEDERATED_TOKEN_FILE"])
    try:
        # Read anew each time: Kubernetes renews it.
        token = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise NoAnswer(f"cannot read {path}: {reason_of(error)}") from error
    form = {"client_assertion_type": _ASSERTION, "client_assertion": token}
    return _from_authority(env, nation, form)


def _from_authority(env: Mapping[str, str], nation: Nation, proof: Mapping[str, str]) -> str:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID"):
        if not env.get(name):
            raise NoAnswer(f"${name} is not set")
    authority = (env.get("AZURE_AUTHORITY_HOST") or nation.authority).rstrip("/")
    form = {
        "grant_type": "client_credentials",
        "client_id": env["AZURE_CLIENT_ID"],
        "scope": f"{nation.resource}.default",
        **proof,
    }
    url = f"{authority}/{env['AZURE_TENANT_ID']}/oauth2/v2.0/token"
    return text_of(ask_far(url, form, what="Azure AD"), "access_token", "Azure AD")


def _from_app_service(env: Mapping[str, str], nation: Nation) -> str:
    query = _identity(env, {"api-version": "2019-08-01", "resource": nation.resource})
    headers = {"X-IDENTITY-HEADER": env.get("IDENTITY_HEADER", "")}
    what = "the identity endpoint"
    answer = ask_near(f"{env['IDENTITY_ENDPOINT']}?{query}", headers, what=what)
    return text_of(answer, "access_token", what)


def _from_imds(env: Mapping[str, str], nation: Nation) -> str:
    query = _identity(env, {"api-version": "2018-02-01", "resource": nation.resource})
    host = (env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or _IMDS).rstrip("/")
    what = "the metadata server"
    url = f"{host}/metadata/identity/oauth2/token?{query}"
    return text_of(ask_near(url, {"Metadata": "true"}, what=what), "access_token", what)


def _identity(env: Mapping[str, str], query: dict[str, str]) -> str:
    if client := env.get("AZURE_CLIENT_ID"):
        query["client_id"] = client
    return urlencode(query)


def _life_of(token: str) -> float:
    """Return how long a JWT lives, in seconds, as it says itself; nothing of it is believed."""
    parts = token.split(".")
    if len(parts) != 3:
        return _LIFE
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return max(1.0, float(claims["exp"]) - time.time())
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _SAFE_LIFE
