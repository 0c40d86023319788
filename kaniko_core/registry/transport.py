"""The one door to the network: httpx clients, one for each way of trusting certificates.

HTTP/1.1 (HTTP/2 is half as fast in Python), bytes as they are on the wire, no cookies (some
registries take a client with cookies for a browser), no redirects of httpx's own (see
``session.py``), proxies from the environment. httpx is imported when the first request is made.
Every failure of the network becomes a sentence that names the host and never a URL.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EHOSTUNREACH, ENETUNREACH
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kaniko_core.errors import ContentError, RegistryError
from kaniko_core.registry.connections import Connections
from kaniko_core.registry.hosts import UNVERIFIED, HostRules, Trust, has_port, tls_context

if TYPE_CHECKING:
    import httpx

USER_AGENT = "kaniko-py/0.1"
# Seconds. A registry that puts a large blob together in an object store is silent for long.
_CONNECT, _READ, _READ_AFTER_WRITING, _WRITE, _PROBE = 10.0, 60.0, 300.0, 60.0, 5.0
Body = bytes | Iterator[bytes] | None


class Reply:
    """The answer to one request; its body is read as it is asked for. Close it."""

    def __init__(self, response: httpx.Response, host: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.challenges: tuple[str, ...] = tuple(response.headers.get_list("www-authenticate"))
        self.url = str(response.url)
        self._response = response
        self._host = host
        self._body: bytes | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the body; raise a temporary RegistryError where the connection breaks."""
        with _sentences(self._host):
            yield from self._response.iter_raw()

    def read(self, limit: int, what: str) -> bytes:
        """Return the whole body and close; raise ContentError beyond *limit* bytes.

        A second call returns the same.
        """
        if self._body is None:
            self._body = self._read(limit, what)
        return self._body

    def _read(self, limit: int, what: str) -> bytes:
        parts, size = [], 0
        try:
            for chunk in self.chunks():
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise ContentError(f"{what} of {self._host} is larger than {limit} bytes")
        finally:
            self.close()
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back, or drop it where the body was not read to its end."""
        with suppress(RegistryError), _sentences(self._host):
            self._response.close()


class Transport:
    """Sends requests by the rules of each host; safe to use from several threads."""

    def __init__(self, rules: HostRules) -> None:
        self._rules = rules
        self._clients: dict[Trust, httpx.Client] = {}
        self._origins: dict[str, str] = {}
        self._lock = threading.Lock()
        self._connections = Connections()

    def origin(self, host: str) -> str:
        """Return ``https://host``, or ``http://host`` where that is allowed and TLS is not spoken.

        Which it is, is asked for once for each host: by a request without credentials, whose
        certificate does not matter, because what is found out is only whether there is TLS.

        Raises:
            RegistryError: the host cannot be reached.
        """
        known = self._origins.get(host)
        if known is None:
            plain = self._rules.allows_plain(host) and not self._speaks_tls(host)
            known = f"http://{host}" if plain else f"https://{host}"
            self._origins[host] = known
        return known

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> Reply:
        """Send one request and return the answer, its body unread.

        Raises:
            RegistryError: there was no answer; temporary where another try can help.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        trust = UNVERIFIED if url.startswith("http://") else self._rules.trust(host)
        client = self._client(trust)
        read = _READ if method in ("GET", "HEAD") else _READ_AFTER_WRITING
        # Who is giving up tidies up where that can be done at once.
        timeout = _timeout(_PROBE if self._connections.aborted else read)
        with _sentences(host):
            request = client.build_request(
                method, url, headers=dict(headers), content=body, timeout=timeout
            )
            request.extensions["trace"] = self._connections.trace()
            return Reply(client.send(request, stream=True), host)

    def abort(self) -> None:
        """End every request that is under way, now: a server that says nothing is not waited for.

        They fail as if the connection had broken off. Requests that begin after this may do so.
        """
        self._connections.abort()

    def close(self) -> None:
        """Close all connections; requests under way fail."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def _speaks_tls(self, host: str) -> bool:
        import httpx

        try:
            client = self._client(UNVERIFIED)
            url, timeout = f"https://{host}/v2/", _timeout(_PROBE)
            request = client.build_request("HEAD", url, timeout=timeout)
            request.extensions["trace"] = self._connections.trace()
            client.send(request, stream=True).close()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if any(_is_not_tls(cause) for cause in _causes(error)):
                return False
            if has_port(host):
                raise _sentence(error, host) from error
            return False  # nobody on port 443; port 80 is another matter
        except httpx.RemoteProtocolError:
            return False
        except httpx.HTTPError as error:
            # After the handshake, so TLS it is; the real request will tell what is wrong.
            return not any(_is_not_tls(cause) for cause in _causes(error))
        return True

    def _client(self, trust: Trust) -> httpx.Client:
        with self._lock:
            if trust not in self._clients:
                self._clients[trust] = _new_client(trust)
            return self._clients[trust]


def _new_client(trust: Trust) -> httpx.Client:
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx

    # Both log URLs, and those of blobs carry signatures.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.Client(
        verify=tls_context(trust),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # No limit: a thread that holds one stream open may be waiting for another.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
    )


def _timeout(read: float) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(connect=_CONNECT, read=read, write=_WRITE, pool=None)


@contextmanager
def _sentences(host: str) -> Iterator[None]:
    """Translate httpx's errors."""
    import httpx

    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raise _sentence(error, host) from error
    except UnicodeError as error:
        # A host's name whose parts are too long, or empty.
        raise RegistryError(_NO_ADDRESS.format(host)) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_not_tls(error: BaseException) -> bool:
    """Whether *error* is what a TLS client meets at a server that speaks something else."""
    if isinstance(error, ssl.SSLError):
        # An alert is TLS: the server speaks it, but wants something else of us.
        return "ALERT" not in (error.reason or "") or isinstance(error, ssl.SSLEOFError)
    return isinstance(error, ConnectionResetError | BrokenPipeError | EOFError)


