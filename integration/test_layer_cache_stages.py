"""The layer cache and stages: what is not built, what is not fetched, and what must not be used."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from integration import images, readers
from integration.programs import Programs
from integration.rebuilds import (
    InDirectory,
    InRegistry,
    Place,
    Rebuild,
    entries,
    in_sandbox,
    key_for,
    layer_digests,
    mounted,
)
from integration.world import Registry

MakeRebuild = Callable[..., Rebuild]

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"
_PATIENCE = 60.0  # seconds


# --- stages -------------------------------------------------------------------------------

_STAGES = """
FROM {base} AS compiler
RUN echo 1 > /compiler
FROM compiler AS left
COPY left.txt /in
RUN cat /in /compiler > /left
FROM compiler AS right
COPY right.txt /in
RUN cat /in /compiler > /right
FROM {base}
COPY --from=left /left /left
COPY --from=right /right /right
"""
_LEFT, _RIGHT = "COPY --from=left /left /left", "COPY --from=right /right /right"


def _in_stages(make_rebuild: MakeRebuild, place: Place, mode: str, base: str) -> Rebuild:
    rebuild = make_rebuild(place, mode)
    log = rebuild(_STAGES.format(base=base), files={"left.txt": "l", "right.txt": "r"})
    assert log.stages >= {"compiler", "left", "right"}
    return rebuild


def test_stages_that_nobody_needs_are_not_built(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    """COPY --from is known by what the other stage is made of, and not by what is in it."""
    rebuild = _in_stages(make_rebuild, place, mode, busybox)
    made = readers.digest(rebuild.image)
    for words in ("/compiler", "/left", "/right"):
        place.remove(next(k for text, k in entries(place).items() if f"> {words}" in text))
    log = rebuild()

    assert (log.ran, log.taken) == ([], [_LEFT, _RIGHT])
    assert log.stages.isdisjoint({"compiler", "left", "right"})
    assert readers.digest(rebuild.image) == made


def test_only_the_stage_that_a_change_concerns_is_built(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    rebuild = _in_stages(make_rebuild, place, mode, busybox)
    log = rebuild(files={"right.txt": "changed"})

    assert log.ran == ["COPY right.txt /in", "RUN cat /in /compiler > /right", _RIGHT]
    assert _LEFT in log.taken
    assert "left" not in log.stages
    with readers.unpacked(rebuild.image) as root:
        assert (root / "right").read_text() == "changed1\n"
        assert (root / "left").read_text() == "l1\n"


def test_a_stage_whose_result_is_the_same_again_changes_nothing_above_it(
    make_rebuild: MakeRebuild, mode: str, busybox: str, tmp_path: Path
) -> None:
    """The entry of a command is gone; it gives what it gave, so what stands on it may stay."""
    place = InDirectory(tmp_path / "layers")
    rebuild = make_rebuild(place, mode)
    rebuild(f"FROM {busybox}\nRUN echo 1 > /a\n{_UNIQUE}\nRUN cat /stamp > /last\n")
    made = layer_digests(rebuild.image)
    place.remove(key_for(place, "echo 1"))
    log = rebuild()

    assert log.ran == ["RUN echo 1 > /a"]
    assert log.taken == [_UNIQUE, "RUN cat /stamp > /last"]
    assert layer_digests(rebuild.image)[2:] == made[2:]


def test_what_was_made_on_another_result_is_not_used(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    """The entry of a command is gone and it gives something else: its old result must not meet
    what was made of the new one.
    """  # fmt: skip
    rebuild = make_rebuild(place, mode)
    rebuild(f"FROM {busybox}\n{_UNIQUE}\nRUN cp /stamp /copy\nRUN cp /copy /last\n")
    place.remove(key_for(place, "uuid"))
    log = rebuild()

    assert log.ran == [_UNIQUE, "RUN cp /stamp /copy", "RUN cp /copy /last"]
    with readers.unpacked(rebuild.image) as root:
        texts = {(root / name).read_text() for name in ("stamp", "copy", "last")}
    assert len(texts) == 1
    assert rebuild().ran == []


def test_what_two_stages_have_in_common_is_done_once(
    make_rebuild: MakeRebuild, mode: str, busybox: str, tmp_path: Path
) -> None:
    """Done twice, the UUID in the image would be another than the one that is cached."""
    rebuild = make_rebuild(InDirectory(tmp_path / "layers"), mode)
    copies = "COPY --link --from=one /stamp /copy\nCOPY --link a /a\nCOPY --link a /a\n"
    text = f"FROM {busybox} AS one\n{_UNIQUE}\nFROM {busybox}\n{_UNIQUE}\n{copies}"
    log = rebuild(text, files={"a": "a"})

    assert sorted(log.ran) == ["COPY --link --from=one /stamp /copy", "COPY --link a /a", _UNIQUE]
    assert sorted(log.taken) == ["COPY --link a /a", _UNIQUE]
    with readers.unpacked(rebuild.image) as root:
        assert (root / "copy").read_text() == (root / "stamp").read_text()
    made = readers.digest(rebuild.image)
    assert rebuild().ran == []
    assert readers.digest(rebuild.image) == made


def test_what_was_copied_from_another_result_of_a_stage_is_not_used(
    make_rebuild: MakeRebuild, mode: str, busybox: str, tmp_path: Path
) -> None:
    place = InDirectory(tmp_path / "layers")
    rebuild = make_rebuild(place, mode)
    copies = "COPY --from=one /stamp /first\nRUN true\nCOPY --from=one /stamp /second\n"
    rebuild(f"FROM {busybox} AS one\n{_UNIQUE}\nFROM {busybox}\n{copies}")
    place.remove(key_for(place, "uuid"))
    place.remove(key_for(place, "/second"))
    rebuild()

    with readers.unpacked(rebuild.image) as root:
        assert (root / "first").read_text() == (root / "second").read_text()


# --- what is fetched ----------------------------------------------------------------------


def fetched(registry: Registry, *images: str) -> set[str]:
    """The layers of *images* that *registry* was asked for since the last look."""
    time.sleep(0.1)  # the log is written after the answer
    paths = [request.path for request in registry.requests() if request.fetches_blob]
    layers = {digest for image in images for digest in layer_digests(image)}
    return {digest for digest in layers if any(path.endswith(digest) for path in paths)}


@pytest.fixture
def own(make_registry: Callable[..., Registry]) -> Registry:
    """A registry for everything, whose log only this test writes to."""
    return make_registry()


def _copied(image: str, registry: Registry) -> str:
    target = f"{registry.address}/base/{image.rsplit('/', 1)[1]}"
    flags = ("--quiet", "--src-tls-verify=false", "--dest-tls-verify=false")
    readers.output_of("skopeo", "copy", *flags, f"docker://{image}", f"docker://{target}")
    return target


def test_a_build_from_the_cache_moves_no_layer(
    make_rebuild: MakeRebuild, own: Registry, mode: str, debian: str
) -> None:
    """Neither here nor there: the registry has them all, and is asked to show them elsewhere."""
    base = _copied(debian, own)
    first = replace(make_rebuild(None, mode), image=f"{own.address}/app:1")
    log = first(f"FROM {base}\nWORKDIR /work\n{_UNIQUE}\nCOPY file .\n", files={"file": "x"})
    assert len(log.ran) == 3
    made = layer_digests(first.image)
    second = replace(first, image=f"{own.address}/other/app:2", place=InRegistry(own, "app/cache"))
    second = replace(second, cache_dir="another-cache")
    own.forget()
    log = second()

    assert (log.ran, log.warnings) == ([], [])
    assert fetched(own, first.image) == set()
    asked = [r for r in own.requests() if r.path.startswith("/v2/other/app/blobs/uploads/")]
    assert len([r for r in asked if r.method == "PUT"]) == 1  # the config
    assert len([r for r in asked if "mount=" in r.path and r.status == _CREATED]) == len(made)
    assert layer_digests(second.image) == made


def test_a_large_image_is_built_from_the_cache_without_any_of_its_layers(
    make_rebuild: MakeRebuild, own: Registry, record_property: Callable[[str, object], None]
) -> None:
    """The issue's measure: 50,000 files, 300 MB; what it takes is recorded."""
    base = images.push(images.large_layout(), own, "base/large:1")
    rebuild = replace(make_rebuild(None), image=f"{own.address}/app:1")
    rebuild(f"FROM {base}\nRUN echo one > /one\nWORKDIR /app\nCOPY f .\n", files={"f": "x"})
    own.forget()
    best = _PATIENCE
    for number in range(3):
        again = replace(rebuild, cache_dir=f"new-{number}")
        started = time.monotonic()
        log = again()
        best = min(best, time.monotonic() - started)
        assert log.ran == []

    assert fetched(own, rebuild.image) == set()
    record_property("seconds", best)
    print(f"\na build of a large image, all from the cache: {best:.3f} s")


