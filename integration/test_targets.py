"""Several targets in one build: what they share is done once, and each goes where it shall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from integration import readers
from integration.programs import Build, said
from integration.rebuilds import Rebuild
from integration.world import Registry

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /shared"
_STAGES = """FROM {base} AS shared
{unique}
FROM shared AS app
RUN echo app > /app
FROM {base} AS tests
COPY --from=shared /shared /shared
RUN echo tests > /tests
FROM {base} AS other
RUN false
"""


def _stages(base: str) -> str:
    return _STAGES.format(base=base, unique=_UNIQUE)


def test_each_target_goes_to_its_own_destinations(
    build: Build, registry: Registry, busybox: str
) -> None:
    """And what both need is built once: done twice, it would be two things."""
    others = [f"{registry.address}/built/{name}:1" for name in ("tests-one", "tests-two")]
    build(
        _stages(busybox),
        *("--target=app", "--target=tests"),
        *(f"--destination=tests={other}" for other in others),
    )

    with readers.unpacked(build.image) as app, readers.unpacked(others[0]) as tests:
        assert (app / "shared").read_text() == (tests / "shared").read_text()
        assert (app / "app").exists()
        assert not (app / "tests").exists()
        assert (tests / "tests").read_text() == "tests\n"
    assert readers.digest(others[0]) == readers.digest(others[1])


def test_the_first_of_several_is_pushed_and_the_others_are_built(
    build: Build, busybox: str
) -> None:
    """As Go kaniko does it, whose list has commas."""
    done = build(_stages(busybox), "--target=app,tests")

    assert "RUN echo tests" in done.stderr
    assert readers.config(build.image)["history"][-1]["created_by"].startswith(
        "RUN /bin/sh -c echo a"
    )


def test_one_target_may_stand_on_another(build: Build, registry: Registry, busybox: str) -> None:
    below = f"{registry.address}/built/below:1"
    build(
        f"FROM {busybox} AS below\n{_UNIQUE}\nFROM below AS above\nRUN echo more > /more\n",
        *("--target=above", "--target=below", f"--destination=below={below}"),
    )

    layers = [layer["digest"] for layer in readers.manifest(build.image)["layers"]]
    assert [layer["digest"] for layer in readers.manifest(below)["layers"]] == layers[:-1]


def test_all_targets_come_from_the_cache(
    rebuild: Rebuild, registry: Registry, busybox: str
) -> None:
    other = f"{registry.address}/built/cached-tests:1"
    flags = ("--target=app", "--target=tests", f"--destination=tests={other}")
    rebuild(_stages(busybox), *flags)
    made = readers.digest(rebuild.image), readers.digest(other)
    log = rebuild("", *flags)

    assert log.ran == []
    assert (readers.digest(rebuild.image), readers.digest(other)) == made


def test_targets_in_place(
    make_rebuild: Callable[..., Rebuild], registry: Registry, busybox: str
) -> None:
    """On one root directory, one after the other."""
    rebuild = make_rebuild(None, "in-place")
    other = f"{registry.address}/built/in-place-tests:1"
    rebuild(_stages(busybox), "--target=app", "--target=tests", f"--destination=tests={other}")

    with readers.unpacked(rebuild.image) as app, readers.unpacked(other) as tests:
        assert (app / "shared").read_text() == (tests / "shared").read_text()
        assert (app / "app").exists()
        assert not (tests / "app").exists()
        assert (tests / "tests").exists()


def test_layouts_name_all_targets(build: Build, busybox: str, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    build(
        _stages(busybox),
        *("--target=app", "--target=tests", "--no-push", f"--oci-layout-path={layout}"),
        *("--destination=app=localhost/x:app", "--destination=tests=localhost/x:tests"),
    )

    for name in ("app", "tests"):
        with readers.unpacked(f"oci:{layout}:{name}") as root:
            assert (root / name).read_text() == f"{name}\n"


def test_a_target_may_be_named_in_several_ways(build: Build, busybox: str, tmp_path: Path) -> None:
    """As a script does that takes the names of others: it is one image, told of by each name."""
    told = tmp_path / "digests"
    build(
        f"FROM {busybox} AS app\n{_UNIQUE}\n",
        *("--target=app", "--target=APP", "--target=0", f"--digest-file={told}"),
    )

    assert told.read_text().splitlines() == [readers.digest(build.image)] * 3


def test_a_destination_of_a_stage_that_is_no_target(build: Build, busybox: str) -> None:
    done = build(
        _stages(busybox),
        *("--target=app", "--destination=tests=localhost:1/x"),
        check=False,
    )

    said(done, "--destination tests=", "no target", "the targets are app")


def test_dryrun_shows_all_targets(build: Build, busybox: str) -> None:
    done = build(
        _stages(busybox),
        *("--dryrun", "--target=app", "--target=tests", "--destination=tests=localhost:1/x:2"),
    )

    assert "stages app, tests for" in done.stdout
    assert "push stage tests to localhost:1/x:2" in done.stdout
    assert "skip stage other" in done.stdout
