"""Steps in a repository of a registry: an image for each, tagged with its key."""

from __future__ import annotations

from kaniko_core.errors import ContentError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import BytesLayer, Image
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import Descriptor, Manifest, MediaType
from kaniko_core.registry.client import Registry
from kaniko_core.steps.images import step_in
from kaniko_core.steps.step import CachedStep

_RECORD = "application/vnd.kaniko-py.record.v1"
# What an artifact has in the place of an image config (OCI image-spec v1.1, manifest.md,
# "Guidance for an Empty Descriptor").
_EMPTY, _EMPTY_TYPE = b"{}", "application/vnd.oci.empty.v1+json"
# Bytes. Records are held in memory, and a registry may claim anything.
_LARGEST_RECORD = 64 << 20


class RepositorySteps:
    """A StepStore in *repository*."""

    def __init__(self, repository: Repository, registry: Registry) -> None:
        self._repository = repository
        self._registry = registry

    @property
    def name(self) -> str:
        """The repository, as people write it."""
        return Reference(self._repository).familiar

    def get(self, key: str) -> CachedStep | None:
        """Ask for the manifest, and whether the blob is there; see the protocol."""
        found = self._registry.manifest(Reference(self._repository, key))
        if found is None or found[0].media_type not in MediaType.MANIFESTS:
            return None
        # Without the tag, which is long, since it is shown while the layer is fetched.
        reference = Reference(self._repository)
        step = step_in(
            key,
            Manifest.parse(found[1]),
            lambda descriptor, diff_id: self._registry.layer(reference, descriptor, diff_id),
        )
        if step is None:
            return None
        digest = step.layer.descriptor.digest
        if not self._registry.has_blob(self._repository, digest):
            raise ContentError(f"the registry does not have the layer {digest} any more")
        return step

    def put(self, key: str, image: Image, *, known_in: tuple[Repository, ...] = ()) -> None:
        """Push; a blob that another repository of the registry has is mounted from there."""
        self._registry.put(Reference(self._repository, key), image, mount_from=known_in)

    def discard(self, key: str, step: CachedStep) -> None:
        """Do nothing: a push of the same key takes the entry's place."""

    def read_record(self, name: str) -> bytes | None:
        """Return the one blob of an artifact."""
        blob = self._record(name)
        if blob is None:
            return None
        if blob.size > _LARGEST_RECORD:
            raise ContentError(f"{self.name}:{name} has {blob.size} bytes, which cannot be")
        layer = self._registry.layer(Reference(self._repository, name), blob, blob.digest)
        with layer.open() as stream:
            return stream.read()

    def write_record(self, name: str, data: bytes) -> None:
        """Push an artifact of one blob, unless it is there."""
        blob = BytesLayer(Descriptor(_RECORD, Digest.of(data), len(data)), data)
        if self._record(name) == blob.descriptor:
            return
        manifest = Manifest(
            MediaType.OCI_MANIFEST,
            Descriptor(_EMPTY_TYPE, Digest.of(_EMPTY), len(_EMPTY)),
            (blob.descriptor,),
            extra={"artifactType": _RECORD},
        )
        image = Image(manifest.to_bytes(), _EMPTY, (blob,))
        self._registry.put(Reference(self._repository, name), image)

    def _record(self, name: str) -> Descriptor | None:
        found = self._registry.manifest(Reference(self._repository, name))
        if found is None or found[0].media_type != MediaType.OCI_MANIFEST:
            return None
        layers = Manifest.parse(found[1]).layers
        return layers[0] if len(layers) == 1 and layers[0].media_type == _RECORD else None
