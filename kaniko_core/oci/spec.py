"""Descriptors, manifests, indexes and image configs: JSON to values and back.

Fields that we do not know survive: each value keeps them in ``extra``, and writes them again.
Sources: OCI image-spec v1.1 (descriptor, manifest, image-index, config), Docker's V2, schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from types import MappingProxyType
from typing import Any, Self

from kaniko_core.errors import ContentError, UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform

Json = Mapping[str, Any]
_NOTHING: Json = MappingProxyType({})


class MediaType:
    """The media types of images, OCI's and Docker's."""

    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

    INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
    MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size in bytes of a blob."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    extra: Json = field(default_factory=lambda: _NOTHING)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a descriptor; raise :class:`ContentError` where it is none."""
        known = {"mediaType", "digest", "size", "annotations", "platform"}
        try:
            platform = data.get("platform")
            size = data["size"]
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise ValueError(f"size {size!r}")
            return cls(
                media_type=_text(data.get("mediaType")),
                digest=Digest.parse(data["digest"]),
                size=size,
                annotations=_texts(data.get("annotations")),
                platform=_platform(platform) if platform else None,
                extra={k: v for k, v in data.items() if k not in known},
            )
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise ContentError(f"not a descriptor: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        data: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        if self.platform is not None:
            data["platform"] = _platform_json(self.platform)
        return data | dict(self.extra)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image's config and layers."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    extra: Json = field(default_factory=lambda: _NOTHING)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read the bytes of a manifest; raise :class:`ContentError` where they are none."""
        data = _object(raw, "image manifest")
        if data.get("schemaVersion") != 2 or "config" not in data:
            raise ContentError(
                "not an image manifest that can be used: "
                f"schemaVersion {data.get('schemaVersion')!r}, fields {', '.join(sorted(data))}"
            )
        known = {"schemaVersion", "mediaType", "config", "layers", "annotations"}
        with _refusing("image manifest"):
            return cls(
                media_type=_text(data.get("mediaType")) or MediaType.OCI_MANIFEST,
                config=Descriptor.from_json(data["config"]),
                layers=tuple(Descriptor.from_json(layer) for layer in data.get("layers") or ()),
                annotations=_texts(data.get("annotations")),
                extra={k: v for k, v in data.items() if k not in known},
            )

    def to_bytes(self) -> bytes:
        """Return the manifest as stored: compact JSON, fields in the specification's order."""
        data: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        return dump(data | dict(self.extra))


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests by platform (Docker: manifest list)."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    extra: Json = field(default_factory=lambda: _NOTHING)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read the bytes of an index; raise :class:`ContentError` where they are none."""
        data = _object(raw, "image index")
        if not isinstance(data.get("manifests"), list):
            raise ContentError("not an image index: it lists no manifests")
        known = {"schemaVersion", "mediaType", "manifests", "annotations"}
        with _refusing("image index"):
            return cls(
                media_type=_text(data.get("mediaType")) or MediaType.OCI_INDEX,
                manifests=tuple(Descriptor.from_json(item) for item in data["manifests"]),
                annotations=_texts(data.get("annotations")),
                extra={k: v for k, v in data.items() if k not in known},
            )

    def to_bytes(self) -> bytes:
        """Return the index as stored."""
        data: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [item.to_json() for item in self.manifests],
        }
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        return dump(data | dict(self.extra))

    def select(self, platform: Platform) -> Descriptor | None:
        """Return the first manifest that serves *platform*, or None."""
        for item in self.manifests:
            # Attestations are listed with platform unknown/unknown; nothing asks for that.
            if item.platform is not None and item.platform.serves(platform):
                return item
        if len(self.manifests) == 1 and self.manifests[0].platform is None:
            return self.manifests[0]
        return None


