"""Manifests, indexes and configs: read, written again, and refused where they are none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.errors import ContentError
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import (
    Descriptor,
    History,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    RuntimeConfig,
    dump,
)

DIGEST = str(Digest.of(b"blob"))

DESCRIPTOR: dict[str, Any] = {
    "mediaType": MediaType.OCI_LAYER_GZIP,
    "digest": DIGEST,
    "size": 4,
    "annotations": {"a": "b"},
    "urls": ["https://example.com/blob"],
}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": MediaType.OCI_MANIFEST,
    "config": {"mediaType": MediaType.OCI_CONFIG, "digest": DIGEST, "size": 4},
    "layers": [DESCRIPTOR],
    "annotations": {"org.example": "yes"},
    "subject": {"mediaType": MediaType.OCI_MANIFEST, "digest": DIGEST, "size": 4},
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": MediaType.OCI_INDEX,
    "annotations": {"org.example": "yes"},
    "manifests": [
        {
            "mediaType": MediaType.OCI_MANIFEST,
            "digest": str(Digest.of(name.encode())),
            "size": 4,
            "platform": dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False)),
        }
        for name in ("linux/amd64", "linux/arm/v6", "linux/arm/v7", "unknown/unknown")
    ],
}
CONFIG: dict[str, Any] = {
    "architecture": "arm",
    "author": "someone",
    "config": {
        "User": "1000:1000",
        "ExposedPorts": {"443/tcp": {}, "80/tcp": {}},
        "Env": ["PATH=/bin", "EMPTY="],
        "Entrypoint": ["/entry"],
        "Cmd": ["serve"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Labels": {"a": "b"},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["NONE"]},
        "OnBuild": ["RUN true"],
        "Shell": ["/bin/ash", "-c"],
        "ArgsEscaped": True,
    },
    "created": "2024-01-01T00:00:00Z",
    "history": [
        {"created": "2024-01-01T00:00:00Z", "created_by": "COPY", "comment": "x", "author": "me"},
        {"created_by": "ENV", "empty_layer": True},
    ],
    "os": "linux",
    "os.version": "1",
    "os.features": ["x"],
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "variant": "v7",
}
PARSERS: dict[str, tuple[Callable[[bytes], Any], dict[str, Any]]] = {
    "manifest": (Manifest.parse, MANIFEST),
    "index": (Index.parse, INDEX),
    "config": (ImageConfig.parse, CONFIG),
}


@pytest.mark.parametrize("kind", PARSERS)
def test_everything_is_kept_known_or_not(kind: str) -> None:
    parse, data = PARSERS[kind]
    assert json.loads(parse(dump(data)).to_bytes()) == data


@pytest.mark.parametrize("kind", PARSERS)
def test_what_we_wrote_is_written_the_same_again(kind: str) -> None:
    """Digests depend on it."""
    parse, data = PARSERS[kind]
    written = parse(dump(data)).to_bytes()
    assert parse(written).to_bytes() == written


@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "broken", "list", "null", "text", "not UTF-8", "deep"],
)
def test_what_is_no_json_object_is_refused(kind: str, raw: bytes) -> None:
    with pytest.raises(ContentError, match="not an image"):
        PARSERS[kind][0](raw)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of everything in *data*."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in inner:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.data())
def test_hostile_json_is_refused_by_name_or_understood(kind: str, data: st.DataObject) -> None:
    """A registry may send anything; no other error than ContentError may come of it."""
    parse, good = PARSERS[kind]
    bad = copy.deepcopy(good)
    *path, last = data.draw(st.sampled_from(places(good)))
    target = bad
    for key in path:
        target = target[key]
    target[last] = data.draw(_JSON)
    try:
        parsed = parse(dump(bad))
    except ContentError:
        return
    parsed.to_bytes()
    assert_texts(parsed)


def assert_texts(value: Any) -> None:
    """Check that what is typed as text is text, wherever in *value*."""
    for item in fields(value):
        content = getattr(value, item.name)
        if is_dataclass(content):
            assert_texts(content)
        elif item.type in ("str", "str | None"):
            assert content is None or isinstance(content, str)
        elif "tuple[str" in str(item.type):
            assert content is None or all(isinstance(text, str) for text in content)
        elif "tuple" in str(item.type):
            for inner in content:
                assert_texts(inner)


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": "4"},
        {"size": 4.5},
        {"size": True},
        {"digest": "sha256:short"},
        {"digest": None},
        {"digest": 5},
    ],
)
def test_descriptor_without_digest_or_size_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ContentError, match="not a descriptor"):
        Descriptor.from_json(DESCRIPTOR | change)


def test_old_manifests_are_refused_by_what_they_are() -> None:
    old = {"schemaVersion": 1, "name": "app", "fsLayers": []}
    with pytest.raises(ContentError, match="schemaVersion 1, fields fsLayers, name"):
        Manifest.parse(dump(old))


def test_index_is_no_manifest_and_manifest_no_index() -> None:
    with pytest.raises(ContentError):
        Manifest.parse(dump(INDEX))
    with pytest.raises(ContentError):
        Index.parse(dump(MANIFEST))


def test_media_type_that_is_left_out_is_ocis() -> None:
    manifest = {key: value for key, value in MANIFEST.items() if key != "mediaType"}
    assert Manifest.parse(dump(manifest)).media_type == MediaType.OCI_MANIFEST


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm/v6", "linux/arm/v7"])
def test_index_gives_the_image_for_a_platform(platform: str) -> None:
    chosen = Index.parse(dump(INDEX)).select(Platform.parse(platform))
    assert chosen is not None
    assert chosen.digest == Digest.of(platform.encode())


def test_index_without_the_platform_gives_nothing() -> None:
    assert Index.parse(dump(INDEX)).select(Platform("linux", "s390x")) is None


def test_only_image_of_an_index_needs_no_platform() -> None:
    index = Index.parse(dump({"schemaVersion": 2, "manifests": [DESCRIPTOR]}))
    assert index.select(Platform("linux", "amd64")) == index.manifests[0]


def test_absent_and_empty_commands_differ() -> None:
    """An empty CMD voids that of the base image; an absent one does not."""
    assert RuntimeConfig.from_json({}).cmd is None
    assert RuntimeConfig.from_json({"Cmd": []}).cmd == ()
    assert RuntimeConfig.from_json({"Cmd": []}).to_json()["Cmd"] == []


def test_sets_are_written_in_order() -> None:
    """So that the same build gives the same digest."""
    config = RuntimeConfig(exposed_ports=("80/tcp", "443/tcp"), volumes=("/b", "/a"))
    assert list(config.to_json()["ExposedPorts"]) == ["443/tcp", "80/tcp"]
    assert list(config.to_json()["Volumes"]) == ["/a", "/b"]


def test_environment_is_a_mapping_whose_last_entry_wins() -> None:
    config = RuntimeConfig(env=("A=1", "B", "A=2=3"))
    assert config.variables() == {"A": "2=3", "B": ""}


def test_history_has_no_empty_fields() -> None:
    assert History(created_by="ENV A=1", empty_layer=True).to_json() == {
        "created_by": "ENV A=1",
        "empty_layer": True,
    }


def test_text_is_written_as_utf_8() -> None:
    assert dump({"author": "Zoë"}) == '{"author":"Zoë"}'.encode()


def test_bytes_that_are_no_text_are_written_as_go_writes_them() -> None:
    """A Dockerfile in Latin-1 still has a history."""
    text = b"caf\xe9 \xff\xfe".decode("utf-8", "surrogateescape")
    assert dump({"created_by": text}) == '{"created_by":"caf\ufffd \ufffd\ufffd"}'.encode()
