"""The layer cache as its users see it: which steps run again, and that the image is the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from integration import readers
from integration.compare import differences, image_of_layout
from integration.programs import Programs
from integration.readers import Podman
from integration.rebuilds import (
    InDirectory,
    Place,
    Rebuild,
    entries,
    history,
    in_sandbox,
    layer_digests,
)

MakeRebuild = Callable[..., Rebuild]

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"


# --- a second build -----------------------------------------------------------------------


def test_a_command_that_never_gives_the_same_twice_is_not_run_twice(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    rebuild = make_rebuild(place, mode)
    first = rebuild(f"FROM {busybox}\n{_UNIQUE}\n")
    made = layer_digests(rebuild.image), readers.digest(rebuild.image)
    second = rebuild()

    assert first.ran == [_UNIQUE]
    assert second.taken == [_UNIQUE]
    assert second.ran == first.warnings == second.warnings == []
    assert (layer_digests(rebuild.image), readers.digest(rebuild.image)) == made
    assert len(made[0]) == 2


def test_a_large_layer_that_no_image_has_is_kept_though_the_image_is_done_before_it(
    make_rebuild: MakeRebuild, place: Place, busybox: str
) -> None:
    large = "RUN mkdir /m && i=0 && while [ $i -lt 20000 ]; do echo $i > /m/$i; i=$((i+1)); done"
    rebuild = make_rebuild(place)
    first = rebuild(
        f"FROM {busybox} AS made\n{large}\nRUN echo 1 > /out\n"
        f"FROM {busybox}\nCOPY --from=made /out /out\n"
    )
    second = rebuild()

    assert large in first.ran
    assert second.ran == first.warnings == second.warnings == []


def test_packages_are_not_installed_twice(
    make_rebuild: MakeRebuild, place: Place, debian: str, podman: Podman
) -> None:
    install = "RUN apt-get update && apt-get install -y --no-install-recommends tree"
    rebuild = make_rebuild(place)
    first = rebuild(f"FROM {debian}\n{install}\n")
    made = readers.digest(rebuild.image)
    second = rebuild()

    assert (first.ran, second.ran, second.taken) == ([install], [], [install])
    assert readers.digest(rebuild.image) == made
    assert "directories" in podman.run(rebuild.image, "tree", "/etc/apt")


_EVERYTHING = r"""
FROM {base} AS tools
RUN mkdir -p /opt/tool && cat /proc/sys/kernel/random/uuid > /opt/tool/built
RUN ln -s built /opt/tool/link
FROM {base}
ENV GREETING=hello
WORKDIR /srv/app
COPY --chown=1234:99 --chmod=750 tree/ ./
ADD <<FILE /etc/motd
$GREETING
FILE
RUN rm -r /home /bin/vi && mkdir /home && touch /home/new && chmod 4755 tree-file
RUN ln tree-file second-name && mkfifo pipe && mknod device c 1 3 || true
COPY --from=tools /opt/tool /opt/tool
USER web
RUN <<SCRIPT
echo "$GREETING" > /tmp/said
SCRIPT
LABEL last=$GREETING
CMD ["/bin/true"]
"""


def _fill_everything(rebuild: Rebuild, base: str, **replaced: str) -> None:
    text = _EVERYTHING.format(base=base)
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    rebuild.fill({"Dockerfile": text, "tree/tree-file": "one\n", "tree/deep/er/file": "two\n"})
    link = rebuild.context / "tree" / "link"
    if not link.is_symlink():
        link.symlink_to("deep/er")


def test_an_image_from_the_cache_is_the_image(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    """To the last byte: layers, config, history."""
    rebuild = make_rebuild(place, mode)
    _fill_everything(rebuild, busybox)
    first = rebuild()
    made = readers.digest(rebuild.image)
    second = rebuild()

    assert len(first.ran) == 9
    assert second.ran == first.taken == []
    assert second.warnings == []
    assert readers.digest(rebuild.image) == made


def test_an_image_that_is_partly_from_the_cache_is_that_of_a_build_without_one(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str, tmp_path: Path
) -> None:
    """Layers below the step that runs are what it sees: whiteouts, links, owners and all."""
    rebuild = make_rebuild(place, mode)
    _fill_everything(rebuild, busybox)
    rebuild()
    kept = layer_digests(rebuild.image)
    list_all = "find / -xdev ! -path '/tmp/*' | sort > /tmp/found; ls -lR /srv /opt >> /tmp/found"
    _fill_everything(rebuild, busybox, **{'echo "$GREETING" > /tmp/said': list_all})
    log = rebuild("", f"--oci-layout-path={tmp_path / 'cached'}")
    rebuild.without_cache(tmp_path / "plain")

    assert [text.split("\n")[0] for text in log.ran] == ["RUN <<SCRIPT"]
    assert len(log.taken) == 6  # the other stage is not even looked at
    assert log.warnings == []
    assert layer_digests(rebuild.image)[:-1] == kept[:-1]
    ours, theirs = (image_of_layout(tmp_path / name) for name in ("cached", "plain"))
    told = differences(ours, theirs)
    assert told.keys() <= {"/opt/tool/built", "/tmp/found"}, told
    assert history(rebuild.image) == history(f"oci:{tmp_path / 'plain'}:latest")


def test_a_build_in_one_mode_takes_what_the_other_made(
    make_rebuild: MakeRebuild, place: Place, busybox: str, tmp_path: Path
) -> None:
    """In both directions: the first step is made in one, the second in the other."""
    sandboxed, in_place = make_rebuild(place), make_rebuild(place, "in-place")
    _fill_everything(sandboxed, busybox)
    in_place()
    made = readers.digest(in_place.image)
    second = sandboxed()
    assert (second.ran, readers.digest(sandboxed.image)) == ([], made)

    _fill_everything(sandboxed, busybox, **{"hello": "hey"})
    assert len(sandboxed().ran) > 0
    made = readers.digest(sandboxed.image)
    last = in_place()
    assert (last.ran, last.warnings) == ([], [])
    assert readers.digest(in_place.image) == made


def test_skopeo_reads_what_is_kept(make_rebuild: MakeRebuild, place: Place, busybox: str) -> None:
    """One image for each key, with one layer, the instruction, and when it was made."""
    rebuild = make_rebuild(place)
    rebuild(f"FROM {busybox}\nRUN echo a > /a\nCOPY file /file\nWORKDIR /work\nLABEL a=b\n",
            files={"file": "x"})  # fmt: skip
    made = layer_digests(rebuild.image)[1:]

    kept = entries(place)
    assert len(kept) == 3
    for words, layer in zip(("echo a", "COPY", "WORKDIR"), made, strict=True):
        key = next(key for text, key in kept.items() if words in text)
        manifest, config = (read(place.image(key)) for read in (readers.manifest, readers.config))
        assert [item["digest"] for item in manifest["layers"]] == [layer]
        assert len(config["rootfs"]["diff_ids"]) == 1
        assert config["created"] > "2026"
        assert config["architecture"] in ("amd64", "arm64")


# --- exactly what changed -----------------------------------------------------------------

_STEPS = r"""
FROM {base}
WORKDIR /app
RUN cat /proc/sys/kernel/random/uuid > /first
COPY one.txt /one
COPY src /src
ARG VERSION=1
RUN cat /src/* > /all; echo $VERSION > /version
COPY two.txt /two
RUN cat /proc/sys/kernel/random/uuid > /last
LABEL a=1
"""
_ONE, _SRC, _TWO = "COPY one.txt /one", "COPY src /src", "COPY two.txt /two"
_FIRST, _LAST = (
    "RUN cat /proc/sys/kernel/random/uuid > /first",
    "RUN cat /proc/sys/kernel/random/uuid > /last",
)
_ALL = "RUN cat /src/* > /all; echo $VERSION > /version"
_FROM_SRC = [_SRC, _ALL, _TWO, _LAST]


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a build before it is built again, and what must run then."""

    runs: list[str]
    of_files: Callable[[Path], object] = lambda context: None
    of_text: tuple[str, str] = ("", "")
    flags: tuple[str, ...] = ()


def _chmod(name: str, mode: int) -> Callable[[Path], object]:
    return lambda context: (context / name).chmod(mode)


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda context: (context / name).write_text(text)


def _relink(context: Path) -> None:
    (context / "src/link").unlink()
    (context / "src/link").symlink_to("b")


def _touch_everything(context: Path) -> None:
    for path in (context, *context.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)


def _give_away(context: Path) -> None:
    for path in context.rglob("*"):
        os.chown(path, 4321, 1234, follow_symlinks=False)


_CHANGES = {
    "nothing": Change([]),
    "every time": Change([], _touch_everything),
    # They are root's in the image, whoever owns them here.
    "every owner": Change([], _give_away),
    "an ignored file": Change([], _write("src/a.ignored", "changed")),
    "a file that nobody copies": Change([], _write("other.txt", "changed")),
    "a comment": Change([], of_text=("\nARG", "\n# so\n\nARG")),
    "white space": Change([], of_text=("COPY one.txt /one", "COPY   one.txt \\\n  /one")),
    "a label of the Dockerfile": Change([], of_text=("LABEL a=1", "LABEL a=2 b=3")),
    "a label at the top": Change([], of_text=("WORKDIR", "LABEL early=1\nCMD x\nWORKDIR")),
    "a label of the build": Change([], flags=("--label=a=b",)),
    "an argument that nobody declares": Change([], flags=("--build-arg=NOBODY=1",)),
    "the value that an argument has anyway": Change([], flags=("--build-arg=VERSION=1",)),
    "one file": Change(_FROM_SRC, _write("src/a", "changed")),
    "one file's mode": Change(_FROM_SRC, _chmod("src/a", 0o755)),
    "one file's name": Change(_FROM_SRC, lambda at: (at / "src/a").rename(at / "src/c")),
    "one file more": Change(_FROM_SRC, _write("src/new", "")),
    "one file less": Change(_FROM_SRC, lambda at: (at / "src/b").unlink()),
    "an empty directory": Change(_FROM_SRC, lambda at: (at / "src/empty").mkdir()),
    "a link's target": Change(_FROM_SRC, _relink),
    "a directory's mode": Change(_FROM_SRC, _chmod("src/deep", 0o700)),
    "an attribute": Change(
        _FROM_SRC, lambda at: os.setxattr(at / "src/a", "user.mine", b"changed")
    ),
    "the first file": Change([_ONE, *_FROM_SRC], _write("one.txt", "changed")),
    "the last file": Change([_TWO, _LAST], _write("two.txt", "changed")),
    "what is ignored": Change(_FROM_SRC, _write(".dockerignore", "Dockerfile\nsrc/b\n")),
    "one argument": Change([_ALL, _TWO, _LAST], flags=("--build-arg=VERSION=2",)),
    "an argument's default": Change([_ALL, _TWO, _LAST], of_text=("VERSION=1", "VERSION=2")),
    "a variable": Change([_ALL, _TWO, _LAST], of_text=("ARG VERSION", "ENV MORE=1\nARG VERSION")),
    "the user": Change([_LAST], of_text=(_LAST, "USER 0:0\n" + _LAST)),
    "the shell": Change([_LAST], of_text=(_LAST, f'SHELL ["/bin/sh", "-ec"]\n{_LAST}')),
    "the last line": Change(["RUN date > /last"], of_text=(_LAST, "RUN date > /last")),
    "a line's options": Change(
        [_LAST.replace("RUN", "RUN --network=none")],
        of_text=(_LAST, _LAST.replace("RUN", "RUN --network=none")),
    ),
    "the first line": Change(
        ["RUN date > /first", _ONE, *_FROM_SRC], of_text=(_FIRST, "RUN date > /first")
    ),
    "a line more": Change(
        ["RUN true", _TWO, _LAST], of_text=(_TWO, f"RUN true\n{_TWO}")
    ),
    "a line less": Change([_TWO, _LAST], of_text=(f"{_ALL}\n", "")),
    "the working directory": Change(
        ["WORKDIR /other", _FIRST, _ONE, *_FROM_SRC], of_text=("WORKDIR /app", "WORKDIR /other")
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, busybox: str) -> Iterator[Rebuild]:
    """A build of _STEPS whose layers are in a directory; nothing may be added to it."""
    directory = tmp_path_factory.mktemp("built")
    programs = Programs(directory)
    place = InDirectory(directory / "layers")
    rebuild = Rebuild(in_sandbox(programs), directory, "localhost/built:latest", place)
    context = {f"src/{name}": f"{name}\n" for name in ("a", "b", "a.ignored", "deep/er")}
    context |= {"one.txt": "1", "two.txt": "2", "other.txt": "3"}
    rebuild.fill({**context, ".dockerignore": "Dockerfile\n*/*.ignored\n"})
    (rebuild.context / "src/link").symlink_to("a")
    log = rebuild(_STEPS.format(base=busybox), "--no-push")
    assert len(log.ran) == 7
    yield rebuild