def _sentence(error: Exception, host: str) -> RegistryError:
    import httpx

    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return _untrusted(host, cause)
            case ssl.SSLError():
                return _tls_failure(host, cause)
            case socket.gaierror():
                return _unknown_host(host, cause)
            case ConnectionRefusedError():
                return _unreachable(host, "it refuses connections", "is it running, on that port?")
            case OSError(errno=code) if code in (EHOSTUNREACH, ENETUNREACH):
                return _unreachable(host, "there is no route to it", "is the network up?")
            case httpx.InvalidURL():
                return RegistryError(_NO_ADDRESS.format(host))
    match error:
        case httpx.ConnectTimeout():
            return _unreachable(host, f"no answer within {_CONNECT:.0f} s", _FIREWALL)
        case httpx.TimeoutException():
            return RegistryError(f"{host} does not answer any more", temporary=True)
        case httpx.ProxyError():
            hint = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
            return _unreachable(host, "the proxy refused to connect", hint)
        case httpx.NetworkError() | httpx.RemoteProtocolError() | httpx.StreamError():
            return RegistryError(f"the connection to {host} broke off", temporary=True)
        case _:
            return RegistryError(_NO_ADDRESS.format(host))


_NO_ADDRESS = "{} points to an address that cannot be used"
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
    reason = getattr(error, "verify_message", "") or "it is not trusted"
    return RegistryError(
        f"cannot verify the TLS certificate of {host}: {reason}",
        hint=f"give the CA's certificate with --registry-certificate {host}=FILE, "
        f"or go without verifying with --skip-tls-verify-registry {host}",
    )


def _tls_failure(host: str, error: ssl.SSLError) -> RegistryError:
    reason = (error.reason or "").replace("_", " ").lower()
    if reason in ("wrong version number", "http request", "packet length too long") or (
        "record layer" in reason
    ):
        return RegistryError(
            f"{host} does not speak TLS: it seems to be a plain HTTP server",
            hint=f"if that is meant, allow it with --insecure-registry {host}",
        )
    broken = isinstance(error, ssl.SSLEOFError)
    return RegistryError(
        f"cannot talk TLS with {host}: {reason or 'the connection broke off'}", temporary=broken
    )
