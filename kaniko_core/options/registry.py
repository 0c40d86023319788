"""How registries are talked to."""

from __future__ import annotations

from typing import Annotated

from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.options.credentials import CredentialHelper, credential_helper
from kaniko_core.options.flag import Flag
from kaniko_core.options.mirrors import (
    ClientCertificate,
    Mirror,
    client_certificate,
    hub_mirror,
    mirror_map,
)
from kaniko_core.values import key_value


def client_type(text: str) -> str:
    """Read a word for the User-Agent; raise :class:`UsageError` where no header can have it."""
    if not text.isascii() or not text.isprintable():
        raise UsageError("it cannot be part of a header: it has other characters than ASCII's")
    return text.strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryOptions:
    """How registries are talked to."""

    insecure: Annotated[bool, Flag("Push over plain HTTP.")] = False
    insecure_pull: Annotated[bool, Flag("Pull over plain HTTP.")] = False
    insecure_registry: Annotated[
        tuple[str, ...], Flag("Registry to talk to over plain HTTP; repeatable.", metavar="HOST")
    ] = ()
    skip_tls_verify: Annotated[
        bool, Flag("Do not verify registries' TLS certificates, neither for push nor pull.")
    ] = False
    skip_tls_verify_pull: Annotated[
        bool, Flag("Do not verify registries' TLS certificates when pulling.")
    ] = False
    skip_tls_verify_registry: Annotated[
        tuple[str, ...],
        Flag("Registry whose TLS certificate is not verified; repeatable.", metavar="HOST"),
    ] = ()
    registry_certificate: Annotated[
        tuple[tuple[str, str], ...],
        Flag("CA certificate for a registry; repeatable.", parse=key_value, metavar="HOST=FILE"),
    ] = ()
    registry_client_cert: Annotated[
        tuple[ClientCertificate, ...],
        Flag(
            "Certificate and key to show to a registry that asks who we are; repeatable.",
            parse=client_certificate,
            metavar="HOST=CERT,KEY",
        ),
    ] = ()
    registry_mirror: Annotated[
        tuple[Mirror, ...],
        Flag(
            "Registry to pull images of docker.io from, before docker.io itself; repeatable, "
            "asked in order.",
            parse=hub_mirror,
            metavar="MIRROR[/PREFIX]",
        ),
    ] = ()
    registry_map: Annotated[
        tuple[tuple[Mirror, ...], ...],
        Flag(
            "Registry to pull images of another one from, before the original; repeatable, "
            "asked in order, before --registry-mirror.",
            parse=mirror_map,
            metavar="ORIG=MIRROR[/PREFIX][;...]",
        ),
    ] = ()
    skip_default_registry_fallback: Annotated[
        bool, Flag("Do not ask the original registry where it has mirrors and they fail.")
    ] = False
    image_download_retry: Annotated[
        int, Flag("How often a failing download is tried again.", metavar="N")
    ] = 4
    image_fs_extract_retry: Annotated[
        int,
        Flag(
            "How often a layer is fetched anew that breaks off or turns out to be wrong; "
            "then layers are checked on disk before they are unpacked.",
            metavar="N",
        ),
    ] = 0
    push_retry: Annotated[int, Flag("How often a failing upload is tried again.", metavar="N")] = 4

    credential_helpers: Annotated[
        tuple[CredentialHelper, ...] | None,
        Flag(
            "Ways to credentials beside config files: env (KANIKO_<HOST>_USER and _PASSWORD), "
            "google, ecr, acr (the clouds' own ways, for their registries), gitlab (a GitLab "
            "job's variables); repeatable; all unless some are named; empty for "
            "none.",
            parse=credential_helper,
            metavar="NAME",
        ),
    ] = None

    upstream_client_type: Annotated[
        str,
        Flag(
            "What starts us, for the User-Agent of pushes.",
            parse=client_type,
            metavar="NAME",
            hidden=True,
        ),
    ] = ""

    def __post_init__(self) -> None:
        for name in ("image_download_retry", "image_fs_extract_retry", "push_retry"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} cannot be negative")
