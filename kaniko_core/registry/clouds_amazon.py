"""Amazon ECR: by whatever botocore finds (``pip install kaniko-py[aws]``).

That is, in its order: the environment (``AWS_ACCESS_KEY_ID``), a role by web identity (IRSA:
``AWS_WEB_IDENTITY_TOKEN_FILE``), profiles of the shared files, the container's endpoint (EKS pod
identity, ECS), and the instance's role from the metadata service. Its requests are signed, which
is why this is botocore's and not ours.
Source: docs.aws.amazon.com, "Private registry authentication", API GetAuthorizationToken.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kaniko_core.registry.clouds import Cloud, Fetched
from kaniko_core.registry.credentials import Credentials, one_line
from kaniko_core.registry.errands import NoAnswer

_PRIVATE = re.compile(
    r"\d{12}\.dkr[.-]ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws|"
    r"on\.amazonwebservices\.com\.cn|sc2s\.sgov\.gov|c2s\.ic\.gov)"
)
_PUBLIC = "public.ecr.aws"
# Amazon's public registry gives its tokens in this region only.
_PUBLIC_REGION = "us-east-1"
# Anybody may pull from the public registry: nobody is asked for credentials unless one of these
# says that there are some.
_SIGNS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def amazon(environment: Mapping[str, str]) -> Cloud:
    """Return the source ``ecr``; botocore itself reads the environment of the process."""
    return Cloud("Amazon", partial(_serves, environment), _fetch)


def amazon_session() -> Any:
    """Return a session of botocore's, which raises what it cannot do, and does not show it, too.

    Raises:
        ImportError: botocore is not installed.
    """
    import botocore.session

    # It shows tracebacks of what it also raises.
    logging.getLogger("botocore.credentials").setLevel(logging.CRITICAL)
    return botocore.session.Session()


def amazon_complaint(error: Exception) -> str:
    """Return what went wrong; what cannot be read is not shown, since there may be keys in it."""
    import botocore.exceptions

    told = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)
    if isinstance(error, told):
        return one_line(str(error)).rstrip(".")
    return "what answers for them says something that cannot be read"


def _serves(env: Mapping[str, str], registry: str) -> bool:
    if registry == _PUBLIC:
        return any(env.get(name) for name in _SIGNS)
    return _PRIVATE.fullmatch(registry) is not None


def _fetch(registry: str) -> Fetched:
    try:
        import botocore.config

        session = amazon_session()
    except ImportError:
        raise NoAnswer("the library botocore is needed: pip install kaniko-py[aws]") from None
    private = _PRIVATE.fullmatch(registry)
    service, region = ("ecr", private["region"]) if private else ("ecr-public", _PUBLIC_REGION)
    config = botocore.config.Config(
        use_fips_endpoint=True if private and private["fips"] else None,
        retries={"max_attempts": 3, "mode": "standard"},
    )
    try:
        client = session.create_client(service, region_name=region, config=config)
        answer = client.get_authorization_token()
    except Exception as error:  # its own, of many kinds, and of those whose answers it reads
        raise NoAnswer(amazon_complaint(error)) from None
    way = getattr(session.get_credentials(), "method", "") or "botocore"
    return _fetched(answer, way)


def _fetched(answer: Mapping[str, Any], way: str) -> Fetched:
    data: Any = answer.get("authorizationData")
    # A list of one for private registries, the thing itself for the public one.
    entry = data[0] if isinstance(data, list) and data else data
    try:
        pair = base64.b64decode(entry["authorizationToken"]).decode()
        user, _, password = pair.partition(":")
        life = (entry["expiresAt"] - datetime.now(UTC)).total_seconds()
    except (KeyError, TypeError, ValueError):
        raise NoAnswer("GetAuthorizationToken answered without a token") from None
    return Fetched(Credentials(user, password), max(1.0, life), way)
