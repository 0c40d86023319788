"""The one door to the network: httpx clients, one for each way of trusting and each proxy.

HTTP/1.1 (HTTP/2 is half as fast in Python), bytes as they are on the wire, no cookies (some
registries take a client with cookies for a browser), no redirects of httpx's own (see
``session.py``), proxies as ``proxies.py`` says. ``light.py`` imports httpx, with the first request.
Every failure of the network becomes a sentence that names the host and never a URL.
"""

from __future__ import annotations

import logging
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kaniko_core.errors import ContentError, RegistryError
from kaniko_core.registry.bodies import pieces
from kaniko_core.registry.connections import Connections
from kaniko_core.registry.hosts import UNVERIFIED, HostRules, Trust, has_port, tls_context
from kaniko_core.registry.network import (
    CONNECT_SECONDS,
    PROXY_AUTHENTICATION,
    causes_of,
    is_not_tls,
    proxy_refusal,
    sentence,
    sentences,
)
from kaniko_core.registry.proxies import Proxies, Proxy

if TYPE_CHECKING:
    from kaniko_core.registry.light import httpx

USER_AGENT = "kaniko-py/0.1"
# Seconds. A registry that puts a large blob together in an object store is silent for long.
_READ, _READ_AFTER_WRITING, _WRITE, _PROBE = 60.0, 300.0, 60.0, 5.0
# Seconds that a connection is kept for the next request. Many a RUN is shorter, and what comes
# after it needs no new handshake; servers, and what is before them, mostly wait for longer.
_IDLE = 30.0
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

    @property
    def has_arrived(self) -> bool:
        """Whether the socket holds bytes already, so that nobody has to wait for the line.

        What TLS has deciphered, or httpx read, and not delivered, is not seen.
        """
        stream = self._response.extensions.get("network_stream")
        connected = stream and stream.get_extra_info("socket")
        descriptor = -1 if connected is None else connected.fileno()
        if descriptor < 0:
            return False
        arrivals = select.poll()
        arrivals.register(descriptor, select.POLLIN)
        return bool(arrivals.poll(0))

    def chunks(self) -> Iterator[bytes]:
        """Yield the body; raise a temporary RegistryError where the connection breaks."""
        with sentences(self._host):
            yield from pieces(self._response)

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
        with suppress(RegistryError), sentences(self._host):
            self._response.close()


class Transport:
    """Sends requests by the rules of each host; safe to use from several threads.

    Args:
        rules: of each host.
        client_type: what starts us, as a word after our own in the User-Agent.
    """

    def __init__(self, rules: HostRules, client_type: str = "") -> None:
        self._rules = rules
        # A comma, as Go kaniko has it: registries of clouds count their own build services by it.
        self._user_agent = ",".join(filter(None, (USER_AGENT, client_type)))
        self._clients: dict[tuple[Trust, Proxy | None], httpx.Client] = {}
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

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body = None,
        *,
        verified: bool = True,
    ) -> Reply:
        """Send one request and return the answer, its body unread.

        Where *verified* is false, any certificate of the host will do, whatever its rules say.

        Raises:
            RegistryError: there was no answer; temporary where another try can help.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        trust = UNVERIFIED if url.startswith("http://") else self._rules.trust(host)
        if not verified:
            trust = replace(UNVERIFIED, own=trust.own)
        via = self._proxies.proxy(url)
        client = self._client(trust, via)
        read = _READ if method in ("GET", "HEAD") else _READ_AFTER_WRITING
        # Who is giving up tidies up where that can be done at once.
        timeout = _timeout(_PROBE if self._connections.aborted else read)
        with sentences(host, via):
            request = client.build_request(
                method, url, headers=dict(headers), content=body, timeout=timeout
            )
            request.extensions["trace"] = self._connections.trace()
            reply = Reply(client.send(request, stream=True), host)
        if via is not None and reply.status == PROXY_AUTHENTICATION:
            reply.close()
            raise proxy_refusal(host, via, reply.status)
        return reply

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
        from kaniko_core.registry.light import httpx

        url, timeout = f"https://{host}/v2/", _timeout(_PROBE)
        via = self._proxies.proxy(url)
        try:
            client = self._client(UNVERIFIED, via)
            request = client.build_request("HEAD", url, timeout=timeout)
            request.extensions["trace"] = self._connections.trace()
            client.send(request, stream=True).close()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if any(is_not_tls(cause) for cause in causes_of(error)):
                return False
            if any(isinstance(cause, ssl.SSLError) for cause in causes_of(error)):
                return True  # an alert: it wants a certificate that is not shown to ask this
            if has_port(host):
                raise sentence(error, host, via) from error
            return False  # nobody on port 443; port 80 is another matter
        except httpx.RemoteProtocolError:
            return False
        except httpx.ProxyError:
            # Many proxies let TLS pass to port 443 only; the real request will tell the rest.
            return False
        except httpx.HTTPError as error:
            # After the handshake, so TLS it is; the real request will tell what is wrong.
            return not any(is_not_tls(cause) for cause in causes_of(error))
        return True

    def _client(self, trust: Trust, via: Proxy | None) -> httpx.Client:
        with self._lock:
            client = self._clients.get((trust, via))
            if client is None:
                client = self._clients[trust, via] = _new_client(trust, via, self._user_agent)
            return client

    @cached_property
    def _proxies(self) -> Proxies:
        return Proxies.of_environment()


def _new_client(trust: Trust, via: Proxy | None, user_agent: str) -> httpx.Client:
    from concurrent.futures import ThreadPoolExecutor
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    # OpenSSL reads the system's certificates, which takes about as long as importing httpx does.
    # It needs no interpreter for that, so where there are two processors, it is done meanwhile.
    with ThreadPoolExecutor(1, thread_name_prefix="certificates") as aside:
        context = aside.submit(tls_context, trust)
        from kaniko_core.registry.light import httpx

    # Both log URLs, and those of blobs carry signatures.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What is believed of a registry has no bearing on a proxy that is itself spoken to by TLS.
    by_tls = via is not None and via.url.startswith("https:")
    proxy_context = tls_context(Trust()) if by_tls else None
    return httpx.Client(
        verify=context.result(),
        proxy=httpx.Proxy(via.url, ssl_context=proxy_context) if via else None,
        trust_env=False,
        headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # No limit: a thread that holds one stream open may be waiting for another.
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=16, keepalive_expiry=_IDLE
        ),
    )


def _timeout(read: float) -> httpx.Timeout:
    from kaniko_core.registry.light import httpx

    return httpx.Timeout(connect=CONNECT_SECONDS, read=read, write=_WRITE, pool=None)
