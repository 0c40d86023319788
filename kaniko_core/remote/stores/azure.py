"""Azure Blob Storage (``pip install kaniko-py[stores]``).

    az://CONTAINER/BLOB    of the account AZURE_STORAGE_ACCOUNT (…_ACCOUNT_NAME), which may be at
                           AZURE_STORAGE_ENDPOINT; or AZURE_STORAGE_CONNECTION_STRING says both
    https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB[?SAS]

Who we are is the first that there is of: the address's own SAS; AZURE_STORAGE_ACCESS_KEY
(…_KEY); AZURE_STORAGE_SAS_TOKEN; the same of the connection string; Azure AD, as for Azure's
registries. Where there is nothing, nobody is who we are: some containers are public.
Source: learn.microsoft.com, "Authorize with Shared Key", "Get Blob Properties", "Configure Azure
Storage connection strings".
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from email.utils import formatdate
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from kaniko_core.addresses.archives import BucketObject
from kaniko_core.errors import ContextError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.registry.clouds_azure import Nation, azure_token
from kaniko_core.registry.errands import NoAnswer
from kaniko_core.remote.stores.places import (
    Place,
    Surroundings,
    Tokens,
    endpoint_url,
    object_url,
    retries,
)

# Tells obstore who we are.
Proof = Callable[[], dict[str, Any]]

_RESOURCE = "https://storage.azure.com/"
_AUTHORITIES = {
    ".chinacloudapi.cn": "https://login.partner.microsoftonline.cn",
    ".usgovcloudapi.net": "https://login.microsoftonline.us",
}
_AUTHORITY = "https://login.microsoftonline.com"
_VERSION = "2021-12-02"  # of the protocol; the first with tokens is of 2017
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_ENDPOINT = "AZURE_STORAGE_ENDPOINT"
_ACCOUNT = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_LOOKED_FOR = (
    "AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_CONNECTION_STRING, workload "
    "identity, a service principal and a managed identity"
)
# Variables that say that somebody is meant, so that a failure is not taken for nobody.
_SIGNS = ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET", "IDENTITY_ENDPOINT")
_BLANK_FIELDS = 11  # of a request without a body: lengths, types, conditions


@dataclass(frozen=True, slots=True)
class _Account:
    """An account: its name, the URL of its blobs, and what opens them: a key, or a SAS."""

    name: str
    url: str
    key: str = field(default="", repr=False)
    signature: str = field(default="", repr=False)
    found: str = ""


def azure_place(wanted: BucketObject, around: Surroundings) -> Place:
    """Return where *wanted* is, and as whom to ask for it.

    Raises:
        ContextError: no account is named, or credentials are there and cannot be used.
        UsageError: the environment does not say where the store is.
    """
    account = _account(wanted, around)
    url = object_url(f"{account.url}/{wanted.bucket}", wanted.key)
    if account.key:
        _decoded_key(account)
        proof = partial(_proof, access_key=account.key)
        return _place(
            account, url, wanted, around, proof=proof, headers=partial(_signed, account, url)
        )
    if account.signature:
        signed = f"{url}?{account.signature}"
        proof = partial(_proof, sas_token=account.signature)
        return _place(account, signed, wanted, around, proof=proof, headers=_plain)
    fetch = partial(azure_token, around.environment, _nation(account))
    try:
        first = fetch()
    except NoAnswer as error:
        if around.first(*_SIGNS):
            raise ContextError(f"cannot fetch {wanted.name}: no credentials: {error}") from error
        return _place(account, url, wanted, around, proof=None, headers=_plain)
    tokens = Tokens(fetch, first)
    account = replace(account, found=first.way)
    return _place(account, url, wanted, around, proof=tokens, headers=partial(_borne, tokens))


def _account(wanted: BucketObject, around: Surroundings) -> _Account:
    said = _connection(around.first(_CONNECTION))
    account = _named_account(wanted, around, said)
    if wanted.signature:
        return _Account(account.name, account.url, "", wanted.signature, "the address itself")
    given = (
        ("AZURE_STORAGE_ACCESS_KEY", True),
        ("AZURE_STORAGE_KEY", True),
        ("AZURE_STORAGE_SAS_TOKEN", False),
    )
    # What opens one account is of no use for another, and nothing to tell its owner.
    meant = around.first(*_ACCOUNT) or account.name
    for name, is_key in given:
        if meant == account.name and (secret := around.first(name)):
            return _with(account, secret, name, is_key=is_key)
    own = said.get("AccountName", account.name) == account.name
    for part, is_key in (("AccountKey", True), ("SharedAccessSignature", False)):
        if own and (secret := said.get(part, "")):
            return _with(account, secret, _CONNECTION, is_key=is_key)
    return account


def _with(account: _Account, secret: str, found: str, *, is_key: bool) -> _Account:
    key, signature = (secret, "") if is_key else ("", secret.lstrip("?"))
    return _Account(account.name, account.url, key, signature, found)


def _named_account(wanted: BucketObject, around: Surroundings, said: Mapping[str, str]) -> _Account:
    if wanted.host:
        return _Account(wanted.account, f"https://{wanted.host}")
    endpoint = around.first(_ENDPOINT)
    what = _ENDPOINT if endpoint else _CONNECTION
    endpoint = endpoint or said.get("BlobEndpoint", "")
    name = around.first(*_ACCOUNT)
    name = name or said.get("AccountName", "") or _first_label(endpoint)
    if not name:
        raise ContextError(
            f"cannot fetch {wanted.name}: no storage account is named",
            hint="set AZURE_STORAGE_ACCOUNT, or write "
            "https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB",
        )
    if endpoint:
        return _Account(name, endpoint_url(endpoint, what))
    scheme = said.get("DefaultEndpointsProtocol", "https")
    suffix = said.get("EndpointSuffix", "core.windows.net")
    return _Account(name, endpoint_url(f"{scheme}://{name}.blob.{suffix}", _CONNECTION))


def _first_label(endpoint: str) -> str:
    """Return the account that a host ``ACCOUNT.blob.…`` is of."""
    host = urlsplit(endpoint).hostname or ""
    name, _, rest = host.partition(".")
    return name if rest.startswith("blob.") else ""


def _connection(text: str) -> dict[str, str]:
    """Read a connection string; values may have ``=`` in them."""
    said: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, separator, value = part.partition("=")
        if not separator:
            # Not the part itself, which may be half a key.
            raise UsageError(
                f"{_CONNECTION} is not a connection string", hint="it is NAME=VALUE;NAME=VALUE…"
            )
        said[name] = value
    return said


def _nation(account: _Account) -> Nation:
    host = urlsplit(account.url).hostname or ""
    authorities = (value for suffix, value in _AUTHORITIES.items() if host.endswith(suffix))
    return Nation(_RESOURCE, next(authorities, _AUTHORITY))


def _place(
    account: _Account,
    url: str,
    wanted: BucketObject,
    around: Surroundings,
    *,
    proof: Proof | None,
    headers: Callable[[], Mapping[str, str]],
) -> Place:
    from obstore.store import AzureStore

    store = AzureStore(
        wanted.bucket,
        account_name=account.name,
        endpoint=account.url,
        use_emulator=False,
        use_fabric_endpoint=False,
        skip_signature=proof is None,
        client_options=around.client(account.url),
        retry_config=retries(),
        # Even where it is not asked: else the library finds keys of its own.
        credential_provider=proof or partial(_proof, token=""),
    )
    return Place(store, url, headers, account.found, _LOOKED_FOR, around.proxy(url))


def _proof(**what: str) -> dict[str, Any]:
    return {**what, "expires_at": None}


def _decoded_key(account: _Account) -> bytes:
    try:
        return base64.b64decode(account.key, validate=True)
    except ValueError:
        raise UsageError(
            f"the key of {account.found} is not one of a storage account",
            hint="keys of storage accounts are in base64",
        ) from None


def _plain() -> Mapping[str, str]:
    return {"x-ms-version": _VERSION}


def _borne(tokens: Callable[[], dict[str, Any]]) -> Mapping[str, str]:
    return {**_plain(), "Authorization": f"Bearer {tokens()['token']}"}


def _signed(account: _Account, url: str) -> Mapping[str, str]:
    """Return headers for a HEAD of *url*, signed with the account's key."""
    headers = {"x-ms-date": formatdate(usegmt=True), **_plain()}
    lines = [
        "HEAD",
        *[""] * _BLANK_FIELDS,
        *(f"{name}:{value}" for name, value in sorted(headers.items())),
        f"/{account.name}{urlsplit(url).path}",
    ]
    digest = hmac.digest(_decoded_key(account), "\n".join(lines).encode(), "sha256")
    authorization = f"SharedKey {account.name}:{base64.b64encode(digest).decode()}"
    return {**headers, "Authorization": authorization}
