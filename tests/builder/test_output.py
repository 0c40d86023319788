"""Where finished images go: to registries over real HTTP, and to files."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from errno import EBUSY
from itertools import count
from pathlib import Path

import pytest

from kaniko_core.builder.output import Delivery, Product, open_delivery
from kaniko_core.errors import DigestMismatch, DiskError, RegistryError, TagImmutable, UsageError
from kaniko_core.oci.image import Image
from kaniko_core.oci.index import ImageIndex, Listed, list_images
from kaniko_core.oci.layout import LayoutStore, tags_of
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Reference, Repository
from kaniko_core.oci.spec import MediaType
from kaniko_core.oci.tarball import read_tarball
from kaniko_core.options import Destination, OutputOptions, RegistryOptions
from kaniko_core.progress import Event, Noted
from kaniko_core.registry.auth import Lookup
from kaniko_core.registry.client import Registry
from kaniko_core.registry.pacing import Pacing
from kaniko_core.steps.step import LostLayer
from tests.registry_server import Answer, RegistryServer
from tests.samples import AMD64, BytesLayer, image, layer, noise

ARM64 = Platform("linux", "arm64")
BIG = layer({"data": noise(300_000)}, media_type=MediaType.OCI_LAYER)
APP = "registry.example/team/app:1"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOLD = (
    *("digest_file", "image_name_with_digest_file"),
    *("image_name_tag_with_digest_file", "metadata_file"),
)

Opened = Callable[..., AbstractContextManager[Delivery]]


class Nobody:
    """A keychain without keys."""

    def look_up(self, repository: Repository) -> Lookup:
        return Lookup(None, ())


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def opened(events: list[Event]) -> Iterator[Opened]:
    """Open deliveries to destinations; nothing is tried twice, and the clock ticks seconds."""
    with ExitStack() as stack:
        registry = stack.enter_context(
            Registry(RegistryOptions(), push=True, keychain=Nobody(), pacing=Pacing(0))
        )

        def make(
            *destinations: str, stages: tuple[str, ...] = ("",), **given: object
        ) -> AbstractContextManager[Delivery]:
            wanted = tuple(map(Destination.parse, destinations))
            options = OutputOptions(destination=wanted, **given)  # type: ignore[arg-type]
            ticks = count()

            def now() -> datetime:
                return START + timedelta(seconds=next(ticks))

            return open_delivery(options, registry, events.append, stages, now=now)

        yield make


def only(content: Image) -> list[Product]:
    """What a build of one target has made."""
    return [Product("", content)]


def sent(server: RegistryServer) -> list[str]:
    """List the uploads whose bytes came, by repository."""
    return [
        seen.path.split("/blobs/")[0].removeprefix("/v2/")
        for seen in server.requests
        if seen.method == "PUT" and "/uploads/" in seen.path
    ]


def mounted(server: RegistryServer) -> int:
    return len([seen for seen in server.requests if "mount=" in seen.path])


def manifest(server: RegistryServer, repository: str, tag: str) -> bytes:
    return server.manifests[repository][tag][1]


def index() -> ImageIndex:
    return list_images(
        [Listed(image(BIG)), Listed(image(layer({"arm": b"64"}), platform=ARM64))], docker=False
    )


# --- before the build ---------------------------------------------------------------------


def test_every_repository_is_asked_once_before_the_build(
    server: RegistryServer, opened: Opened
) -> None:
    one, two = f"{server.address}/one", f"{server.address}/two"
    with opened(f"{one}:1", f"{one}:2", two):
        asked = sorted(line for line in server.lines() if line.startswith("POST"))
    assert asked == ["POST /v2/one/blobs/uploads/", "POST /v2/two/blobs/uploads/"]


def test_refused_destination_ends_the_build_before_it_begins(
    server: RegistryServer, opened: Opened
) -> None:
    server.misbehave(Answer(403, code="DENIED"), method="POST")
    with (
        pytest.raises(RegistryError, match="DENIED"),
        opened(f"{server.address}/app"),
    ):
        pytest.fail("the build began")


def test_nobody_is_asked_where_the_check_is_skipped(server: RegistryServer, opened: Opened) -> None:
    with opened(f"{server.address}/app", skip_push_permission_check=True) as delivery:
        assert server.requests == []
        delivery.deliver(only(image()))
    assert "latest" in server.manifests["app"]


def test_no_push_asks_nobody_and_writes_everything_else(
    server: RegistryServer, opened: Opened, tmp_path: Path
) -> None:
    name = f"{server.address}/app:1"
    digest = tmp_path / "digest"
    named = tmp_path / "names"
    given = {"digest_file": digest, "image_name_tag_with_digest_file": named}
    given["builder_output"] = tmp_path
    built = image()
    with opened(name, no_push=True, **given) as delivery:
        delivery.offer(built.layers[0])
        result = delivery.deliver(only(built))
    assert (server.requests, result.references) == ([], ())
    assert digest.read_text() == str(built.digest)
    assert named.read_text() == f"{name}@{built.digest}\n"
    # What is listed there was pushed.
    assert not (tmp_path / "images").exists()


def test_destination_of_a_stage_that_is_no_target_is_refused(opened: Opened) -> None:
    with (
        pytest.raises(UsageError, match="web is no target of this build") as caught,
        opened(f"web={APP}", stages=("api", "tool")),
    ):
        pytest.fail("the build began")
    assert caught.value.hint == "the targets are api, tool"


def test_destination_of_a_stage_wants_a_target(opened: Opened) -> None:
    with pytest.raises(UsageError, match="web is no target") as caught, opened(f"web={APP}"):
        pytest.fail("the build began")
    assert caught.value.hint == "build it with --target=web"


def test_tarball_of_several_targets_is_refused(opened: Opened, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="of one image, and there are 2 targets"),
        opened(tar_path=tmp_path / "image.tar", no_push=True, stages=("a", "b")),
    ):
        pytest.fail("the build began")


def test_two_targets_of_one_tag_do_not_fit_into_a_layout(opened: Opened, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="a and b would both be 1 there"),
        opened("x/a:1", "b=x/b:1", no_push=True, oci_layout_path=tmp_path, stages=("a", "b")),
    ):
        pytest.fail("the build began")


# --- several destinations -----------------------------------------------------------------


def test_bytes_go_to_a_registry_once_and_are_mounted_in_the_rest(
    server: RegistryServer, other_server: RegistryServer, opened: Opened
) -> None:
    names = [f"{server.address}/{name}" for name in ("one", "two", "three")]
    built = image(BIG)
    with opened(*names, f"{other_server.address}/far") as delivery:
        delivery.offer(built.layers[0])
        result = delivery.deliver(only(built))
    for repository in ("one", "two", "three"):
        assert manifest(server, repository, "latest") == built.raw_manifest
    assert manifest(other_server, "far", "latest") == built.raw_manifest
    # The layer and the config, once for each registry.
    assert len(sent(server)) == len(sent(other_server)) == 2
    assert mounted(server) == 4
    assert len(result.references) == 4


def test_the_config_need_not_wait_for_a_layer_that_is_under_way(
    server: RegistryServer, opened: Opened
) -> None:
    def wait_for_the_config(data: bytes) -> io.BytesIO:
        until = time.monotonic() + 10
        while not sent(server):
            assert time.monotonic() < until, "the config waits for the layer"
            time.sleep(0.001)
        return io.BytesIO(data)

    slow = BytesLayer(BIG.descriptor, BIG.diff_id, BIG.data, wait_for_the_config)
    built = image(slow)
    with opened(f"{server.address}/app") as delivery:
        delivery.offer(slow)
        delivery.deliver(only(built))
    assert len(sent(server)) == 2
    assert manifest(server, "app", "latest") == built.raw_manifest


def test_blobs_of_the_base_are_mounted_from_where_they_are(
    server: RegistryServer, opened: Opened
) -> None:
    base = server.add_image("base", "1", image(BIG)).repository
    with opened(f"{server.address}/app") as delivery:
        delivery.starts_from(base)
        delivery.offer(BIG)
        delivery.deliver(only(image(BIG, layer({"own": b"file"}))))
    assert len(sent(server)) == 2  # our own layer and the config


def test_failure_names_its_destination_and_the_others_are_served(
    server: RegistryServer, other_server: RegistryServer, opened: Opened
) -> None:
    server.misbehave(Answer(400, code="MANIFEST_INVALID"), path="/bad/manifests/", times=None)
    with (
        pytest.raises(RegistryError, match="MANIFEST_INVALID") as caught,
        opened(
            f"{server.address}/bad:1", f"{server.address}/good", f"{other_server.address}/far"
        ) as out,
    ):
        out.deliver(only(image()))
    assert caught.value.__notes__ == [f"while pushing {server.address}/bad:1"]
    assert "latest" in server.manifests["good"]
    assert "latest" in other_server.manifests["far"]


def test_repository_that_takes_no_layers_does_not_keep_others_from_theirs(
    server: RegistryServer, opened: Opened
) -> None:
    """The first repository of a registry gets the bytes; where it cannot, the next one does."""
    server.misbehave(Answer(403, code="DENIED"), path="/full/blobs/", times=None)
    names = f"{server.address}/full:1", f"{server.address}/good"
    with (
        pytest.raises(RegistryError, match="DENIED") as caught,
        opened(*names, skip_push_permission_check=True) as delivery,
    ):
        delivery.offer(BIG)
        delivery.deliver(only(image(BIG)))
    assert caught.value.__notes__ == [f"while pushing {names[0]}"]
    assert "latest" in server.manifests["good"]


def test_every_destination_that_fails_is_named(server: RegistryServer, opened: Opened) -> None:
    server.misbehave(Answer(400, code="MANIFEST_INVALID"), path="/manifests/", times=None)
    names = [f"{server.address}/{name}:1" for name in ("one", "two")]
    with pytest.raises(RegistryError) as caught, opened(*names) as delivery:
        delivery.deliver(only(image()))
    notes = "\n".join(caught.value.__notes__)
    assert all(f"while pushing {name}" in notes for name in names)


def test_nothing_is_reported_where_a_destination_fails(
    server: RegistryServer, opened: Opened, tmp_path: Path
) -> None:
    server.misbehave(Answer(400, code="MANIFEST_INVALID"), path="/manifests/", times=None)
    with (
        pytest.raises(RegistryError),
        opened(f"{server.address}/app", digest_file=tmp_path / "digest") as delivery,
    ):
        delivery.deliver(only(image()))
    assert list(tmp_path.iterdir()) == []


def test_lost_layer_comes_before_other_failures(
    server: RegistryServer, other_server: RegistryServer, opened: Opened
) -> None:
    """The build starts over without it, and may end well."""

    def lost(data: bytes) -> None:
        raise LostLayer("key", "the cache has lost it")

    bad = BytesLayer(BIG.descriptor, BIG.diff_id, BIG.data, lost)  # type: ignore[arg-type]
    server.misbehave(Answer(400, code="UNKNOWN_TROUBLE"), path="/blobs/", times=None)
    with opened(
        f"{server.address}/app", f"{other_server.address}/app", skip_push_permission_check=True
    ) as delivery:
        with pytest.raises(LostLayer):
            delivery.deliver(only(image(bad)))
        delivery.forget()
        server.rules.clear()
        delivery.deliver(only(image(BIG)))
    assert "latest" in server.manifests["app"]


def test_image_can_be_looked_for_where_its_layers_went(
    server: RegistryServer, other_server: RegistryServer, opened: Opened
) -> None:
    names = f"{server.address}/one", f"{server.address}/two", f"{other_server.address}/three"
    with opened(*names) as delivery:
        assert delivery.homes(BIG) == ()
        delivery.offer(BIG)
        homes = delivery.homes(BIG)
    # Of each registry the one that was sent the bytes.
    assert [home.path for home in homes] == ["one", "three"]


def test_layers_are_read_for_other_registries_and_for_files_only(
    server: RegistryServer, other_server: RegistryServer, opened: Opened, tmp_path: Path
) -> None:
    base = Repository(server.address, "base")

    def readers(*names: str, **given: object) -> int:
        with opened(*names, skip_push_permission_check=True, **given) as delivery:
            return delivery.readers_of(base)

    here, far = f"{server.address}/app", f"{other_server.address}/app"
    assert readers(here) == 0
    assert readers(here, far, f"{other_server.address}/more") == 1
    assert readers(no_push=True, tar_path=tmp_path / "image.tar") == 1
    assert readers(no_push=True) == 0
    layout = tmp_path / "layout"
    assert readers(no_push=True, tar_path=tmp_path / "a.tar", oci_layout_path=layout) == 2


# --- several targets and platforms --------------------------------------------------------


def test_each_target_goes_to_its_own_destinations(server: RegistryServer, opened: Opened) -> None:
    app, tool = image(BIG), image(BIG, layer({"tool": b"x"}))
    names = f"{server.address}/app:1", f"tool={server.address}/tool:1", f"App={server.address}/x"
    with opened(*names, stages=("app", "tool", "silent")) as delivery:
        delivery.offer(app.layers[0], 0)
        delivery.offer(tool.layers[1], 1)
        delivery.offer(BIG, 2)
        products = [Product("app", app), Product("tool", tool), Product("silent", image())]
        result = delivery.deliver(products)
    assert manifest(server, "app", "1") == manifest(server, "x", "latest") == app.raw_manifest
    assert manifest(server, "tool", "1") == tool.raw_manifest
    # Two configs, the layer that both have once, and the one that only one has.
    assert len(sent(server)) == 4
    assert [len(each.references) for each in result.delivered] == [2, 1, 0]
    assert result.digest == app.digest


def test_index_is_pushed_with_its_images(server: RegistryServer, opened: Opened) -> None:
    made = index()
    with opened(f"{server.address}/app:1", f"{server.address}/copy:1") as delivery:
        delivery.deliver([Product("", made)])
    for repository in ("app", "copy"):
        assert manifest(server, repository, "1") == made.raw
        assert {str(each.digest) for each in made.images} <= server.manifests[repository].keys()
        # Images have no tags: only the index has.
        assert [tag for tag in server.manifests[repository] if ":" not in tag] == ["1"]
    assert server.lines("PUT")[-1].endswith("/manifests/1")
    assert len(sent(server)) == 4


def test_index_becomes_no_tarball(opened: Opened, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="holds one image"),
        opened(no_push=True, tar_path=tmp_path / "image.tar") as delivery,
    ):
        delivery.deliver([Product("", index())])
    assert list(tmp_path.iterdir()) == []


def test_layout_of_targets_has_all_of_them_by_name(opened: Opened, tmp_path: Path) -> None:
    products = [Product("app", image(BIG)), Product("tool", index()), Product("web", image())]
    given = {"oci_layout_path": tmp_path / "layout", "no_push": True}
    with opened("x/app:1", "x/app:2", stages=("app", "tool", "web"), **given) as delivery:
        delivery.deliver(products)
    listed = LayoutStore(tmp_path / "layout").listed()
    assert [tags_of(item) for item in listed] == [("1",), ("2",), ("tool",), ("web",)]
    assert listed[2].digest == products[1].content.digest
    arm = LayoutStore(tmp_path / "layout").get(Reference.parse("x:tool"), ARM64)
    assert arm is not None
    assert arm.config.platform == ARM64


def test_index_of_docker_images_becomes_ocis_in_a_layout(opened: Opened, tmp_path: Path) -> None:
    made = list_images(
        [
            Listed(image(BIG, docker=True), annotations={"a": "b"}),
            Listed(image(docker=True, platform=ARM64)),
        ],
        docker=True,
    )
    with opened(no_push=True, oci_layout_path=tmp_path) as delivery:
        delivery.deliver([Product("", made)])
    store = LayoutStore(tmp_path)
    (entry,) = store.listed()
    stored = store.read_any(entry.digest)
    assert isinstance(stored, ImageIndex)
    assert entry.media_type == stored.index.media_type == MediaType.OCI_INDEX
    assert not any(each.is_docker for each in stored.images)
    assert stored.index.manifests[0].annotations == {"a": "b"}
    assert [item.platform for item in stored.index.manifests] == [AMD64, ARM64]


# --- tags that may not change -------------------------------------------------------------

IMMUTABLE = [
    Answer(
        400,
        code="TAG_INVALID",
        message="The image tag '1' already exists in the 'app' repository and cannot be "
        "overwritten because the tag is immutable.",
    ),
    Answer(400, code="DENIED", message="The repository has enabled tag immutability"),
    Answer(
        412,
        code="PRECONDITION",
        message="Failed to process request due to 'app:1' configured as immutable.",
    ),
    Answer(
        400, code="DENIED", message="The requested tag already exists and cannot be overwritten."
    ),
]
_SAID_BY = ["ecr", "google", "harbor", "alibaba"]


@pytest.mark.parametrize("answer", IMMUTABLE, ids=_SAID_BY)
def test_immutable_tag_is_an_error_that_tells_of_the_flag(
    server: RegistryServer, opened: Opened, answer: Answer
) -> None:
    server.misbehave(answer, method="PUT", path="/manifests/1")
    with (
        pytest.raises(TagImmutable, match=answer.message) as caught,
        opened(f"{server.address}/app:1") as delivery,
    ):
        delivery.deliver(only(image()))
    assert "--push-ignore-immutable-tag-errors" in (caught.value.hint or "")


@pytest.mark.parametrize("answer", IMMUTABLE, ids=_SAID_BY)
def test_immutable_tag_is_left_alone_where_that_is_wanted(
    server: RegistryServer, opened: Opened, events: list[Event], answer: Answer
) -> None:
    server.misbehave(answer, method="PUT", path="/manifests/1", times=None)
    built = image()
    names = f"{server.address}/app:1", f"{server.address}/app:2"
    with opened(*names, push_ignore_immutable_tag_errors=True) as delivery:
        result = delivery.deliver(only(built))
    assert [reference.tag for reference in result.references] == ["2"]
    assert server.manifests["app"].keys() == {"2", str(built.digest)}
    notes = [event.message for event in events if isinstance(event, Noted)]
    assert (
        f"the tag of {names[0]} is immutable, and was left as it is; "
        f"the image is there as {server.address}/app@{built.digest}"
    ) in notes


@pytest.mark.parametrize("ignored", [True, False])
def test_immutable_tag_that_has_the_image_already_is_as_it_should_be(
    server: RegistryServer, opened: Opened, events: list[Event], ignored: bool
) -> None:
    built = image()
    name = server.add_image("app", "1", built)
    server.misbehave(IMMUTABLE[0], method="PUT", path="/manifests/1", times=None)
    with opened(str(name), push_ignore_immutable_tag_errors=ignored) as delivery:
        result = delivery.deliver(only(built))
    assert result.references == (name,)
    assert Noted(f"{name} is {built.digest} already") in events


def test_refusal_without_a_word_is_looked_into_where_tags_may_be_immutable(
    server: RegistryServer, opened: Opened
) -> None:
    """Docker Hub answers so."""
    built = image()
    name = str(server.add_image("app", "1", built))
    server.misbehave(Answer(403), method="PUT", path="/manifests/1", times=None)
    with opened(name, push_ignore_immutable_tag_errors=True) as delivery:
        delivery.deliver(only(built))
        with pytest.raises(RegistryError, match="403"):
            delivery.deliver(only(image(BIG)))
    with pytest.raises(RegistryError, match="403"), opened(name) as delivery:
        delivery.deliver(only(built))


def test_only_what_is_said_of_tags_is_passed_over(server: RegistryServer, opened: Opened) -> None:
    server.misbehave(Answer(400, code="TAG_INVALID", message="too long"), path="/manifests/1")
    with (
        pytest.raises(RegistryError, match="too long"),
        opened(f"{server.address}/app:1", push_ignore_immutable_tag_errors=True) as delivery,
    ):
        delivery.deliver(only(image()))


# --- files --------------------------------------------------------------------------------


def test_tarball_layout_and_digest_file(opened: Opened, tmp_path: Path) -> None:
    built = image(layer({"a": b"b"}))
    given = {
        "tar_path": tmp_path / "image.tar",
        "oci_layout_path": tmp_path / "layout",
        "digest_file": tmp_path / "digest",
    }
    with opened(APP, no_push=True, **given) as delivery:
        delivery.deliver(only(built))
    assert (tmp_path / "digest").read_text() == str(built.digest)
    name = Reference.parse(APP)
    assert read_tarball(tmp_path / "image.tar", name).config.diff_ids == built.config.diff_ids
    stored = LayoutStore(tmp_path / "layout").get(name, AMD64)
    assert stored is not None
    assert stored.digest == built.digest


def test_names_of_all_destinations_are_written(
    server: RegistryServer, opened: Opened, tmp_path: Path
) -> None:
    one, two = f"{server.address}/one:1", f"tool={server.address}/two"
    app, tool = image(BIG), image()
    files = {name: tmp_path / name for name in TOLD[:3]}
    with opened(one, two, stages=("app", "tool"), builder_output=tmp_path, **files) as delivery:
        delivery.deliver([Product("app", app), Product("tool", tool)])
    here = server.address
    assert files["digest_file"].read_text() == f"{app.digest}\n{tool.digest}"
    assert files["image_name_with_digest_file"].read_text() == (
        f"{here}/one@{app.digest}\n{here}/two@{tool.digest}\n"
    )
    assert files["image_name_tag_with_digest_file"].read_text() == (
        f"{here}/one:1@{app.digest}\n{here}/two:latest@{tool.digest}\n"
    )
    lines = (tmp_path / "images").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"name": f"{here}/one:1", "digest": str(app.digest)},
        {"name": f"{here}/two:latest", "digest": str(tool.digest)},
    ]


def test_metadata_of_an_image_has_buildkits_keys(opened: Opened, tmp_path: Path) -> None:
    built = image()
    with opened(APP, "x:2", no_push=True, metadata_file=tmp_path / "metadata") as delivery:
        delivery.deliver(only(built))
    config = str(built.manifest.config.digest)
    assert json.loads((tmp_path / "metadata").read_text()) == {
        "containerimage.config.digest": config,
        "containerimage.descriptor": {
            "mediaType": MediaType.OCI_MANIFEST,
            "digest": str(built.digest),
            "size": len(built.raw_manifest),
            "annotations": {
                "config.digest": config,
                "org.opencontainers.image.created": "2024-01-01T00:00:00Z",
            },
        },
        "containerimage.digest": str(built.digest),
        "image.name": f"{APP},docker.io/library/x:2",
        "kaniko.build.timing": {
            "startedOn": "2026-01-02T03:04:05.000Z",
            "finishedOn": "2026-01-02T03:04:07.000Z",
            "buildSeconds": 1.0,
            "deliverySeconds": 1.0,
        },
    }


def test_metadata_of_targets_has_an_object_for_each(opened: Opened, tmp_path: Path) -> None:
    made = index()
    with opened(no_push=True, metadata_file=tmp_path / "m", stages=("app", "all")) as delivery:
        delivery.deliver([Product("app", image()), Product("all", made)])
    written = json.loads((tmp_path / "m").read_text())
    assert written.keys() == {"app", "all", "kaniko.build.timing"}
    assert written["all"] == {
        "containerimage.descriptor": {
            "mediaType": MediaType.OCI_INDEX,
            "digest": str(made.digest),
            "size": len(made.raw),
        },
        "containerimage.digest": str(made.digest),
    }


@pytest.mark.parametrize("flag", ["tar_path", *TOLD])
def test_directory_of_a_file_is_made(opened: Opened, tmp_path: Path, flag: str) -> None:
    """Go kaniko's users write to /tmp, which our images have not."""
    file = tmp_path / "missing" / "too" / "file"
    with opened(APP, no_push=True, **{flag: file}) as delivery:
        delivery.deliver(only(image()))
    assert file.is_file()


