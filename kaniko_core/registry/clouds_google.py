"""Google: Artifact Registry and Container Registry, by application default credentials.

1. the file that ``GOOGLE_APPLICATION_CREDENTIALS`` names, or that ``gcloud auth
   application-default login`` wrote: a service account's key, a user's, or workload identity
   federation, whose token may come from a file, a URL, Amazon, or a program where
   ``GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1`` allows that; for all but the user's,
   google-auth is needed (``pip install kaniko-py[google]``)
2. the metadata server of Compute Engine, GKE (workload identity, too) and Cloud Build

Source: cloud.google.com, "How Application Default Credentials works", "View and query VM
metadata", and Artifact Registry's "Access token" authentication.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from kaniko_core.errors import reason_of
from kaniko_core.registry.clouds import Cloud, Fetched
from kaniko_core.registry.credentials import Credentials, one_line
from kaniko_core.registry.errands import NoAnswer, ask_far, ask_near, seconds_of, text_of
from kaniko_core.registry.hosts import host_name

_USER = "oauth2accesstoken"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TOKEN_SERVICE = "https://oauth2.googleapis.com/token"
_SIGNED_BY_AWS = "urn:ietf:params:aws:token-type:aws4_request"
_METADATA_HOST = "metadata.google.internal"
_TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_LIFE = 3600.0  # seconds, of tokens that do not say


def google(environment: Mapping[str, str]) -> Cloud:
    """Return the source ``google``."""
    return Cloud("Google", _serves, partial(_fetch, environment))


def _serves(registry: str) -> bool:
    return f".{host_name(registry)}".endswith((".gcr.io", ".pkg.dev"))


def _fetch(env: Mapping[str, str], registry: str) -> Fetched:
    return google_token(env)


def google_token(env: Mapping[str, str]) -> Fetched:
    """Return a token for whatever Google has, as a password.

    Raises:
        NoAnswer: there is none to be had.
    """
    path = google_file(env)
    return _from_metadata(env) if path is None else _from_file(path)


def google_file(env: Mapping[str, str]) -> Path | None:
    """Return the file of credentials that is used, which need not exist if it is named."""
    if named := env.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    if directory := env.get("CLOUDSDK_CONFIG"):
        path = Path(directory)
    elif home := env.get("HOME"):
        path = Path(home) / ".config" / "gcloud"
    else:
        return None
    path /= "application_default_credentials.json"
    return path if path.is_file() else None


def _from_file(path: Path) -> Fetched:
    try:
        info = json.loads(path.read_bytes())
        kind = str(info["type"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = reason_of(error) if isinstance(error, OSError) else "it is no file of credentials"
        raise NoAnswer(f"{path}: {why}") from error
    if kind == "authorized_user":
        return _from_user(info, path)
    return _from_library(info, kind, path)


def _from_user(info: Mapping[str, Any], path: Path) -> Fetched:
    names = ("client_id", "client_secret", "refresh_token")
    form = {name: text_of(info, name, str(path)) for name in names}
    what = "Google's token service"
    answer = ask_far(_TOKEN_SERVICE, {"grant_type": "refresh_token", **form}, what=what)
    token = text_of(answer, "access_token", what)
    return Fetched(Credentials(_USER, token), seconds_of(answer, "expires_in", _LIFE), str(path))


def _from_library(info: Mapping[str, Any], kind: str, path: Path) -> Fetched:
    """Use google-auth: keys sign, and federation has as many forms as there are issuers."""
    try:
        import google.auth.transport.requests
    except ImportError:
        raise NoAnswer(
            f"for {path} the library google-auth is needed: pip install kaniko-py[google]"
        ) from None
    load = _loader(info, kind, path)
    try:
        found = load(info, scopes=[_SCOPE])
        found.refresh(google.auth.transport.requests.Request())
    except Exception as error:  # its own, the network's, and those of a program that it starts
        raise NoAnswer(f"{path}: {_complaint(error)}") from error
    token = text_of({"a token": found.token}, "a token", str(path))
    # Without a zone, and meant as UTC.
    expiry = found.expiry and found.expiry.replace(tzinfo=UTC)
    life = (expiry - datetime.now(UTC)).total_seconds() if expiry else _LIFE
    return Fetched(Credentials(_USER, token), max(1.0, life), str(path))


def _loader(info: Mapping[str, Any], kind: str, path: Path) -> Callable[..., Any]:
    """Return what makes google-auth's credentials of a file of this *kind*."""
    from google.auth import aws, identity_pool, pluggable
    from google.oauth2 import service_account

    load: Callable[..., Any]
    if kind == "service_account":
        load = service_account.Credentials.from_service_account_info
    elif kind != "external_account":
        raise NoAnswer(f"{path}: its type {one_line(kind)} is not supported")
    elif info.get("subject_token_type") == _SIGNED_BY_AWS:
        load = aws.Credentials.from_info
    elif "executable" in dict(info.get("credential_source") or {}):
        load = pluggable.Credentials.from_info
    else:
        load = identity_pool.Credentials.from_info
    return load


def _complaint(error: Exception) -> str:
    """Return what went wrong, without what a program wrote: there may be a token in it."""
    if type(error).__name__ == "TimeoutExpired":
        return "the program that it names did not end in time"
    text = str(error.args[0] if error.args else error)
    return one_line(text.partition(" Error: ")[0])


def _from_metadata(env: Mapping[str, str]) -> Fetched:
    what = "the metadata server"
    host = env.get("GCE_METADATA_HOST") or _METADATA_HOST
    answer = ask_near(
        f"http://{host}{_TOKEN_PATH}", {"Metadata-Flavor": "Google"}, what=what, flavor="Google"
    )
    token = text_of(answer, "access_token", what)
    return Fetched(Credentials(_USER, token), seconds_of(answer, "expires_in", _LIFE), what)
