"""How each registry may be reached: over plain HTTP or not, and whose certificates are believed.

- TLS is the rule. Plain HTTP is possible where the user allowed it (``--insecure``,
  ``--insecure-pull``, ``--insecure-registry``), and on loopback, as in Docker. Even there TLS is
  tried first, see :meth:`kaniko_core.registry.transport.Transport.origin`.
- Certificates are verified against the system's store, which SSL_CERT_FILE and SSL_CERT_DIR
  replace, and which ``--registry-certificate`` adds to for one registry.
- A certificate of our own is shown only to the host that ``--registry-client-cert`` names.
- A certificate that cannot be verified is never a reason to go on over plain HTTP.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from kaniko_core.errors import UsageError, reason_of
from kaniko_core.lean import dataclass
from kaniko_core.oci.reference import DOCKER_HUB, DOCKER_HUB_HOST
from kaniko_core.options import RegistryOptions

# Where distributions keep their bundle, for an interpreter that was built elsewhere.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates are believed: the system's and those in *certificates* (PEM files).

    Attributes:
        own: the certificate and the key (PEM files) that we show, if we are asked who we are.
    """

    verified: bool = True
    certificates: tuple[str, ...] = ()
    own: tuple[str, str] | None = None


UNVERIFIED = Trust(verified=False)


@dataclass(frozen=True, slots=True)
class HostRules:
    """What the options say about each host; pulling and pushing have different ones."""

    plain: bool = False
    plain_hosts: frozenset[str] = frozenset()
    unverified: bool = False
    unverified_hosts: frozenset[str] = frozenset()
    certificates: tuple[tuple[str, str], ...] = ()
    own: tuple[tuple[str, tuple[str, str]], ...] = ()

    @classmethod
    def of(cls, options: RegistryOptions, *, push: bool) -> Self:
        """Return the rules for one direction."""
        return cls(
            plain=options.insecure if push else options.insecure_pull,
            plain_hosts=frozenset(map(canonical, options.insecure_registry)),
            unverified=options.skip_tls_verify or (not push and options.skip_tls_verify_pull),
            unverified_hosts=frozenset(map(canonical, options.skip_tls_verify_registry)),
            certificates=tuple(
                (canonical(host), file) for host, file in options.registry_certificate
            ),
            own=tuple(
                (canonical(given.host), (given.certificate, given.key))
                for given in options.registry_client_cert
            ),
        )

    def allows_plain(self, host: str) -> bool:
        """Whether *host* (with port) may be talked to without TLS."""
        return self.plain or canonical(host) in self.plain_hosts or is_loopback(host)

    def trust(self, host: str) -> Trust:
        """Return whose certificates are believed for *host* (with port)."""
        name = canonical(host)
        # As with Go's flag, the last one for a host counts.
        own = dict(self.own).get(name)
        if self.unverified or name in self.unverified_hosts:
            return replace(UNVERIFIED, own=own)
        files = tuple(file for key, file in self.certificates if key == name)
        return Trust(certificates=files, own=own)


def canonical(text: str) -> str:
    """Return the host that answers for *text*: a registry as people write it in options."""
    name = text.partition("://")[2] or text
    name = name.partition("/")[0].lower().removesuffix(":443")
    return DOCKER_HUB_HOST if name in (DOCKER_HUB, f"index.{DOCKER_HUB}") else name


def host_name(host: str) -> str:
    """Return *host* without its port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    # More than one colon without brackets: an IPv6 address by itself.
    return host.partition(":")[0] if host.count(":") == 1 else host


def has_port(host: str) -> bool:
    """Whether *host* says its port."""
    return ":" in host.rpartition("]")[2]


def is_loopback(host: str) -> bool:
    """Whether *host* (with or without port) is this machine: localhost, 127.0.0.0/8, ::1."""
    name = host_name(host).lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


# A context is made once: reading a bundle of CA certificates takes 25 to 50 ms.
@cache
def tls_context(trust: Trust) -> ssl.SSLContext:
    """Return the TLS settings for *trust*.

    Raises:
        UsageError: a certificate file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust.own is not None:
        _load_own(context, *trust.own)
    if not trust.verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    _load_system_store(context)
    for file in trust.certificates:
        _load(context, file)
    return context


def _load(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except OSError as error:  # ssl.SSLError is one: no certificate in the file
        raise UsageError(
            f"cannot use the registry certificate {file}: {reason_of(error)}",
            hint="--registry-certificate takes HOST=FILE, a CA certificate in PEM form",
        ) from error


def _load_own(context: ssl.SSLContext, certificate: str, key: str) -> None:
    for file in (certificate, key):
        try:
            with Path(file).open("rb"):
                pass
        except OSError as error:
            raise UsageError(
                f"cannot use the client certificate: cannot read {file}: {reason_of(error)}",
                hint=_CLIENT_HINT,
            ) from error
    try:
        # Never OpenSSL's own question for a passphrase, which waits for a terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()
        why = "the key is not the certificate's" if "mismatch" in reason else _NO_PAIR
        raise UsageError(
            f"cannot use the client certificate {certificate} with the key {key}: {why}",
            hint=_CLIENT_HINT,
        ) from error


_CLIENT_HINT = "--registry-client-cert takes HOST=CERT,KEY: a certificate and its key in PEM form"
_NO_PAIR = "they are not a certificate and a key without passphrase in PEM form"


def _load_system_store(context: ssl.SSLContext) -> None:
    # OpenSSL looks certificates up in a directory by hash, when needed, which costs nothing now.
    context.set_default_verify_paths()
    paths = ssl.get_default_verify_paths()
    if paths.capath and (unhashed := _unhashed(Path(paths.capath))):
        for file in unhashed:
            _load(context, str(file))
    elif not paths.cafile and not paths.capath:
        import certifi

        bundles = [bundle for bundle in _BUNDLES if Path(bundle).exists()]
        _load(context, bundles[0] if bundles else certifi.where())


def _unhashed(directory: Path) -> list[Path]:
    """List the certificates of a directory that OpenSSL cannot find by hash.

    SSL_CERT_DIR of Go programs needs no hashed names; people mount such directories for kaniko.
    """
    try:
        names = sorted(directory.iterdir())
    except OSError:
        return []  # then nothing in it can be believed, and the handshake will say so
    if any(len(path.stem) == 8 and path.suffix[1:].isdigit() for path in names):
        return []
    return [path for path in names if path.suffix in (".pem", ".crt")]
