"""The layer cache where it is easy to get it wrong: secrets, age, company, places, what is said."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Programs, finished, said
from integration.rebuilds import (
    InDirectory,
    InLayout,
    InRegistry,
    Log,
    Place,
    Rebuild,
    entries,
    key_for,
    layer_digests,
)
from integration.world import REPOSITORY, Registry

MakeRebuild = Callable[..., Rebuild]

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"
_F = {"f": "x"}


# --- secrets ------------------------------------------------------------------------------


def test_a_secret_is_in_no_key_and_in_no_entry(
    rebuild: Rebuild, busybox: str, tmp_path: Path
) -> None:
    """Another value is no reason to run again, and the value is nowhere in what is kept."""
    text = f"FROM {busybox}\nRUN --mount=type=secret,id=s test -s /run/secrets/s && {_UNIQUE[4:]}\n"
    secret = tmp_path / "secret"
    for value in ("s3cret-one", "s3cret-two"):
        secret.write_text(value)
        log = rebuild(text, f"--secret=id=s,src={secret}", "--explain")

    assert log.ran == []
    kept = _kept(tmp_path / "layers")
    for value in ("s3cret-one", "s3cret-two"):
        digest = hashlib.sha256(value.encode()).hexdigest()
        assert not [path for path, data in kept.items() if value.encode() in data]
        assert not [path for path, data in kept.items() if digest.encode() in data]


def test_what_is_kept_to_explain_has_no_values(
    rebuild: Rebuild, busybox: str, tmp_path: Path
) -> None:
    """An image's history shows arguments, as BuildKit's does; nothing else does."""
    text = f"FROM {busybox}\nARG TOKEN\nENV NAME=value-of-env\nRUN true\nCOPY f /f\n"
    rebuild(text, "--build-arg=TOKEN=value-of-argument", files={"f": "value-of-file"})
    log = rebuild(text, "--build-arg=TOKEN=value-of-other", "--explain")

    assert "argument TOKEN changed" in log.explanation
    assert "value-of" not in log.explanation
    records = {p: data for p, data in _kept(tmp_path / "layers").items() if "explain-" in str(p)}
    assert b'"COPY"' in b"".join(records.values())
    assert not [path for path, data in records.items() if b"value-of" in data]


def _kept(directory: Path) -> dict[Path, bytes]:
    """Read all files below *directory*, unpacked if they are packed."""
    found = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return {
        path: gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        for path, data in found.items()
    }


# --- age ----------------------------------------------------------------------------------


def _made(place: InDirectory | InLayout, key: str, when: datetime) -> None:
    """Make an entry's manifest say that it was made at *when*."""
    top = place.directory / key if isinstance(place, InDirectory) else place.directory
    path = top / "index.json"
    index = json.loads(path.read_text())
    names = {"org.opencontainers.image.ref.name": key}
    entry = next(
        item for item in index["manifests"]
        if isinstance(place, InDirectory) or names.items() <= item["annotations"].items()
    )  # fmt: skip
    manifest = json.loads((top / "blobs" / entry["digest"].replace(":", "/")).read_text())
    manifest["annotations"]["org.opencontainers.image.created"] = when.isoformat()
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    (top / "blobs/sha256" / digest).write_bytes(data)
    entry |= {"digest": f"sha256:{digest}", "size": len(data)}
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("kind", ["layout", "directory"])
def test_what_is_older_than_allowed_is_made_anew(
    make_rebuild: MakeRebuild, busybox: str, tmp_path: Path, kind: str
) -> None:
    """Two weeks, unless --cache-ttl says otherwise; that it was used does not make it younger."""
    at = tmp_path / "layers"
    place = InDirectory(at) if kind == "directory" else InLayout(at)
    rebuild = make_rebuild(place)
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n")
    key, now = key_for(place, "uuid"), datetime.now(UTC)

    _made(place, key, now - timedelta(days=13))
    assert rebuild().ran == []
    assert rebuild("", "--cache-ttl=311h", "--no-push-cache").ran == [_UNIQUE]
    assert rebuild("", "--cache-ttl=313h").ran == []
    _made(place, key, now - timedelta(days=15))
    expired = rebuild()
    assert expired.ran == [_UNIQUE]
    assert expired.warnings == []
    assert rebuild().ran == []


