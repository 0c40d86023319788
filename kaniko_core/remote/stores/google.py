"""Google Cloud Storage (``pip install kaniko-py[stores]``).

``STORAGE_EMULATOR_HOST`` says where an emulator is, which asks nobody who they are. Else the
token is found as for Google's registries: by the file that ``GOOGLE_APPLICATION_CREDENTIALS``
names, or gcloud's, or the metadata server. Where there is none, nobody is who we are: many
buckets are public.
Source: cloud.google.com, "XML API", "Get object metadata".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kaniko_core.addresses.archives import BucketObject
from kaniko_core.errors import ContextError
from kaniko_core.registry.clouds import Fetched
from kaniko_core.registry.clouds_google import google_file, google_token
from kaniko_core.registry.errands import NoAnswer
from kaniko_core.remote.stores.places import (
    Place,
    Surroundings,
    Tokens,
    endpoint_url,
    object_url,
    retries,
)

_GOOGLE = "https://storage.googleapis.com"
_EMULATOR = "STORAGE_EMULATOR_HOST"
_LOOKED_FOR = (
    "the file of GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default credentials and "
    "the metadata server"
)
# What was compressed for the way is not to be unpacked by the store: it would have another size.
_AS_STORED = {"Accept-Encoding": "gzip"}


def google_place(wanted: BucketObject, around: Surroundings) -> Place:
    """Return where *wanted* is, and as whom to ask for it.

    Raises:
        ContextError: credentials are there, and cannot be used.
        UsageError: the environment does not say where the store is.
    """
    emulator = around.first(_EMULATOR)
    if emulator:
        # Google's own libraries take it without a scheme, too, and speak plain HTTP then.
        named = emulator if "://" in emulator else f"http://{emulator}"
        return _place(wanted, around, endpoint_url(named, _EMULATOR), None)
    try:
        first = google_token(around.environment)
    except NoAnswer as error:
        if google_file(around.environment) is not None:
            raise ContextError(f"cannot fetch {wanted.name}: no credentials: {error}") from error
        return _place(wanted, around, _GOOGLE, None)
    return _place(wanted, around, _GOOGLE, first)


def _place(
    wanted: BucketObject, around: Surroundings, endpoint: str, first: Fetched | None
) -> Place:
    from obstore.store import GCSStore

    url = object_url(f"{endpoint}/{wanted.bucket}", wanted.key)
    provider = (
        _nobody if first is None else Tokens(partial(google_token, around.environment), first)
    )
    store = GCSStore(
        wanted.bucket,
        base_url=endpoint,
        skip_signature=first is None,
        client_options=around.client(url, _AS_STORED),
        retry_config=retries(),
        # Where there is one, the library does not look for files of its own, and complain.
        credential_provider=provider,
    )
    headers = partial(_authorized, provider)
    found = first.way if first else ""
    return Place(store, url, headers, found, _LOOKED_FOR, around.proxy(url))


def _nobody() -> dict[str, Any]:
    """Be what the library never asks, since it is not to sign."""
    return {"token": "", "expires_at": None}


def _authorized(provider: Callable[[], dict[str, Any]]) -> Mapping[str, str]:
    token = provider()["token"]
    return _AS_STORED | ({"Authorization": f"Bearer {token}"} if token else {})
