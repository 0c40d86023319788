"""Images in registries: the ImageStore that everything above uses.

    Registry ─┬─ Manifests ────────────────┐
              ├─ Downloads ────────────────┤
              ├─ Uploads ── Endpoints ─────┼─ Session ─┬─ Transport (httpx)
              └─ Conversation (oras) ──────┘           └─ Authorizer ── Keychain

Who pays for an import is who needs it. A warmer that finds everything in its cache does no more
than one HEAD for each image: httpx comes with the first request, credentials with the first
registry that wants some, what sends with the first thing to send. ``conversation.py`` and
``endpoints.py`` say what oras is used for.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from kaniko_core.errors import ContentError, DigestMismatch, RegistryError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, Layer, listed_artifact
from kaniko_core.oci.index import ImageIndex
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, ImageConfig, Index, Manifest, MediaType
from kaniko_core.options import RegistryOptions
from kaniko_core.progress import Progress, Warned, silent
from kaniko_core.registry.credentials import Keychain, LateKeychain
from kaniko_core.registry.download import Downloads, Housed, RemoteLayer
from kaniko_core.registry.failures import BUSY, no_image
from kaniko_core.registry.hosts import HostRules
from kaniko_core.registry.manifests import Manifests
from kaniko_core.registry.mirrors import MirrorRules, Mirrors
from kaniko_core.registry.pacing import Pacing
from kaniko_core.registry.retrieval import Retrieval
from kaniko_core.registry.session import Request, Session
from kaniko_core.registry.transport import Transport

if TYPE_CHECKING:
    from kaniko_core.registry.conversation import Conversation
    from kaniko_core.registry.upload import Uploads


class Registry:
    """All registries, by the options for one direction; safe to use from several threads.

    Args:
        options: how registries are talked to.
        push: whether the options for pushing hold, or those for pulling; both can be done.
        progress: told of bytes that move.
        keychain: knows the credentials; that of Docker's config by default.
        pacing: when to try again; as the options say by default.
        spool: where layers are checked that may have to be fetched anew; a directory that lasts
            as long as this. That of temporary files by default.
    """

    def __init__(
        self,
        options: RegistryOptions | None = None,
        *,
        push: bool = False,
        progress: Progress = silent,
        keychain: Keychain | None = None,
        pacing: Pacing | None = None,
        spool: Path | None = None,
    ) -> None:
        options = options or RegistryOptions()
        self._progress = progress
        client_type = options.upstream_client_type if push else ""
        self._transport = Transport(HostRules.of(options, push=push), client_type)
        retries = options.push_retry if push else options.image_download_retry
        keychain = keychain or LateKeychain(partial(_dockers_keychain, options))
        pacing = pacing or Pacing(retries)
        self._session = Session(self._transport, keychain, pacing, progress)
        # There is another place to ask: what one that is not well would cost is better saved.
        self._brief = Session(self._transport, keychain, pacing.brief, progress)
        rules = MirrorRules() if push else MirrorRules.of(options)
        mirrors = Mirrors(rules, self._session, self._brief, progress)
        self._manifests = Manifests(mirrors)
        retrieval = Retrieval(0 if push else options.image_fs_extract_retry, spool, progress)
        self._downloads = Downloads(self._session, progress, mirrors, retrieval)
        self._lock = threading.Lock()
        self._sender: Uploads | None = None

    def head(self, reference: Reference) -> Descriptor | None:
        """Return the descriptor of the manifest or index under *reference*, or None.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
        """
        return self._manifests.head(reference)

    def manifest(self, reference: Reference) -> tuple[Descriptor, bytes] | None:
        """Return the manifest or index under *reference* with its bytes, verified, or None.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
            ContentError: what it sends is not what it promised, or no manifest.
        """
        return self._manifests.fetch(reference)

    def get(self, reference: Reference, platform: Platform) -> Image | None:
        """Return the image, its config fetched, its layers to be fetched; None if there is none.

        Raises:
            NotFound: there are images under the name, but none for *platform*.
            RegistryError: the registry refuses, or cannot be reached.
            ContentError: what it sends is not what it promised, or no image.
        """
        found = self._manifests.resolve(reference, platform)
        if found is None:
            return None
        image = self._named_image(reference, found[1])
        if not image.config.platform.serves(platform):
            self._progress(
                Warned(f"{reference.familiar} is for {image.config.platform}, not for {platform}")
            )
        return image

    def read(self, reference: Reference) -> Image | ImageIndex | None:
        """Return what *reference* names, be it an image or an index with all its images, or None.

        Raises:
            NotFound: the index lists an image that is not there.
            RegistryError: the registry refuses, or cannot be reached.
            ContentError: what it sends is not what it promised, or no image.
        """
        found = self._manifests.fetch(reference)
        if found is None:
            return None
        descriptor, raw = found
        if descriptor.media_type not in MediaType.INDEXES:
            return self._named_image(reference, raw)
        images = []
        for item in Index.parse(raw).manifests:
            listed = reference.at(item.digest)
            one = self._manifests.fetch(listed)
            if one is None:
                raise no_image(listed)
            if one[0].media_type in MediaType.INDEXES:
                raise ContentError(f"the index {reference.familiar} lists an index")
            artifact = listed_artifact(one[1], partial(self._blob, listed))
            images.append(artifact or self._named_image(listed, one[1]))
        return ImageIndex.of(raw, images)

    def layer(self, reference: Reference, descriptor: Descriptor, diff_id: Digest) -> RemoteLayer:
        """Return a layer of the image *reference*; nothing is asked before it is read."""
        return self._downloads.layer(reference, descriptor, diff_id)

    def has_blob(self, repository: Repository, digest: Digest) -> bool:
        """Whether *repository* has the blob; True, too, where the registry does not tell.

        Raises:
            RegistryError: the registry has a problem, or cannot be reached.
        """
        return self._downloads.has(repository, digest)

    def put(
        self, reference: Reference, image: Image, *, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Push *image*; blobs that are there already, or can be mounted, are not sent.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
            DigestMismatch: a layer is not what its descriptor says.
        """
        self._uploads().put(reference, image, (*_homes(image.layers), *mount_from))

    def put_index(
        self, reference: Reference, index: ImageIndex, *, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Push *index* and all images that it lists; only the index gets the tag.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
            DigestMismatch: a layer is not what its descriptor says.
        """
        layers = tuple(layer for image in index.images for layer in image.layers)
        self._uploads().put_index(reference, index, (*_homes(layers), *mount_from))

    def upload(
        self, repository: Repository, layer: Layer, *, mount_from: tuple[Repository, ...] = ()
    ) -> None:
        """Make sure that *repository* has the layer's blob; a second call costs nothing.

        Raises:
            RegistryError: the registry refuses, or cannot be reached.
            DigestMismatch: the layer is not what its descriptor says.
        """
        self._uploads().upload(repository, layer, (*_homes((layer,)), *mount_from))

    def check_push(self, reference: Reference) -> None:
        """Find out whether *reference* can be pushed to, by beginning and cancelling an upload.

        Raises:
            RegistryError: it cannot; the sentence says why.
        """
        self._uploads().check(reference)

    def put_text(self, url: str, text: str) -> None:
        """Send *text* to an address that takes a PUT; no message shows more of it than the host.

        Raises:
            RegistryError: the host refuses, or cannot be reached.
        """
        host = urlsplit(url).hostname or ""

        def attempt() -> None:
            headers = {"Content-Type": "text/plain"}
            reply = self._transport.send("PUT", url, headers, text.encode())
            reply.close()
            if not 200 <= reply.status < 300:
                raise RegistryError(
                    f"cannot write to {host}: it answered {reply.status}",
                    status=reply.status,
                    temporary=reply.status in BUSY,
                    hint="the address may have expired, or be for something else than a PUT",
                )

        self._session.retrying(attempt)

    def check_login(self, repository: Repository) -> None:
        """Find out whether the registry of *repository* takes the keychain's credentials.

        Raises:
            Unauthorized: it does not.
            RegistryError: it has a problem, or cannot be reached.
        """
        doing = f"log in to {repository.registry}"
        request = Request(
            method="GET", repository=repository, scopes=(), target="/v2/", doing=doing
        )
        answer = self._session.ask(request)
        if answer.status != 200:
            raise self._session.refused(answer, request)

    def conversation(self, repository: Repository, *, push: bool = False) -> Conversation:
        """Return oras's client for *repository*: tags, deletion, artifacts."""
        from kaniko_core.registry.conversation import Conversation

        return Conversation(self._session, repository, push=push)

    def cancel(self) -> None:
        """End what other threads are doing here, now."""
        self._session.stop()
        self._brief.stop()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._session.stopped

    def close(self) -> None:
        """Cancel everything and close the connections."""
        self.cancel()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _named_image(self, reference: Reference, raw: bytes) -> Image:
        """Return the image; an error names it."""
        try:
            return self._image(reference, raw)
        except DigestMismatch:
            raise
        except ContentError as error:
            raise ContentError(f"{reference.familiar}: {error}", hint=error.hint) from error

    def _image(self, reference: Reference, raw: bytes) -> Image:
        manifest = Manifest.parse(raw)
        raw_config = self._downloads.config(reference, manifest.config)
        diff_ids = ImageConfig.parse(raw_config).diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise ContentError(
                f"its config lists {len(diff_ids)} layers, its manifest {len(manifest.layers)}"
            )
        layers = tuple(
            self._downloads.layer(reference, descriptor, diff_id)
            for descriptor, diff_id in zip(manifest.layers, diff_ids, strict=True)
        )
        return Image.of(raw, raw_config, layers)

    def _blob(self, reference: Reference, descriptor: Descriptor) -> RemoteLayer:
        return self._downloads.layer(reference, descriptor, descriptor.digest)

    def _uploads(self) -> Uploads:
        with self._lock:
            if self._sender is None:
                from kaniko_core.registry.upload import Uploads

                self._sender = Uploads(self._session, self._progress)
            return self._sender


def _dockers_keychain(options: RegistryOptions) -> Keychain:
    from kaniko_core.registry.auth import DockerKeychain

    return DockerKeychain(helpers=options.credential_helpers)


def _homes(layers: tuple[Layer, ...]) -> tuple[Repository, ...]:
    """Return where remote layers are: their registry need not be sent them again."""
    return tuple(dict.fromkeys(layer.repository for layer in layers if isinstance(layer, Housed)))


__all__ = ["Registry", "RemoteLayer"]