@pytest.mark.parametrize("name", _CHANGES)
def test_exactly_what_a_change_concerns_runs_again(
    built: Rebuild, programs: Programs, tmp_path: Path, name: str
) -> None:
    """In a copy of the context, at another path, by a builder that has nothing of its own."""
    change = _CHANGES[name]
    rebuild = replace(built, execute=in_sandbox(programs), directory=tmp_path)
    readers.output_of("cp", "-a", built.context, rebuild.context)
    change.of_files(rebuild.context)
    text = (rebuild.context / "Dockerfile").read_text()
    assert change.of_text[0] in text
    log = rebuild(text.replace(*change.of_text, 1), "--no-push", "--no-push-cache", *change.flags)

    assert log.ran == change.runs
    assert len(log.taken) == text.replace(*change.of_text, 1).count("\nRUN") + (
        text.count("\nCOPY") + text.count("\nWORKDIR") - len(change.runs)
    )


def test_what_is_changed_back_is_there_again(rebuild: Rebuild, busybox: str) -> None:
    dockerfile = f"FROM {busybox}\nCOPY file /file\n{_UNIQUE}\n"
    rebuild(dockerfile, files={"file": "one"})
    made = readers.digest(rebuild.image)
    rebuild(files={"file": "two"})
    assert readers.digest(rebuild.image) != made

    assert rebuild(files={"file": "one"}).ran == []
    assert readers.digest(rebuild.image) == made


