"""An image carries the keys of its layers: written, read again, looked up in a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kaniko_core.errors import ContentError, RegistryError, Unauthorized
from kaniko_core.oci.archive import EMPTY_DIFF_ID, read_entries
from kaniko_core.oci.digest import Digest
from kaniko_core.oci.image import Image, compose
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import Descriptor, ImageConfig, Index, MediaType
from kaniko_core.oci.tarheader import END_OF_ARCHIVE
from kaniko_core.options import RegistryOptions
from kaniko_core.registry.client import Registry
from kaniko_core.registry.pacing import Pacing
from kaniko_core.steps.inline import (
    INLINE_FIELD,
    InlineStore,
    inline_steps,
    with_inline,
    without_inline,
)
from kaniko_core.steps.step import CachedStep
from tests.registry_server import Answer, RegistryServer, running_registry
from tests.samples import AMD64, BytesLayer, layer

ARM64 = Platform("linux", "arm64")
CREATED = datetime(2024, 5, 1, 12, 30, 15, 123456, UTC)
BASE = layer({"etc/os": b"debian"})
ONE = layer({"one": b"1"})
TWO = layer({"two": b"2"})


def step(number: int, made: BytesLayer) -> CachedStep:
    return CachedStep(
        key=f"{number:064x}",
        layer=made,
        created=CREATED + timedelta(seconds=number),
        contents=f"sha256:{number:064x}",
        made_on=tuple(f"sha256:{n:064x}" for n in range(number)),
    )


NOTHING = BytesLayer(
    Descriptor(MediaType.OCI_LAYER, EMPTY_DIFF_ID, len(END_OF_ARCHIVE)),
    EMPTY_DIFF_ID,
    END_OF_ARCHIVE,
)
STEPS = [step(1, ONE), step(2, TWO)]


def image(*steps: CachedStep, platform: Platform = AMD64) -> Image:
    config = with_inline(ImageConfig(platform), steps)
    return compose(config, (BASE, ONE, TWO), docker=False)


def image_that_says(said: Any) -> Image:
    config = ImageConfig(AMD64, extra={INLINE_FIELD: said})
    return compose(config, (BASE, ONE, TWO), docker=False)


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with running_registry() as started:
        yield started


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(RegistryOptions(), pacing=Pacing(1, first=0.001)) as made:
        yield made


def store(registry: Registry, server: RegistryServer, name: str = "team/app:1") -> InlineStore:
    return InlineStore(registry, server.reference(name), AMD64)


# --- in the config ----------------------------------------------------------------------------


def test_steps_that_are_written_are_read_again() -> None:
    assert inline_steps(image(*STEPS)) == STEPS


def test_image_without_the_field_has_no_steps() -> None:
    assert inline_steps(compose(ImageConfig(AMD64), (BASE,), docker=False)) == []


def test_other_fields_of_the_config_stay() -> None:
    config = with_inline(ImageConfig(AMD64, author="somebody", extra={"other": 1}), STEPS)
    data = json.loads(config.to_bytes())
    assert (data["author"], data["other"]) == ("somebody", 1)
    assert [item["key"] for item in data[INLINE_FIELD]["steps"]] == [item.key for item in STEPS]


def test_steps_of_the_base_are_not_inherited() -> None:
    base = with_inline(ImageConfig(AMD64), [STEPS[0]])
    changed = with_inline(base, [STEPS[1]])
    assert inline_steps(compose(changed, (BASE, ONE, TWO), docker=False)) == [STEPS[1]]


def test_field_can_be_taken_away() -> None:
    config = ImageConfig(AMD64, extra={"other": 1})
    assert without_inline(with_inline(config, STEPS)) == config


def test_same_steps_give_the_same_bytes_wherever_the_clock_is() -> None:
    elsewhere = replace(STEPS[0], created=CREATED.astimezone(timezone(timedelta(hours=5))))
    there = replace(STEPS[0], created=CREATED)
    config = ImageConfig(AMD64)
    assert with_inline(config, [elsewhere]).to_bytes() == with_inline(config, [there]).to_bytes()


def test_step_whose_layer_the_image_does_not_have_is_passed_over() -> None:
    elsewhere = step(3, layer({"three": b"3"}))
    assert inline_steps(image(elsewhere, *STEPS)) == STEPS


def test_steps_that_made_the_same_layer_share_it() -> None:
    again = replace(STEPS[0], key="f" * 64)
    assert inline_steps(image(STEPS[0], again)) == [STEPS[0], again]


def test_layer_that_changes_nothing_need_not_be_in_the_image() -> None:
    [found] = inline_steps(image(replace(STEPS[0], layer=NOTHING)))
    assert found.layer.diff_id == EMPTY_DIFF_ID
    with found.layer.open() as stream:
        assert list(read_entries(stream)) == []
    with found.layer.open() as stream:
        assert Digest.of(stream.read()) == found.layer.descriptor.digest == found.layer.diff_id


GOOD = {
    "key": STEPS[0].key,
    "layer": str(ONE.diff_id),
    "created": "2024-05-01T12:30:16.123456Z",
    "contents": STEPS[0].contents,
    "made_on": list(STEPS[0].made_on),
}


def test_field_of_the_documentation_is_read() -> None:
    assert inline_steps(image_that_says({"steps": [GOOD]})) == [STEPS[0]]


@pytest.mark.parametrize(
    "said", [None, 1, "steps", [GOOD], {}, {"steps": None}, {"steps": GOOD}, {"other": [GOOD]}]
)
def test_field_of_another_shape_is_passed_over(said: Any) -> None:
    assert inline_steps(image_that_says(said)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": 1},
        {"key": None},
        {"layer": "sha256:1"},
        {"layer": None},
        {"created": "yesterday"},
        {"created": "2024-05-01T12:00:00"},
        {"created": 7},
        {"contents": "something"},
        {"made_on": "sha256:1"},
        {"made_on": [1]},
    ],
)
def test_step_of_another_shape_is_passed_over(wrong: dict[str, Any]) -> None:
    good = {**GOOD, "key": "f" * 64}
    steps = inline_steps(image_that_says({"steps": [{**GOOD, **wrong}, "nothing", good]}))
    assert [found.key for found in steps] == ["f" * 64]


# --- in a registry ----------------------------------------------------------------------------


def test_step_is_found_with_its_layer(server: RegistryServer, registry: Registry) -> None:
    server.add_image("team/app", "1", image(*STEPS))
    found = store(registry, server).get(STEPS[1].key)
    assert found is not None
    assert replace(found, layer=TWO) == STEPS[1]
    with found.layer.open() as stream:
        assert stream.read() == TWO.data


def test_step_that_changed_nothing_is_found_without_asking_for_a_layer(
    server: RegistryServer, registry: Registry
) -> None:
    server.add_image("team/app", "1", image(replace(STEPS[0], layer=NOTHING)))
    found = store(registry, server).get(STEPS[0].key)
    assert found is not None
    assert found.layer.diff_id == EMPTY_DIFF_ID
    assert server.lines("HEAD") == []


def test_step_that_the_image_does_not_know_is_absent(
    server: RegistryServer, registry: Registry
) -> None:
    server.add_image("team/app", "1", image(*STEPS))
    assert store(registry, server).get("0" * 64) is None


def test_image_is_asked_for_once_and_no_layer_is_fetched(
    server: RegistryServer, registry: Registry
) -> None:
    added = image(*STEPS)
    server.add_image("team/app", "1", added)
    inline = store(registry, server)
    keys = [*(item.key for item in STEPS), *(f"{n:064x}" for n in range(10, 30))]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(inline.get, keys))
    assert sum(item is not None for item in found) == 2
    config = added.manifest.config.digest
    assert server.lines("GET") == [
        "GET /v2/team/app/manifests/1",
        f"GET /v2/team/app/blobs/{config}",
    ]


def test_image_that_is_not_there_yet_is_no_failure(
    server: RegistryServer, registry: Registry
) -> None:
    inline = store(registry, server)
    assert [inline.get(item.key) for item in STEPS] == [None, None]
    assert len(server.requests) == 1


def test_image_for_other_platforms_alone_is_no_failure(
    server: RegistryServer, registry: Registry
) -> None:
    other = image(*STEPS, platform=ARM64)
    server.add_image("team/app", "arm", other)
    index = Index(MediaType.OCI_INDEX, (replace(other.descriptor, platform=ARM64),))
    server.add_manifest("team/app", "1", MediaType.OCI_INDEX, index.to_bytes())
    assert store(registry, server).get(STEPS[0].key) is None


def test_tag_is_latest_where_none_is_named(server: RegistryServer, registry: Registry) -> None:
    server.add_image("team/app", "latest", image(*STEPS))
    inline = store(registry, server, "team/app")
    assert inline.get(STEPS[0].key) is not None
    assert inline.name == f"{server.address}/team/app:latest"


def test_layer_that_the_registry_lost_is_said_to_be_lost(
    server: RegistryServer, registry: Registry
) -> None:
    server.add_image("team/app", "1", image(*STEPS))
    del server.blobs["team/app"][str(ONE.descriptor.digest)]
    inline = store(registry, server)
    with pytest.raises(ContentError, match="has lost it"):
        inline.get(STEPS[0].key)
    assert inline.get(STEPS[1].key) is not None


def test_registry_that_refuses_is_asked_once(server: RegistryServer, registry: Registry) -> None:
    server.misbehave(Answer(403, code="DENIED"), times=None)
    inline = store(registry, server)
    for item in STEPS:
        with pytest.raises(Unauthorized):
            inline.get(item.key)
    assert len(server.requests) == 1


def test_what_is_no_image_is_of_no_use_for_any_key(
    server: RegistryServer, registry: Registry
) -> None:
    """It must not be taken for one damaged entry among good ones."""
    nothing = Descriptor(MediaType.OCI_CONFIG, Digest.of(b"{"), 1)
    manifest = replace(image(*STEPS).manifest, config=nothing)
    server.add_blob("team/app", b"{")
    server.add_manifest("team/app", "1", MediaType.OCI_MANIFEST, manifest.to_bytes())
    with pytest.raises(RegistryError, match="not an image config"):
        store(registry, server).get(STEPS[0].key)
