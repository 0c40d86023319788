"""Amazon S3 and what speaks its language (``pip install kaniko-py[stores]``).

    S3_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL    where the store is, if not at Amazon
    AWS_REGION, AWS_DEFAULT_REGION, else the profile's     which part of Amazon; else us-east-1
    S3_FORCE_PATH_STYLE                                    https://HOST/BUCKET/KEY

Credentials are whatever botocore finds: the environment, a role by web identity (IRSA), profiles
of the shared files, the container's endpoint (EKS pod identity, ECS), the instance's role. Where
it finds none, nobody is who we are: many buckets are public.
Source: docs.aws.amazon.com, "Virtual hosting of buckets", "HeadObject".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from kaniko_core.addresses.archives import BucketObject
from kaniko_core.errors import ContextError
from kaniko_core.lean import dataclass
from kaniko_core.registry.clouds_amazon import amazon_complaint, amazon_session
from kaniko_core.remote.stores.places import (
    Place,
    Surroundings,
    endpoint_url,
    needed,
    object_url,
    retries,
)

# Asks for the headers of a URL, unsigned.
Headers = Callable[[str], Mapping[str, str]]

_LOOKED_FOR = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a role by web identity, the profiles of ~/.aws, "
    "the container's endpoint and the instance's role"
)
_ENDPOINTS = ("S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGION = "us-east-1"
# Names that can be part of a host's, for which there is a certificate.
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_YES = ("1", "t", "true", "yes", "on")
# botocore renews what expires ten minutes before it does: so long is good what it has given.
_GOOD_FOR = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A bucket of S3 in a region, by its URL."""

    wanted: BucketObject
    endpoint: str
    region: str
    path_style: bool

    @property
    def url(self) -> str:
        if self.path_style:
            return f"{self.base}/{self.wanted.bucket}"
        return self.base

    @property
    def base(self) -> str:
        """What requests begin with."""
        endpoint = self.endpoint or f"https://s3.{self.region}.{_suffix(self.region)}"
        if self.path_style:
            return endpoint
        scheme, _, rest = endpoint.partition("://")
        return f"{scheme}://{self.wanted.bucket}.{rest}"


def s3_place(wanted: BucketObject, around: Surroundings, headers: Headers) -> Place:
    """Return where *wanted* is, and as whom to ask for it.

    Raises:
        ContextError: a library is missing, or credentials are there and cannot be used.
        UsageError: the environment does not say where the store is.
    """
    try:
        session = amazon_session()
    except ImportError:
        raise needed("botocore", wanted.store.value) from None
    try:
        region = around.first("AWS_REGION", "AWS_DEFAULT_REGION")
        region = region or session.get_config_variable("region") or _REGION
        # Roles are assumed there, too.
        session.set_config_variable("region", region)
        credentials = session.get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()
    except Exception as error:  # its own, of many kinds, and of those whose answers it reads
        why = f"cannot fetch {wanted.name}: no credentials: {amazon_complaint(error)}"
        raise ContextError(why, hint=f"looked for: {_LOOKED_FOR}") from None
    return _place(_bucket(wanted, around, region), around, credentials, headers)


def _bucket(wanted: BucketObject, around: Surroundings, region: str) -> _Bucket:
    named = next((name for name in _ENDPOINTS if around.first(name)), "")
    endpoint = endpoint_url(around.first(named), named) if named else ""
    forced = around.first("S3_FORCE_PATH_STYLE").lower() in _YES
    by_path = forced or _LABEL.fullmatch(wanted.bucket) is None or _has_no_names(endpoint)
    return _Bucket(wanted, endpoint, region, by_path)


def _has_no_names(endpoint: str) -> bool:
    """Whether a bucket's name in front of the host cannot lead there."""
    if not endpoint:
        return False
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return parts.port is not None or "." not in host
    return True


def _suffix(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _place(bucket: _Bucket, around: Surroundings, credentials: Any, headers: Headers) -> Place:
    from obstore.store import S3Store

    url = object_url(bucket.url, bucket.wanted.key)
    store = S3Store(
        bucket.wanted.bucket,
        endpoint=bucket.base,
        aws_endpoint_url_s3=bucket.base,
        region=bucket.region,
        virtual_hosted_style_request=not bucket.path_style,
        skip_signature=credentials is None,
        client_options=around.client(url),
        retry_config=retries(),
        credential_provider=partial(_given, credentials),
    )
    return Place(
        store,
        url,
        partial(_signed, credentials, url, bucket.region),
        "" if credentials is None else str(getattr(credentials, "method", "") or "botocore"),
        _LOOKED_FOR,
        around.proxy(url),
        partial(_elsewhere, bucket, around, credentials, headers),
    )


def _given(credentials: Any) -> dict[str, Any]:
    """Return botocore's credentials as obstore wants them; botocore renews them."""
    from botocore.credentials import RefreshableCredentials

    frozen = credentials.get_frozen_credentials()
    renewed = isinstance(credentials, RefreshableCredentials)
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + _GOOD_FOR if renewed else None,
    }


def _signed(credentials: Any, url: str, region: str) -> Mapping[str, str]:
    """Return headers for a HEAD of *url* that asks for checksums."""
    wanted = {"x-amz-checksum-mode": "ENABLED"}
    if credentials is None:
        return wanted
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method="HEAD", url=url, headers=wanted)
    S3SigV4Auth(credentials.get_frozen_credentials(), "s3", region).add_auth(request)
    return {str(name): str(value) for name, value in request.headers.items()}


def _elsewhere(
    bucket: _Bucket, around: Surroundings, credentials: Any, headers: Headers
) -> Place | None:
    region = headers(bucket.url).get("x-amz-bucket-region", "")
    if not region or region == bucket.region or _LABEL.fullmatch(region) is None:
        return None
    return _place(replace(bucket, region=region), around, credentials, headers)
