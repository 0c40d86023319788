"""Images and indexes on their way to registries: blobs first, then what names them.

    the repository has it ── HEAD ──▶ nothing to do
    another repository of the registry is being sent it ──▶ wait, and mount it from there
    else ──▶ sending.py

A blob goes to a repository once, however many threads ask for it, and its bytes to a registry
once, however many of its repositories want it. A manifest is sent when its blobs are there, an
index when its manifests are.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from kaniko_core.errors import RegistryError, TagImmutable
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import BytesLayer, Image
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor
from kaniko_core.progress import Progress
from kaniko_core.registry.endpoints import Endpoints
from kaniko_core.registry.failures import Answer
from kaniko_core.registry.sending import STORED, Blob, Sending, check_digest, try_upload
from kaniko_core.registry.session import Request, Session

# Blobs of one image or index that are asked for at once, and those whose bytes are sent at once
# to one registry: questions wait for the line, bytes for each other.
_AT_ONCE, _SENT_AT_ONCE = 16, 4
# What registries say of a tag that may not change. Amazon ECR: "cannot be overwritten because
# the tag is immutable", earlier "the repository is immutable"; Google Artifact Registry: "the
# repository has enabled tag immutability"; Harbor: "configured as immutable"; Alibaba: "the
# requested tag already exists and cannot be overwritten"; Mirantis: "cannot be overwritten because
# ... is an immutable repository".
_IMMUTABLE = re.compile(rb"immutab|cannot be overwritten", re.IGNORECASE)
_CHANGE_HINT = (
    "push under another tag; --push-ignore-immutable-tag-errors leaves it as it is, and succeeds"
)


@dataclass(frozen=True, slots=True)
class _Home:
    """A repository that has a blob when *sent* is done: others of its registry can mount it."""

    repository: Repository
    sent: Future[None]


class Uploads:
    """Sends blobs, images and indexes; safe to use from several threads."""

    def __init__(self, session: Session, progress: Progress) -> None:
        self._session = session
        self._progress = progress
        self._sent: dict[tuple[Repository, Digest], Future[None]] = {}
        self._homes: dict[tuple[str, Digest], _Home] = {}
        self._turns: dict[str, threading.Semaphore] = {}
        self._lock = threading.Lock()

    def check(self, reference: Reference) -> None:
        """Begin an upload and cancel it; raise what would go wrong after the build."""
        try_upload(self._session, reference.repository)

    def upload(
        self, repository: Repository, blob: Blob, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Make sure that *repository* has *blob*; return when it has."""
        key = (repository, blob.descriptor.digest)
        with self._lock:
            other = self._sent.get(key)
            mine: Future[None] = Future()
            if other is None:
                self._sent[key] = mine
        if other is not None:
            other.result()
            return
        home = _Home(repository, mine)
        try:
            self._bring(home, blob, mount_from)
        except BaseException as error:
            with self._lock:
                del self._sent[key]  # the next one may try again
            self._give_up(home, blob)
            mine.set_exception(error)
            raise
        mine.set_result(None)

    def _bring(self, home: _Home, blob: Blob, mount_from: tuple[Repository, ...]) -> None:
        sending = Sending(self._session, self._progress, home.repository, blob)
        if sending.arrived:
            return
        place = (home.repository.registry, blob.descriptor.digest)
        while True:
            with self._lock:
                other = self._homes.setdefault(place, home)
            if other is home:
                break
            # Whoever is waited for has begun, and waits for nobody: this ends.
            if other.sent.exception() is None:
                mount_from = (other.repository, *mount_from)
                break
            self._give_up(other, blob)
        if not sending.mounted(mount_from):
            with self._turn(home.repository.registry):
                sending.run()

    def _turn(self, registry: str) -> threading.Semaphore:
        with self._lock:
            return self._turns.setdefault(registry, threading.Semaphore(_SENT_AT_ONCE))

    def _give_up(self, home: _Home, blob: Blob) -> None:
        place = (home.repository.registry, blob.descriptor.digest)
        with self._lock:
            if self._homes.get(place) is home:
                del self._homes[place]

    def put(
        self, reference: Reference, image: Image, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Send the blobs of *image*, several at once, and then its manifest."""
        self._send(reference.repository, (image,), mount_from)
        self._put_manifest(reference, image.descriptor, image.raw_manifest)

    def put_index(
        self, reference: Reference, index: ImageIndex, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Send the blobs of all images, then their manifests by digest, and then the index."""
        images = {image.digest: image for image in index.images}.values()
        self._send(reference.repository, images, mount_from)
        for image in images:
            named = reference.at(image.digest)
            self._put_manifest(named, image.descriptor, image.raw_manifest)
        self._put_manifest(reference, index.descriptor, index.raw)

    def _send(
        self, repository: Repository, images: Iterable[Image], mount_from: tuple[Repository, ...]
    ) -> None:
        blobs = {blob.descriptor.digest: blob for image in images for blob in _blobs(image)}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="upload") as pool:
            uploads = [
                pool.submit(self.upload, repository, blob, mount_from) for blob in blobs.values()
            ]
            try:
                for upload in as_completed(uploads):
                    upload.result()
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                if not isinstance(error, Exception):
                    self._session.stop()  # Ctrl-C: nobody wants to wait for the others
                raise

    def _put_manifest(self, reference: Reference, descriptor: Descriptor, raw: bytes) -> None:
        endpoints = Endpoints(reference.repository, push=True)
        request = endpoints.request(
            "PUT",
            endpoints.manifest(reference),
            headers={"Content-Type": descriptor.media_type},
            body=raw,
        )

        def attempt() -> None:
            answer = self._session.ask_once(request)
            if answer.status not in STORED:
                raise self._refused(answer, request, reference)
            check_digest(answer, descriptor.digest, f"the manifest of {reference}")

        self._session.retrying(attempt)

    def _refused(self, answer: Answer, request: Request, reference: Reference) -> RegistryError:
        error = self._session.refused(answer, request)
        # Nobody knows us by 401: what it says is not about the tag.
        if reference.digest is not None or error.status == 401 or answer.status >= 500:
            return error
        if not _IMMUTABLE.search(answer.body):
            return error
        return TagImmutable(str(error), status=error.status, code=error.code, hint=_CHANGE_HINT)


def _blobs(image: Image) -> tuple[Blob, ...]:
    return (*image.layers, BytesLayer(image.manifest.config, image.raw_config))
