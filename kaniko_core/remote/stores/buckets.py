"""Objects of buckets: Amazon S3, Google Cloud Storage, Azure Blob Storage, and their likes.

    HEAD ──► size, ETag, time ──► parts, several at once, each If-Match: the ETag ──► checksum
             └► bucket elsewhere: once more, there

What fails in passing is asked for again, part by part. The library is obstore
(``pip install kaniko-py[stores]``); who we are is found out by botocore, and by what finds
credentials for registries. No sentence here shows a signature, a key or a token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import Any, BinaryIO, cast

from kaniko_core.addresses.archives import BucketObject, Store
from kaniko_core.errors import ContextError, KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import SECOND
from kaniko_core.progress import Progress
from kaniko_core.registry.hosts import HostRules, Trust, canonical
from kaniko_core.registry.transport import Transport
from kaniko_core.remote.incoming import Incoming
from kaniko_core.remote.ranges import RangeReader
from kaniko_core.remote.stores.azure import azure_place
from kaniko_core.remote.stores.checksums import Checksum, VerifiedReader, checksum_of
from kaniko_core.remote.stores.google import google_place
from kaniko_core.remote.stores.places import Place, Surroundings, needed
from kaniko_core.remote.stores.refusals import Refusal, explained, refusal_of
from kaniko_core.remote.stores.s3 import s3_place
from kaniko_core.remote.stores.waiting import Requests

# At most twice as many parts as are fetched at once are held: 32 MiB.
_PART, _AT_ONCE = 4 << 20, 4
# How often a part is asked for again after the connection broke off, and seconds before that.
_AGAIN, _PAUSE = 3, 0.5
_LARGEST_ANSWER = 1 << 16  # bytes of a body that nobody reads


@dataclass(frozen=True, slots=True)
class Buckets:
    """Opens objects; safe to use from several threads.

    Attributes:
        environment: variables that say where stores are, and who we are. Libraries read those of
            the process.
        trust: whose certificates are believed for a host (with port).
        progress: told of bytes that move.
        stopped: set by whoever gives everything up.
    """

    environment: Mapping[str, str] = field(repr=False)
    trust: Callable[[str], Trust]
    progress: Progress
    stopped: threading.Event

    def open(self, wanted: BucketObject) -> Incoming:
        """Begin to fetch an object; whoever closes the stream ends the transfer.

        Raises:
            ContextError: it cannot be had.
            UsageError: what says where the store is cannot be used.
        """
        try:
            import obstore  # noqa: F401 - whether it is there
        except ImportError:
            raise needed("obstore", wanted.store.value) from None
        requests = Requests(self.stopped)
        try:
            return self._opened(wanted, requests)
        except BaseException:
            requests.close()
            raise

    def _opened(self, wanted: BucketObject, requests: Requests) -> Incoming:
        place = self._place(wanted)
        source = _Object(wanted, place, requests)
        try:
            found = source.described()
        except _Elsewhere as moved:
            source = _Object(wanted, moved.place, requests)
            found = source.described(moved=True)
        size = int(found["size"])
        tag: str = found["e_tag"] or ""
        reader = RangeReader(
            # A weak one never matches.
            partial(source.part, "" if tag.startswith("W/") else tag),
            size,
            part=_PART,
            at_once=max(1, min(_AT_ONCE, -(-size // _PART))),
            stopped=self.stopped,
        )
        stream = VerifiedReader(
            reader,
            wanted.name,
            size,
            checksum=self._checksum(wanted, source.place, tag),
            progress=self.progress,
            ending=requests.give_up,
            ended=requests.close,
        )
        mtime_ns = max(0, int(found["last_modified"].timestamp())) * SECOND
        return Incoming(cast(BinaryIO, stream), wanted.name, size, mtime_ns)

    def _place(self, wanted: BucketObject) -> Place:
        around = Surroundings(self.environment, self.trust)
        try:
            match wanted.store:
                case Store.S3:
                    return s3_place(wanted, around, self._headers)
                case Store.GCS:
                    return google_place(wanted, around)
                case Store.AZURE:
                    return azure_place(wanted, around)
        except KanikoError:
            raise
        except Exception:  # the library's, of many kinds; its texts may have keys in them
            raise ContextError(
                f"cannot fetch {wanted.name}: the settings of the store cannot be used",
                hint="check the variables that say where the store is, and who we are",
            ) from None

    def _checksum(self, wanted: BucketObject, place: Place, tag: str) -> Checksum | None:
        """Ask for the object's checksum, which obstore does not tell; None if there is none."""
        try:
            headers = self._headers(place.url, place.authorized())
        except Exception:  # then it is fetched without
            return None
        # Between the two requests it may have become another.
        same = not tag or headers.get("etag", "").strip('"') == tag.strip('"')
        return checksum_of(wanted.store, headers) if same else None

    def _headers(self, url: str, authorization: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the headers of the answer to a HEAD; only a 200 counts if it is authorized."""
        transport = Transport(_rules(self.trust, url))
        try:
            reply = transport.send("HEAD", url, authorization or {})
            reply.read(_LARGEST_ANSWER, "an answer")
        finally:
            transport.close()
        if authorization is not None and reply.status != 200:
            return {}
        return {name.lower(): value for name, value in reply.headers.items()}


class _Elsewhere(Exception):  # noqa: N818 - what is the matter
    """The bucket is at another place."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place


@dataclass(frozen=True, slots=True)
class _Object:
    """An object at its place."""

    wanted: BucketObject
    place: Place
    requests: Requests

    def described(self, *, moved: bool = False) -> Mapping[str, Any]:
        """Return size, ETag and time.

        Args:
            moved: whether this is where another place led to.

        Raises:
            ContextError: it cannot be had.
            _Elsewhere: the bucket is at another place.
        """
        import obstore

        try:
            found = self._answer(lambda: obstore.head_async(self.place.store, self.wanted.key))
            return cast(Mapping[str, Any], found)
        except _Failed as failed:
            refusal = self._in_words(failed.refusal)
        # Amazon answers 400 where a signature is for another region.
        elsewhere = not moved and (refusal.moved or refusal.status == 400)
        other = self._other_place() if elsewhere else None
        if other is not None:
            raise _Elsewhere(other)
        raise explained(refusal, self.wanted, self.place)

    def part(self, tag: str, start: int, end: int) -> bytes:
        """Return the bytes from *start* up to *end*, as long as the object has the ETag *tag*.

        Raises:
            ContextError: they cannot be had.
        """
        options = {"range": (start, end)} | ({"if_match": tag} if tag else {})
        failures = 0
        while True:
            try:
                return cast(bytes, self._answer(partial(self._fetched, options)))
            except _Failed as failed:
                if not failed.refusal.passing or failures == _AGAIN:
                    raise explained(failed.refusal, self.wanted, self.place) from failed
            self.requests.rest(_PAUSE * 2**failures)
            failures += 1

    async def _fetched(self, options: Mapping[str, Any]) -> bytes:
        import obstore

        result = await obstore.get_async(self.place.store, self.wanted.key, options=options)
        # A buffer of the library's, which is not copied.
        return cast(bytes, await result.bytes_async())

    def _in_words(self, refusal: Refusal) -> Refusal:
        """Ask once more, since the answer to a HEAD has no body that says what is wrong."""
        if refusal.status < 400 or refusal.code:
            return refusal
        try:
            self._answer(partial(self._fetched, {"range": (0, 1)}))
        except _Failed as failed:
            return failed.refusal
        return refusal

    def _other_place(self) -> Place | None:
        try:
            return self.place.elsewhere()
        except KanikoError:
            return None  # then the refusal is what is told

    def _answer(self, request: Callable[[], Any]) -> Any:
        try:
            return self.requests.answer(request)
        except KanikoError:
            raise
        except ValueError as error:
            raise ContextError(
                f"cannot fetch {self.wanted.name}: the library obstore cannot ask for such a name",
                hint="names with empty parts, or with . or .. as a part, cannot be asked for",
            ) from error
        except Exception as error:  # the library's own, and FileNotFoundError
            raise _Failed(refusal_of(error)) from None


class _Failed(Exception):  # noqa: N818 - what it did
    """A request failed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


def _rules(trust: Callable[[str], Trust], url: str) -> HostRules:
    """Return rules that say of the host of *url* what *trust* says."""
    from urllib.parse import urlsplit

    host = urlsplit(url).netloc
    believed = trust(host)
    name = canonical(host)
    return HostRules(
        unverified_hosts=frozenset() if believed.verified else frozenset({name}),
        certificates=tuple((name, file) for file in believed.certificates),
        own=((name, believed.own),) if believed.own else (),
    )
