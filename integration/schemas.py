"""Whether documents are what the OCI image specification says, by its own JSON schemas.

    check = SchemaCheck()
    check.layout(Path("layout"))         # everything that index.json leads to
    check.registry(registry)             # every manifest that a docker-registry has stored
    check.seen                           # how many of each kind there were

A JSON schema cannot say that a size is true, or that a config has a diff ID for each layer; what
it cannot say is checked here too, with the words of the specification in version 1.1.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry as Documents
from referencing import Resource
from referencing.jsonschema import DRAFT4

from integration.world import Registry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SCHEMAS = Path(__file__).parent / "oci_schemas"
Json = Mapping[str, Any]
# Returns the bytes of the blob or manifest with a digest.
Blobs = Callable[[str], bytes]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
INDEXES, MANIFESTS = {OCI_INDEX, DOCKER_INDEX}, {OCI_MANIFEST, DOCKER_MANIFEST}
_OCI_LAYER = re.compile(r"application/vnd\.oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?")
_DOCKER_LAYER = re.compile(r"application/vnd\.docker\.image\.rootfs\.diff\.tar\.gzip")
# RFC 3339, section 5.6.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class NotByTheSpecification(AssertionError):  # noqa: N818 - what it is
    """A document is not what the specification says; the sentence names it."""


@cache
def _validator(name: str) -> jsonschema.Draft4Validator:
    """Return the validator of ``NAME-schema.json``, which may lead to the other files."""
    formats = jsonschema.FormatChecker(())
    formats.checks("date-time")(_is_time)

    def retrieve(uri: str) -> Resource[Any]:
        """Find a schema by the end of its name: they name each other by several bases."""
        content = json.loads((_SCHEMAS / uri.rpartition("/")[2]).read_text())
        return DRAFT4.create_resource(content)

    schema = json.loads((_SCHEMAS / f"{name}-schema.json").read_text())
    # The name that theirs has for the draft is not quite its own.
    del schema["$schema"]
    documents: Documents[Any] = Documents(retrieve=retrieve)  # type: ignore[call-arg]
    return jsonschema.Draft4Validator(schema, registry=documents, format_checker=formats)


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or _TIME.fullmatch(value) is not None


def by_schema(name: str, document: object, what: str) -> None:
    """Check *document* against a schema: ``image-index``, ``image-manifest``, ``config``, …."""
    for error in _validator(name).iter_errors(document):
        place = "/".join(map(str, error.absolute_path)) or "the top"
        raise NotByTheSpecification(f"{what}, at {place}: {error.message}")


def require(condition: object, sentence: str) -> None:
    """Raise unless *condition* is true."""
    if not condition:
        raise NotByTheSpecification(sentence)


@dataclass(slots=True)
class SchemaCheck:
    """Checks documents and counts what it has seen, by media type.

    Attributes:
        without_layers: whether an image may have none, which the schema does not want ("for
            portability"), but which a Dockerfile may come to.
    """

    without_layers: bool = False
    seen: Counter[str] = field(default_factory=Counter)

    def layout(self, directory: Path) -> None:
        """Check an OCI layout: its own files, and all that its index leads to."""
        by_schema("image-layout", json.loads((directory / "oci-layout").read_text()), "oci-layout")

        def blob(digest: str) -> bytes:
            return (directory / "blobs" / digest.replace(":", "/")).read_bytes()

        self._index((directory / "index.json").read_bytes(), None, blob, "index.json")

    def registry(self, registry: Registry, repository: str = "") -> None:
        """Check all manifests and indexes that a registry has stored, or those of a repository."""
        root = registry.storage / "docker" / "registry" / "v2"

        def blob(digest: str) -> bytes:
            algorithm, _, text = digest.partition(":")
            return (root / "blobs" / algorithm / text[:2] / text / "data").read_bytes()

        found = list((root / "repositories" / repository).rglob("_manifests/revisions/*/*/link"))
        require(found, f"the registry has nothing in {repository or 'any repository'}")
        for link in found:
            digest = link.read_text()
            raw = blob(digest)
            document = json.loads(raw)
            require("mediaType" in document, f"{digest} does not say what it is")
            descriptor = {"digest": digest, "size": len(raw), "mediaType": document["mediaType"]}
            self.described(descriptor, blob)

    def saved(self, tarball: Path) -> None:
        """Check the config in a docker-save tarball; the rest of it is not OCI's."""
        with tarfile.open(tarball) as archive:

            def member(name: str) -> bytes:
                stream = archive.extractfile(name)
                assert stream is not None
                return stream.read()

            (entry,) = json.loads(member("manifest.json"))
            raw = member(entry["Config"])
        by_schema("config", json.loads(raw), f"the config in {tarball.name}")
        self.seen[DOCKER_CONFIG] += 1

    def described(self, descriptor: Json, blob: Blobs) -> None:
        """Check the manifest or index that *descriptor* describes."""
        raw, what = blob(descriptor["digest"]), f"{descriptor['mediaType']} {descriptor['digest']}"
        _check_bytes(descriptor, raw, what)
        if descriptor["mediaType"] in INDEXES:
            self._index(raw, descriptor["mediaType"], blob, what)
        else:
            require(descriptor["mediaType"] in MANIFESTS, f"{what} is no manifest")
            self._manifest(raw, descriptor, blob, what)

    def _index(self, raw: bytes, media_type: str | None, blob: Blobs, what: str) -> None:
        document = json.loads(raw)
        by_schema("image-index", document, what)
        _check_annotations(document, what)
        if media_type is not None:
            require(document.get("mediaType") == media_type, f"{what} says that it is another kind")
        kinds = MANIFESTS | INDEXES if media_type is None else {_LISTS[media_type]}
        for listed in document["manifests"]:
            require(listed["mediaType"] in kinds, f"{what} lists {listed['mediaType']}")
            _check_annotations(listed, what)
            self.described(listed, blob)
            if media_type is not None:
                _check_platform(listed, blob, what)
        self.seen[media_type or "index.json"] += 1

    def _manifest(self, raw: bytes, descriptor: Json, blob: Blobs, what: str) -> None:
        document, media_type = json.loads(raw), descriptor["mediaType"]
        if not (self.without_layers and document.get("layers") == []):
            by_schema("image-manifest", document, what)
        require(document.get("mediaType") == media_type, f"{what} says that it is another kind")
        _check_annotations(document, what)
        _check_version_1_1(document, what)
        config, layers = document["config"], document["layers"]
        for part in (config, *layers):
            _check_annotations(part, what)
            # A layer of another registry's may be missing where nobody has pushed it.
            _check_bytes(part, blob(part["digest"]), f"a part of {what}")
        if any(layer["mediaType"] == IN_TOTO for layer in layers):
            self._attestations(document, blob, what)
        elif config["mediaType"] == OCI_EMPTY:
            self.seen[document["artifactType"]] += 1
        else:
            self._image(document, blob, what)
        self.seen[media_type] += 1

    def _image(self, document: Json, blob: Blobs, what: str) -> None:
        config, layers = document["config"], document["layers"]
        docker = document["mediaType"] == DOCKER_MANIFEST
        expected = DOCKER_CONFIG if docker else OCI_CONFIG
        require(config["mediaType"] == expected, f"{what} has a config of {config['mediaType']}")
        kind = _DOCKER_LAYER if docker else _OCI_LAYER
        for layer in layers:
            good = kind.fullmatch(layer["mediaType"])
            require(good, f"{what} has a layer of {layer['mediaType']}")
            self.seen[layer["mediaType"]] += 1
        content = json.loads(blob(config["digest"]))
        by_schema("config", content, f"the config of {what}")
        diff_ids = content["rootfs"]["diff_ids"]
        require(len(diff_ids) == len(layers), f"{what}: {len(diff_ids)} diff IDs for its layers")
        for diff_id, layer in zip(diff_ids, layers, strict=True):
            tar = _plain(layer, blob(layer["digest"]))
            require(diff_id == _digest(tar), f"{what}: {diff_id} is not the digest of the tar")
        history = content.get("history", [])
        filled = sum(not entry.get("empty_layer") for entry in history)
        require(not history or filled == len(layers), f"{what}: its history has {filled} layers")
        self.seen[config["mediaType"]] += 1

    def _attestations(self, document: Json, blob: Blobs, what: str) -> None:
        """Check statements as BuildKit attaches them.

        Source: its docs/attestations/attestation-storage.md.
        """
        config = document["config"]
        if config["mediaType"] == OCI_CONFIG:
            content = json.loads(blob(config["digest"]))
            by_schema("config", content, f"the config of {what}")
            diff_ids = [layer["digest"] for layer in document["layers"]]
            require(content["rootfs"]["diff_ids"] == diff_ids, f"{what}: its diff IDs")
        else:
            require(config["mediaType"] == OCI_EMPTY, f"{what} has a config of an unknown kind")
        for layer in document["layers"]:
            require(layer["mediaType"] == IN_TOTO, f"{what} has a layer of {layer['mediaType']}")
            statement = json.loads(blob(layer["digest"]))
            kind = layer.get("annotations", {}).get("in-toto.io/predicate-type")
            require(kind == statement["predicateType"], f"{what} announces {kind}")
            require(statement["_type"].startswith("https://in-toto.io/Statement/"), what)
            self.seen[kind] += 1


_LISTS = {OCI_INDEX: OCI_MANIFEST, DOCKER_INDEX: DOCKER_MANIFEST}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _check_bytes(descriptor: Json, content: bytes, what: str) -> None:
    require(descriptor["digest"] == _digest(content), f"{what} has another digest than promised")
    require(descriptor["size"] == len(content), f"{what} has another size than promised")


def _check_annotations(document: Json, what: str) -> None:
    """Check that there are none, or some: "annotations": {} is allowed, null is not."""
    annotations = document.get("annotations", {})
    require(isinstance(annotations, dict), f"{what} has annotations that are none")
    require(all(annotations), f"{what} has an annotation without a name")


def _check_version_1_1(document: Json, what: str) -> None:
    """Check what version 1.1.0 added to manifests."""
    if document["config"]["mediaType"] == OCI_EMPTY:
        require(document.get("artifactType"), f"{what} does not say which kind of artifact it is")
    if "subject" in document:
        require({"mediaType", "digest", "size"} <= set(document["subject"]), f"{what}: its subject")
    if document["mediaType"] == DOCKER_MANIFEST:
        unknown = {"annotations", "subject", "artifactType"} & set(document)
        require(not unknown, f"{what} has {unknown}, which Docker's manifests do not have")


def _check_platform(listed: Json, blob: Blobs, what: str) -> None:
    """Check that an index says of an image what its config says."""
    require("platform" in listed, f"{what} lists an image without its platform")
    platform, annotations = listed["platform"], listed.get("annotations", {})
    if "vnd.docker.reference.type" in annotations:
        require(platform["os"] == platform["architecture"] == "unknown", f"{what}: {platform}")
        return
    config = json.loads(blob(json.loads(blob(listed["digest"]))["config"]["digest"]))
    names = ("os", "architecture", "variant")
    told = {name: platform[name] for name in names if name in platform}
    real = {name: config[name] for name in names if config.get(name)}
    require(told == real, f"{what} lists the platform {told} for an image that is for {real}")


def _plain(layer: Json, content: bytes) -> bytes:
    if layer["mediaType"].endswith("gzip"):
        return gzip.decompress(content)
    return zstd.decompress(content) if layer["mediaType"].endswith("zstd") else content