@pytest.mark.parametrize("flag", ["tar_path", "oci_layout_path", *TOLD])
def test_what_cannot_be_written_is_found_before_the_build(
    opened: Opened, tmp_path: Path, flag: str
) -> None:
    (tmp_path / "file").touch()
    wrong = tmp_path / "file" / "below" / "name"
    with (
        pytest.raises(
            DiskError, match=f"cannot write {tmp_path}/file/below/name into .*: Not a dir"
        ),
        opened(APP, no_push=True, **{flag: wrong}),
    ):
        pytest.fail("the build began")


def test_links_stay_and_what_they_lead_to_is_written(opened: Opened, tmp_path: Path) -> None:
    built = image()
    for name in ("digest", "image.tar"):
        (tmp_path / name).touch()
        (tmp_path / f"link-{name}").symlink_to(name)
    given = {"digest_file": tmp_path / "link-digest", "tar_path": tmp_path / "link-image.tar"}
    with opened(no_push=True, **given) as delivery:
        delivery.deliver(only(built))
    assert (tmp_path / "link-digest").is_symlink()
    assert (tmp_path / "digest").read_text() == str(built.digest)
    assert (tmp_path / "link-image.tar").is_symlink()
    assert (tmp_path / "image.tar").stat().st_size > 0


def test_digest_file_that_our_output_goes_to_is_not_emptied(
    opened: Opened, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").symlink_to("/proc/self/fd/1")
    os.write(1, b"before ")
    built = image()
    with opened(no_push=True, digest_file=tmp_path / "out") as delivery:
        delivery.deliver(only(built))
    assert (tmp_path / "out").is_symlink()
    assert capfd.readouterr().out == f"before {built.digest}"


def test_digest_file_that_is_a_mount_is_written_in_place(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(self: Path, target: Path) -> None:
        raise OSError(EBUSY, os.strerror(EBUSY))

    (tmp_path / "termination-log").touch()
    monkeypatch.setattr(Path, "replace", busy)
    built = image()
    with opened(no_push=True, digest_file=tmp_path / "termination-log") as delivery:
        delivery.deliver(only(built))
    assert (tmp_path / "termination-log").read_text() == str(built.digest)
    assert [path.name for path in tmp_path.iterdir()] == ["termination-log"]


def test_tarball_never_takes_the_place_of_a_device_or_pipe(opened: Opened, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(DiskError, match="no regular file"),
        opened(no_push=True, tar_path=tmp_path / "pipe"),
    ):
        pytest.fail("the build began")


def test_layer_that_is_damaged_is_an_error(server: RegistryServer, opened: Opened) -> None:
    damaged: Image = image(BytesLayer(BIG.descriptor, BIG.diff_id, BIG.data[:-1] + b"?"))
    with (
        pytest.raises(DigestMismatch),
        opened(f"{server.address}/app") as delivery,
    ):
        delivery.deliver(only(damaged))
    assert server.manifests.get("app") is None
