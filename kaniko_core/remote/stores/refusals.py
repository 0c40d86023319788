"""What a store says when it does not give an object, as sentences.

obstore's texts have URLs with signatures in them: only the status, the store's own code and the
kind of failure are taken from them.
"""

from __future__ import annotations

import re

from kaniko_core.addresses.archives import BucketObject, Store
from kaniko_core.errors import ContextError
from kaniko_core.lean import dataclass
from kaniko_core.remote.stores.places import Place

_STATUS = re.compile(r"status code: (\d{3})")
_URL = re.compile(r"https?://\S+")
_CODE = re.compile(r"<Code>\s*([A-Za-z]{1,60})\s*</Code>")
# What the ways to fail look like in the library's texts, and what they mean; the first counts.
_FAILURES = (
    ("dns error", "its name cannot be resolved"),
    ("Connection refused", "the connection is refused"),
    ("Network is unreachable", "the network is unreachable"),
    ("No route to host", "there is no route to it"),
    ("TunnelUnsuccessful", "the proxy does not let us through"),
    ("ProxyAuthRequired", "the proxy wants a password"),
    ("NotValidForName", "its certificate is for another name"),
    ("Expired", "its certificate has expired"),
    ("InvalidCertificate", "its certificate cannot be verified"),
    ("InvalidContentType", "it does not speak TLS"),
    ("TimedOut", "no answer in time"),
    ("timed out", "no answer in time"),
    ("kind: Connect", "no connection"),
)
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_NO_OBJECT = {"NoSuchKey", "BlobNotFound"}
# Sent with other statuses than 401 and 403.
_REFUSED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAuthenticationInfo"}
_MOVED = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_EXPLAINED = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is not the access key's",
    "ExpiredToken": "the credentials have expired",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "AuthorizationPermissionMismatch": "who we are may not read it",
    "AccessDenied": "who we are may not read it, or it does not exist",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request failed: the HTTP status, or 0; the store's code; what happened instead."""

    status: int
    code: str
    failure: str

    @property
    def moved(self) -> bool:
        """Whether the bucket may be elsewhere."""
        return self.status in (301, 307, 308) or self.code in _MOVED

    @property
    def passing(self) -> bool:
        """Whether another try can help."""
        return self.status in (0, 429) or self.status >= 500

    @property
    def said(self) -> str:
        """Status and code, in parentheses."""
        words = " ".join(filter(None, (str(self.status or ""), self.code)))
        return f" ({words})" if words else ""


def refusal_of(error: BaseException) -> Refusal:
    """Read what obstore raised."""
    text = str(error)
    status = _STATUS.search(text)
    code = _CODE.search(text)
    found = int(status[1]) if status else _status_by_kind(error, text)
    failure = ""
    if not found:
        # Names of hosts and objects are no signs.
        rest = _URL.sub("", text)
        failure = next((meaning for sign, meaning in _FAILURES if sign in rest), "")
        failure = failure or "the connection broke off"
    return Refusal(found, code[1] if code else "", failure)


def _status_by_kind(error: BaseException, text: str) -> int:
    kind = type(error).__name__
    by_kind = {"UnauthenticatedError": 401, "PermissionDeniedError": 403, "PreconditionError": 412}
    if isinstance(error, FileNotFoundError):
        return 404
    return 301 if "redirect without LOCATION" in text else by_kind.get(kind, 0)


def explained(refusal: Refusal, wanted: BucketObject, place: Place) -> ContextError:
    """Return the error for a refusal."""
    why, hint = _reason(refusal, wanted, place)
    return ContextError(f"cannot fetch {wanted.name}: {why}", hint=hint)


def _reason(refusal: Refusal, wanted: BucketObject, place: Place) -> tuple[str, str | None]:
    bucket, thing = ("container", "blob") if wanted.store is Store.AZURE else ("bucket", "object")
    status, code = refusal.status, refusal.code
    if code in _NO_BUCKET:
        return f"there is no {bucket} {wanted.bucket} at {place.host}", _look_hint(wanted)
    if code in _NO_OBJECT:
        return f"there is no {thing} {wanted.key} in the {bucket} {wanted.bucket}", None
    if status == 404:
        return f"there is no such {thing}, or no such {bucket}", _look_hint(wanted)
    if refusal.moved:
        return f"the {bucket} is elsewhere{refusal.said}", "set AWS_REGION to the bucket's region"
    if status == 412:
        return "it changed while it was fetched", "try again when it is complete"
    if status in (401, 403) or code in _REFUSED:
        return _unauthorized(refusal, place)
    if status:
        return f"{place.host} answers with an error{refusal.said}", None
    through = f" through the proxy {place.via}" if place.via else ""
    return f"cannot reach {place.host}{through}: {refusal.failure}", _endpoint_hint(wanted)


def _unauthorized(refusal: Refusal, place: Place) -> tuple[str, str]:
    if not place.found:
        return (
            f"it is not public, and no credentials were found{refusal.said}",
            f"looked for: {place.looked_for}",
        )
    why = f": {_EXPLAINED[refusal.code]}" if refusal.code in _EXPLAINED else ""
    return (
        f"{place.host} refuses the credentials{refusal.said}{why}",
        f"the credentials are from: {place.found}",
    )


def _look_hint(wanted: BucketObject) -> str:
    match wanted.store:
        case Store.S3:
            return "check the name; S3_ENDPOINT and AWS_REGION say where buckets are looked for"
        case Store.GCS:
            return "check the name of the bucket and of the object"
        case Store.AZURE:
            return "check the name; AZURE_STORAGE_ACCOUNT says whose containers are looked at"


def _endpoint_hint(wanted: BucketObject) -> str:
    match wanted.store:
        case Store.S3:
            return "S3_ENDPOINT, or AWS_ENDPOINT_URL, says where the store is"
        case Store.GCS:
            return "STORAGE_EMULATOR_HOST, if it is set, says where the store is"
        case Store.AZURE:
            return "AZURE_STORAGE_ENDPOINT, or the account's name, says where the store is"