def test_copies_are_cached_only_where_it_is_asked_for(
    make_rebuild: MakeRebuild, place: Place, busybox: str
) -> None:
    """As Go kaniko has it: RUN and WORKDIR are, COPY and ADD are not."""
    rebuild = make_rebuild(place)
    text = f"FROM {busybox}\nWORKDIR /work\nCOPY file .\nADD file added\n{_UNIQUE}\n"
    rebuild(text, "--cache-copy-layers=false", files={"file": "x"})
    log = rebuild("", "--cache-copy-layers=false")

    assert log.ran == ["COPY file .", "ADD file added"]
    assert log.taken == ["WORKDIR /work", _UNIQUE]
    assert len(entries(place)) == 2


def test_runs_are_not_cached_where_it_is_not_wanted(rebuild: Rebuild, busybox: str) -> None:
    text = f"FROM {busybox}\nCOPY file /\nWORKDIR /work\n{_UNIQUE}\n"
    rebuild(text, "--cache-run-layers=false", files={"file": "x"})
    log = rebuild("", "--cache-run-layers=false")

    assert log.taken == ["COPY file /"]
    assert log.ran == ["WORKDIR /work", _UNIQUE]


def test_a_command_that_changes_nothing_is_not_run_again(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    rebuild = make_rebuild(place, mode)
    first = rebuild(f"FROM {busybox}\nRUN echo tested\nRUN echo x > /x\n")
    made = readers.digest(rebuild.image)
    second = rebuild()

    assert (first.taken, second.ran) == ([], [])
    assert "tested" in [event["msg"] for event in first.events]
    assert "tested" not in [event["msg"] for event in second.events]
    assert readers.digest(rebuild.image) == made