def test_a_fixed_time_of_the_build_is_not_the_age_of_what_it_made(
    make_rebuild: MakeRebuild, place: Place, busybox: str
) -> None:
    """Images say that they are of 1970; their layers are in the cache since a moment ago."""
    rebuild = make_rebuild(place)
    flag = "--build-arg=SOURCE_DATE_EPOCH=1000"
    rebuild(f"FROM {busybox}\n{_UNIQUE}\nCOPY f /f\n", flag, files=_F)
    made = readers.digest(rebuild.image)

    assert rebuild("", flag).ran == []
    assert readers.digest(rebuild.image) == made


# --- company ------------------------------------------------------------------------------


def test_builders_that_make_the_same_at_once_do_not_disturb_each_other(
    make_rebuild: MakeRebuild, place: Place, busybox: str, tmp_path: Path
) -> None:
    rebuild = make_rebuild(place)
    text = f"FROM {busybox}\nRUN echo same > /same\nRUN echo more > /more\nCOPY f /f\n"
    rebuild.fill({"Dockerfile": text, **_F})
    running, names = [], []
    for number in range(4):
        names.append(rebuild.image.replace(":latest", f"/{number}:latest"))
        programs = Programs(tmp_path / f"builder-{number}")
        programs.directory.mkdir()
        alone = replace(rebuild, image=names[-1], cache_dir=f"cache-{number}")
        running.append(programs.start_executor("--isolation=sandbox", *alone.arguments))
    logs = [Log.of(finished(process)) for process in running]

    assert [log.warnings for log in logs] == [[]] * 4
    assert len(entries(place)) == 3
    after = rebuild()
    assert after.ran == []
    assert after.warnings == []
    # Each image is whole, whoever won.
    for name in names:
        with readers.unpacked(name) as root:
            assert (root / "same").read_text() == "same\n"


def test_a_builder_that_is_killed_leaves_a_cache_that_others_can_use(
    make_rebuild: MakeRebuild, programs: Programs, busybox: str, tmp_path: Path
) -> None:
    place = InDirectory(tmp_path / "layers")
    rebuild = make_rebuild(place)
    first, last = "RUN head -c 3000000 /dev/urandom > /noise", "RUN sleep 600"
    rebuild.fill({"Dockerfile": f"FROM {busybox}\n{first}\n{last}\n"})
    process = programs.start_executor("--isolation=sandbox", *rebuild.arguments)
    assert process.stderr is not None
    while "sleep 600" not in (line := process.stderr.readline().decode()):
        assert line
    process.kill()
    finished(process, check=False)
    log = rebuild(f"FROM {busybox}\n{first}\nRUN true\n")

    assert log.warnings == []
    assert rebuild().ran == []


# --- places -------------------------------------------------------------------------------


def test_the_repository_is_that_of_the_first_destination(
    make_rebuild: MakeRebuild, registry: Registry, busybox: str
) -> None:
    rebuild = make_rebuild(None)
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n", f"--destination={rebuild.image}-other")
    repository = rebuild.image.removeprefix(f"{registry.address}/").removesuffix(":latest")
    place = InRegistry(registry, f"{repository}/cache")

    assert len(entries(place)) == 1
    assert rebuild().ran == []


def test_without_a_destination_the_cache_directory_has_the_layers(
    make_rebuild: MakeRebuild, busybox: str
) -> None:
    rebuild = make_rebuild(None)
    rebuild.fill({"Dockerfile": f"FROM {busybox}\n{_UNIQUE}\n"})
    flags = [flag for flag in rebuild.arguments if not flag.startswith("--destination")]
    first, second = (
        Log.of(rebuild.execute(*flags, "--no-push", check=True, env={})) for _ in range(2)
    )

    assert (first.ran, second.ran) == ([_UNIQUE], [])
    assert len(entries(InDirectory(rebuild.cache / ".built"))) == 1


