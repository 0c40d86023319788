"""How registries are talked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kaniko_core.errors import UsageError
from kaniko_core.options.flag import Flag
from kaniko_core.values import key_value


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
    image_download_retry: Annotated[
        int, Flag("How often a failing download is tried again.", metavar="N")
    ] = 4
    push_retry: Annotated[int, Flag("How often a failing upload is tried again.", metavar="N")] = 4

    def __post_init__(self) -> None:
        for name in ("image_download_retry", "push_retry"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} cannot be negative")
