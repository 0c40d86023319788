"""What goes wrong on the way to a registry, as sentences for people.

They name the host, or the proxy before it, and never a URL: its query may be a signature.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EHOSTUNREACH, ENETUNREACH

from kaniko_core.errors import RegistryError
from kaniko_core.registry.proxies import Proxy

# Seconds until a connection has to be there; the sentence names them.
CONNECT_SECONDS = 10.0


@contextmanager
def sentences(host: str, via: Proxy | None = None) -> Iterator[None]:
    """Translate httpx's errors, where *host* is asked, perhaps through a proxy."""
    from kaniko_core.registry.light import httpx

    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raise sentence(error, host, via) from error
    except UnicodeError as error:
        # A host's name whose parts are too long, or empty.
        raise RegistryError(_NO_ADDRESS.format(host)) from error


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and what led to it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_not_tls(error: BaseException) -> bool:
    """Whether *error* is what a TLS client meets at a server that speaks something else."""
    if isinstance(error, ssl.SSLError):
        # An alert is TLS: the server speaks it, but wants something else of us.
        return "ALERT" not in (error.reason or "") or isinstance(error, ssl.SSLEOFError)
    return isinstance(error, ConnectionResetError | BrokenPipeError | EOFError)


def sentence(error: Exception, host: str, via: Proxy | None = None) -> RegistryError:
    """Return what *error* of httpx means, where *host* was asked, perhaps through a proxy."""
    from kaniko_core.registry.light import httpx

    # With a proxy in between, it is the proxy that we connect to.
    met = host if via is None else f"the proxy {via.name}"
    for cause in causes_of(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return _untrusted(host, cause)
            case ssl.SSLError():
                return _tls_failure(host, cause)
            case socket.gaierror():
                return _unknown_host(met, cause)
            case ConnectionRefusedError():
                return _unreachable(met, "it refuses connections", "is it running, on that port?")
            case OSError(errno=code) if code in (EHOSTUNREACH, ENETUNREACH):
                return _unreachable(met, "there is no route to it", "is the network up?")
            case httpx.InvalidURL():
                return RegistryError(_NO_ADDRESS.format(host))
    match error:
        case httpx.ConnectTimeout():
            return _unreachable(met, f"no answer within {CONNECT_SECONDS:.0f} s", _FIREWALL)
        case httpx.TimeoutException():
            return RegistryError(f"{host} does not answer any more", temporary=True)
        case httpx.ProxyError():
            return proxy_refusal(host, via, _status(error))
        case httpx.NetworkError() | httpx.RemoteProtocolError() | httpx.StreamError():
            return RegistryError(f"the connection to {host} broke off", temporary=True)
        case _:
            return RegistryError(_NO_ADDRESS.format(host))


def proxy_refusal(host: str, via: Proxy | None, status: int | None) -> RegistryError:
    """Return the sentence for a proxy that answers with *status* instead of connecting."""
    name = f"the proxy {via.name}" if via else "the proxy"
    code = f" ({status})" if status else ""
    if status == PROXY_AUTHENTICATION:
        return RegistryError(
            f"cannot reach {host}: {name} wants a user and a password, or other ones{code}",
            hint="write them into the variable that names the proxy: http://USER:PASSWORD@HOST:PORT",
        )
    return RegistryError(
        f"cannot reach {host}: {name} refused to connect{code}",
        temporary=status is None or status >= 500,
        hint="check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and what the proxy allows",
    )


# HTTP's status of a proxy that does not let us pass (RFC 9110, section 15.5.8).
PROXY_AUTHENTICATION = 407


def _status(error: Exception) -> int | None:
    found = re.match(r"(\d{3})\b", str(error))
    return int(found[1]) if found else None


_NO_ADDRESS = "{} points to an address that cannot be used"
# What a server says of the certificate that we showed, or did not show (RFC 8446, section 6.2;
# the names are OpenSSL's).
_ALERTS_ABOUT_US = frozenset(
    f"{version} alert {what}"
    for version in ("tlsv13", "tlsv1", "sslv3", "ssl/tls")
    for what in (
        "access denied",
        "bad certificate",
        "certificate expired",
        "certificate revoked",
        "certificate unknown",
        "handshake failure",
        "no certificate",
        "unknown ca",
        "unsupported certificate",
    )
)
_FIREWALL = "does a firewall or network policy forbid it, or is a proxy needed?"


def _unreachable(host: str, why: str, hint: str) -> RegistryError:
    return RegistryError(f"cannot reach {host}: {why}", temporary=True, hint=hint)


def _unknown_host(host: str, error: socket.gaierror) -> RegistryError:
    # A resolver that cannot answer now differs from one that knows there is no such name.
    temporary = error.errno == socket.EAI_AGAIN
    why = "its name cannot be resolved" if temporary else "there is no host of that name"
    return RegistryError(
        f"cannot reach {host}: {why}",
        temporary=temporary,
        hint="check the name, and the DNS settings of this machine or pod",
    )


def _untrusted(host: str, error: ssl.SSLCertVerificationError) -> RegistryError:
    reason = (getattr(error, "verify_message", "") or "it is not trusted").rstrip(".")
    skip = f"--skip-tls-verify-registry {host} goes without verifying"
    match getattr(error, "verify_code", 0):
        case code if code in _OTHER_HOST:
            hint = f"use a name that it is for, or have one issued for this one; {skip}"
        case code if code in _WRONG_TIME:
            hint = f"it has to be renewed, or the clock of this machine is wrong; {skip}"
        case _:
            hint = (
                f"give the CA's certificate with --registry-certificate {host}=FILE, "
                f"or go without verifying with --skip-tls-verify-registry {host}"
            )
    return RegistryError(f"cannot verify the TLS certificate of {host}: {reason}", hint=hint)


# X509_V_ERR_… of OpenSSL (x509_vfy.h): the name or address is another; not yet or no longer valid.
_OTHER_HOST, _WRONG_TIME = frozenset({62, 64}), frozenset({9, 10})


def _tls_failure(host: str, error: ssl.SSLError) -> RegistryError:
    reason = (error.reason or "").replace("_", " ").lower()
    if reason in ("wrong version number", "http request", "packet length too long") or (
        "record layer" in reason
    ):
        return RegistryError(
            f"{host} does not speak TLS: it seems to be a plain HTTP server",
            hint=f"if that is meant, allow it with --insecure-registry {host}",
        )
    if "certificate required" in reason:
        return RegistryError(
            f"{host} wants a client certificate",
            hint=f"give one with --registry-client-cert {host}=CERT,KEY",
        )
    if reason in _ALERTS_ABOUT_US:
        return RegistryError(
            f"{host} refuses to talk TLS with us: {reason}",
            hint="it may want a client certificate, or another one: "
            f"--registry-client-cert {host}=CERT,KEY",
        )
    broken = isinstance(error, ssl.SSLEOFError)
    return RegistryError(
        f"cannot talk TLS with {host}: {reason or 'the connection broke off'}", temporary=broken
    )