@pytest.mark.parametrize("form", ["{}", "dir:{}", "oci:{}"])
def test_a_directory_is_named_in_several_ways(
    make_rebuild: MakeRebuild, busybox: str, tmp_path: Path, form: str
) -> None:
    rebuild = make_rebuild(None)
    flag = f"--cache-repo={form.format(tmp_path / 'new/layers')}"
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n", flag)

    assert rebuild("", flag).ran == []
    assert (tmp_path / "new/layers").is_dir()


def test_other_users_can_read_what_is_kept(rebuild: Rebuild, busybox: str, tmp_path: Path) -> None:
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n")
    for path in (tmp_path / "layers").rglob("*"):
        wanted = 0o755 if path.is_dir() else 0o644
        assert path.suffix == ".lock" or path.stat().st_mode & 0o777 == wanted, path


def test_nothing_is_added_where_that_is_not_wanted(
    make_rebuild: MakeRebuild, place: Place, busybox: str
) -> None:
    rebuild = make_rebuild(place)
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n")
    kept = place.names()
    log = rebuild(f"FROM {busybox}\n{_UNIQUE}\nRUN true\n", "--no-push-cache")
    again = rebuild("", "--no-push-cache")

    assert log.taken == again.taken == [_UNIQUE]
    assert log.ran == again.ran == ["RUN true"]
    assert place.names() == kept


def test_no_cache_without_the_flag(rebuild: Rebuild, busybox: str, tmp_path: Path) -> None:
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n")
    kept = InDirectory(tmp_path / "layers").names()
    log = rebuild(f"FROM {busybox}\n{_UNIQUE}\nRUN true\n", "--cache=false")

    assert log.ran == [_UNIQUE, "RUN true"]
    assert InDirectory(tmp_path / "layers").names() == kept


def test_the_old_name_of_the_flag_is_understood(rebuild: Rebuild, busybox: str) -> None:
    text = f"FROM {busybox}\n{_UNIQUE}\n"
    rebuild(text)
    flags = ["--use-cache" if flag == "--cache" else flag for flag in rebuild.arguments]
    log = Log.of(rebuild.execute(*flags, check=True, env={}))

    assert log.taken == [_UNIQUE]
    assert any("--use-cache" in text and "--cache" in text for text in [*log.notes, *log.warnings])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("registry.example.com/cache:tag", ("registry.example.com/cache:tag",)),
        (f"registry.example.com/cache@sha256:{'0' * 64}", ("registry.example.com/cache@",)),
        ("oci:", ("oci:",)),
        ("Not A Name", ("Not A Name",)),
    ],
)
def test_a_place_that_is_none_is_refused(
    rebuild: Rebuild, busybox: str, value: str, words: tuple[str, ...]
) -> None:
    flags = [f for f in rebuild.arguments if not f.startswith(("--cache-repo", "--log-format"))]
    rebuild.fill({"Dockerfile": f"FROM {busybox}\n"})
    done = rebuild.execute(*flags, f"--cache-repo={value}", check=False, env={})
    said(done, *words)


# --- images that carry their cache --------------------------------------------------------