@dataclass(frozen=True, slots=True)
class History:
    """What made a layer, or changed the config without one (``empty_layer``)."""

    created_by: str = ""
    created: str | None = None
    comment: str = ""
    author: str = ""
    empty_layer: bool = False
    extra: Json = field(default_factory=lambda: _NOTHING)

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read an entry of a config's history."""
        known = {"created", "created_by", "comment", "author", "empty_layer"}
        return cls(
            created_by=_text(data.get("created_by")),
            created=_text(data.get("created")) or None,
            comment=_text(data.get("comment")),
            author=_text(data.get("author")),
            empty_layer=bool(data.get("empty_layer", False)),
            extra={k: v for k, v in data.items() if k not in known},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without empty fields."""
        data: dict[str, Any] = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {k: v for k, v in data.items() if v} | dict(self.extra)


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """The ``config`` object: how a container of the image runs.

    ``None`` where a field is absent and absence differs from empty. ``healthcheck`` is the JSON
    object of the Docker image specification (durations in nanoseconds).
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Json | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None
    extra: Json = field(default_factory=lambda: _NOTHING)

    _KNOWN = frozenset(
        "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal "
        "Healthcheck OnBuild Shell".split()
    )

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read the object."""
        return cls(
            user=_text(data.get("User")),
            exposed_ports=_strings(data.get("ExposedPorts")) or (),
            env=_strings(data.get("Env")) or (),
            entrypoint=_strings(data.get("Entrypoint")),
            cmd=_strings(data.get("Cmd")),
            volumes=_strings(data.get("Volumes")) or (),
            working_dir=_text(data.get("WorkingDir")),
            labels=_texts(data.get("Labels")),
            stop_signal=_text(data.get("StopSignal")),
            healthcheck=None if data.get("Healthcheck") is None else dict(data["Healthcheck"]),
            on_build=_strings(data.get("OnBuild")) or (),
            shell=_strings(data.get("Shell")),
            extra={k: v for k, v in data.items() if k not in cls._KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; sets become objects with sorted keys, as in Docker's Go code."""
        data: dict[str, Any] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in sorted(self.exposed_ports)},
            "Env": list(self.env) or None,
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Cmd": None if self.cmd is None else list(self.cmd),
            "Volumes": {path: {} for path in sorted(self.volumes)},
            "WorkingDir": self.working_dir,
            "Labels": {key: self.labels[key] for key in sorted(self.labels)},
            "StopSignal": self.stop_signal,
            "Healthcheck": None if self.healthcheck is None else dict(self.healthcheck),
            "OnBuild": list(self.on_build) or None,
            "Shell": None if self.shell is None else list(self.shell),
        }
        return {k: v for k, v in data.items() if v or v == []} | dict(self.extra)

    def variables(self) -> dict[str, str]:
        """Return ``env`` as a mapping; an entry without ``=`` counts as empty."""
        return {item.partition("=")[0]: item.partition("=")[2] for item in self.env}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The image config: its digest is the image ID."""

    platform: Platform
    config: RuntimeConfig = field(default_factory=RuntimeConfig)
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    created: str | None = None
    author: str = ""
    extra: Json = field(default_factory=lambda: _NOTHING)

    _KNOWN = frozenset(
        "architecture os variant os.version config rootfs history created author".split()
    )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read the bytes of a config; raise :class:`ContentError` where they are none."""
        data = _object(raw, "image config")
        with _refusing("image config"):
            rootfs = data.get("rootfs") or {}
            return cls(
                platform=Platform(
                    _text(data.get("os")) or "linux",
                    _text(data.get("architecture")),
                    _text(data.get("variant")),
                    _text(data.get("os.version")),
                ),
                config=RuntimeConfig.from_json(data.get("config") or {}),
                diff_ids=tuple(Digest.parse(item) for item in rootfs.get("diff_ids") or ()),
                history=tuple(History.from_json(item) for item in data.get("history") or ()),
                created=_text(data.get("created")) or None,
                author=_text(data.get("author")),
                extra={k: v for k, v in data.items() if k not in cls._KNOWN},
            )

    def to_bytes(self) -> bytes:
        """Return the config as stored."""
        data: dict[str, Any] = {"architecture": self.platform.architecture}
        if self.author:
            data["author"] = self.author
        data["config"] = self.config.to_json()
        if self.created:
            data["created"] = self.created
        data["history"] = [item.to_json() for item in self.history]
        data["os"] = self.platform.os
        if self.platform.os_version:
            data["os.version"] = self.platform.os_version
        data["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in self.diff_ids]}
        if self.platform.variant:
            data["variant"] = self.platform.variant
        return dump(data | dict(self.extra))


def dump(data: Any) -> bytes:
    """Return compact JSON in UTF-8, in the order given; lone surrogates are U+FFFD, as in Go."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"not an {what}: it is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise ContentError(f"not an {what}: it is not a JSON object")
    return data


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn whatever comes of JSON of another shape into a ContentError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ContentError(f"not an {what}: {error}") from error


def _text(value: Any) -> str:
    """Return a text; nothing for null or what is absent."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value or ""


def _strings(value: Any) -> tuple[str, ...] | None:
    """Return the texts of a list, or the keys of an object, which is how Go writes a set."""
    if value is None:
        return None
    if not isinstance(value, list | dict):
        raise TypeError(f"{value!r} is no list")
    return tuple(_text(item) for item in value)


def _texts(value: Any) -> dict[str, str]:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return {key: _text(item) for key, item in (value or {}).items()}


def _platform(data: Json) -> Platform:
    return Platform(
        _text(data.get("os")),
        _text(data.get("architecture")),
        _text(data.get("variant")),
        _text(data.get("os.version")),
    )


def _platform_json(platform: Platform) -> dict[str, str]:
    data = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        data["os.version"] = platform.os_version
    if platform.variant:
        data["variant"] = platform.variant
    return data