def test_a_build_from_the_cache_unpacks_nothing(
    make_rebuild: MakeRebuild, place: Place, programs: Programs, debian: str
) -> None:
    """The disk would not hold the base image, nor a layer beside its blob."""
    rebuild = make_rebuild(place)
    rebuild(f"FROM {debian}\n{_UNIQUE}\nRUN dd if=/dev/urandom of=/noise bs=1M count=3\n")
    made = layer_digests(rebuild.image)
    elsewhere = replace(rebuild, image=rebuild.image.replace(":latest", "/elsewhere:latest"))
    small = in_sandbox(programs, mounted("small", programs.work))
    log = replace(elsewhere, execute=small)("", f"--cache-dir={programs.work / 'cache'}")

    assert (log.ran, log.warnings) == ([], [])
    assert layer_digests(elsewhere.image) == made


def test_only_what_a_step_stands_on_is_fetched(
    make_rebuild: MakeRebuild, own: Registry, mode: str, debian: str, busybox: str
) -> None:
    """Not the image and the layers of a stage whose files are in a layer already."""
    big, small = _copied(debian, own), _copied(busybox, own)
    text = f"FROM {big} AS tools\nRUN echo tool > /tool\nFROM {small}\n{_UNIQUE}\n"
    text += "COPY --from=tools /tool /tool\nRUN cat /tool > /last\n"
    rebuild = replace(make_rebuild(None, mode), image=f"{own.address}/app:1")
    rebuild(text)
    made = layer_digests(rebuild.image)
    own.forget()
    again = replace(rebuild, cache_dir="another-cache")
    log = again(text.replace("cat /tool", "cat /stamp /tool"))

    assert log.ran == ["RUN cat /stamp /tool > /last"]
    assert fetched(own, big, small, again.image) == set(made[:-1])


def test_every_step_is_looked_up_whatever_the_one_before_it_gave(
    make_rebuild: MakeRebuild, own: Registry, busybox: str
) -> None:
    """All at once, and each once, before anything is fetched."""
    rebuild = replace(make_rebuild(None), image=f"{own.address}/app:1")
    base = _copied(busybox, own)
    text = f"FROM {base}\n" + "".join(f"RUN echo {n} > /{n}\n" for n in range(6))
    rebuild(text)
    layer = layer_digests(base)[0]
    own.forget()
    rebuild(text.replace("echo 0", "echo changed"), "--cache-dir=" + str(rebuild.directory / "new"))
    time.sleep(0.1)
    paths = [request.path for request in own.requests() if request.method == "GET"]
    looked_up = [n for n, path in enumerate(paths) if _LOOK_UP.fullmatch(path)]

    assert len(looked_up) == len({paths[number] for number in looked_up}) == 6
    assert max(looked_up) < next(n for n, path in enumerate(paths) if path.endswith(layer))


_CREATED = 201
_LOOK_UP = re.compile(r"/v2/app/cache/manifests/[0-9a-f]{64}")