def test_an_image_carries_its_cache(
    make_rebuild: MakeRebuild, mode: str, busybox: str, podman: readers.Podman, tmp_path: Path
) -> None:
    """For a builder that has nothing else, and adds nothing anywhere."""
    first = make_rebuild(InDirectory(tmp_path / "one"), mode)
    text = f'FROM {busybox}\n{_UNIQUE}\nRUN cp /stamp /copy\nCMD ["cat", "/copy"]\n'
    first(text, "--export-cache=type=inline", f"--destination={first.image}")
    made = layer_digests(first.image)
    elsewhere = first.image.replace(":latest", "-2:latest")
    second = replace(first, image=elsewhere, place=InDirectory(tmp_path / "two"))
    log = second("", "--no-push-cache", f"--import-cache=type=registry,ref={first.image}")
    changed = second(
        text.replace("cp /stamp /copy", "cat /stamp > /copy"),
        *("--no-push-cache", f"--import-cache=type=registry,ref={first.image}"),
    )

    assert (log.ran, log.warnings) == ([], [])
    assert (changed.ran, changed.taken) == (["RUN cat /stamp > /copy"], [_UNIQUE])
    assert layer_digests(elsewhere)[:2] == made[:2]
    assert podman.run(first.image) == podman.run(elsewhere)


def test_the_cache_is_looked_for_in_the_destination_itself(
    rebuild: Rebuild, busybox: str, tmp_path: Path
) -> None:
    alone = replace(rebuild, place=InDirectory(tmp_path / "unused"))
    flags = ("--no-push-cache", "--export-cache=type=inline", "--import-cache=type=inline")
    first = alone(f"FROM {busybox}\n{_UNIQUE}\n", *flags)
    made = readers.digest(alone.image)
    second = alone("", *flags)

    assert (first.ran, first.warnings, second.ran) == ([_UNIQUE], [], [])
    assert readers.digest(alone.image) == made


def test_other_kinds_of_cache_are_refused(rebuild: Rebuild, busybox: str) -> None:
    rebuild.fill({"Dockerfile": f"FROM {busybox}\n"})
    flags = [flag for flag in rebuild.arguments if flag != "--log-format=json"]
    for flag in ("--export-cache=type=registry,ref=a/b", "--import-cache=type=gha"):
        said(rebuild.execute(*flags, flag, check=False, env={}), flag.split("=")[2].split(",")[0])


# --- what is said -------------------------------------------------------------------------


def test_it_says_why_a_step_runs_again(rebuild: Rebuild, busybox: str) -> None:
    text = f"FROM {busybox}\nARG VERSION=1\nCOPY src /src\nRUN echo $VERSION > /version\n"
    rebuild(text, "--explain", files={"src/a": "1", "src/b": "1"})
    file = rebuild("", "--explain", files={"src/a": "2"})
    argument = rebuild("", "--explain", "--build-arg=VERSION=2")
    line = rebuild(text.replace("echo", "echo -n"), "--explain", "--build-arg=VERSION=2")
    nothing = rebuild("", "--explain", "--build-arg=VERSION=2")

    assert "file src/a changed" in file.explanation
    assert "src/b" not in file.explanation
    assert "argument VERSION changed" in argument.explanation
    assert "src/a" not in argument.explanation
    assert "the instruction changed" in line.explanation
    assert nothing.ran == []
    assert "changed" not in nothing.explanation


_DOCUMENT = REPOSITORY / "docs" / "CACHING.md"


def test_the_example_of_the_documentation_is_what_happens(
    make_rebuild: MakeRebuild, busybox: str, tmp_path: Path
) -> None:
    """Every file, change and answer of ``docs/CACHING.md``, "An example"."""
    text = _DOCUMENT.read_text().split("## An example", 1)[1].split("\n## ", 1)[0]
    rebuild = make_rebuild(InDirectory(tmp_path / "layers"))
    base = f"--build-context=busybox:1.35=docker-image://{busybox}"
    asked = 0
    for kind, name, body in re.findall(r"```(\w+)(?: (\S+))?\n(.*?)```", text, re.S):
        match kind:
            case "sh":
                readers.output_of("sh", "-ec", f"cd {rebuild.context}; {body}")
            case "text":
                log = rebuild("", "--explain", base)
                told = log.explanation.replace(f"{rebuild.context}/", "")
                assert told.strip() == body.strip(), told
                asked += 1
            case _:
                rebuild.fill({name or "Dockerfile": body})
    assert asked > 1
