"""Steps that run on cached ones, read what cached ones made, or share a key with others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from integration import readers
from integration.programs import said
from integration.rebuilds import InDirectory, Place, Rebuild, entries, key_for
from tests.web_server import Answer, WebServer

MakeRebuild = Callable[..., Rebuild]

_UNIQUE = "RUN cat /proc/sys/kernel/random/uuid > /stamp"


@pytest.fixture
def store(tmp_path: Path) -> Place:
    """Where layers are, where that does not matter."""
    return InDirectory(tmp_path / "layers")


# --- on cached steps ----------------------------------------------------------------------


def test_a_step_sees_what_cached_steps_made(
    make_rebuild: MakeRebuild, store: Place, mode: str, busybox: str
) -> None:
    """Links that lead elsewhere, users that have a name, directories that are there."""
    rebuild = make_rebuild(store, mode)
    made = r"""FROM {base}
RUN echo 'joe:x:77:88::/home/joe:/bin/sh' >> /etc/passwd && mkdir -m 1777 /real && ln -s real /link
RUN rm -r /var && mkdir /var && echo new > /var/new
"""
    rebuild(made.format(base=busybox))
    more = """COPY --chown=joe f /link/f
USER joe
WORKDIR /link/below
RUN id -u > user; ls /var > listed; cat /link/f > read
"""
    log = rebuild(made.format(base=busybox) + more, files={"f": "x\n"})

    assert len(log.taken) == 2
    assert len(log.ran) == 3
    assert log.warnings == []
    with readers.unpacked(rebuild.image) as root:
        below = root / "real/below"
        assert (root / "link").is_symlink()
        assert (root / "real/f").stat().st_uid == 77
        assert (below / "user").read_text() == "77\n"
        assert (below / "listed").read_text() == "new\n"
        assert (below / "read").read_text() == "x\n"
        assert below.stat().st_uid == 77


def test_steps_before_one_that_fails_are_kept(
    make_rebuild: MakeRebuild, place: Place, mode: str, busybox: str
) -> None:
    """Who mends a line need not wait again for those before it."""
    rebuild = make_rebuild(place, mode)
    failed = rebuild(f"FROM {busybox}\n{_UNIQUE}\nRUN false\n", check=False)
    assert failed.finished.status != 0
    log = rebuild(f"FROM {busybox}\n{_UNIQUE}\nRUN true\n")

    assert (log.taken, log.ran) == ([_UNIQUE], ["RUN true"])


def test_a_wrong_instruction_is_refused_as_without_a_cache(rebuild: Rebuild, busybox: str) -> None:
    rebuild.fill({"Dockerfile": f"FROM {busybox}\nRUN true\nCOPY missing /\n"})
    plain = [flag for flag in rebuild.arguments if flag != "--log-format=json"]
    without = [flag for flag in plain if not flag.startswith("--cache")]
    messages = {
        said(rebuild.execute(*flags, check=False, env={}), "missing") for flags in (plain, without)
    }

    assert len(messages) == 1


def test_an_image_of_nothing_but_copies_is_taken_whole(
    make_rebuild: MakeRebuild, place: Place, mode: str
) -> None:
    rebuild = make_rebuild(place, mode)
    rebuild("FROM scratch\nCOPY f /f\nCOPY f /g\n", files={"f": "x"})
    made = readers.digest(rebuild.image)

    assert rebuild().ran == []
    assert readers.digest(rebuild.image) == made


def test_files_with_names_that_are_no_text(rebuild: Rebuild, busybox: str) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"a;b=c", b"\xed\xa0\x80"):
        path = os.path.join(os.fsencode(rebuild.context / "tree"), name)  # noqa: PTH118
        rebuild.fill({"tree/": ""})
        Path(os.fsdecode(path)).write_bytes(b"x")
    rebuild(f"FROM {busybox}\nCOPY tree /tree\n", "--explain")
    same = rebuild("", "--explain")
    Path(os.fsdecode(path)).write_bytes(b"y")
    other = rebuild("", "--explain")

    assert (same.ran, other.ran) == ([], ["COPY tree /tree"])
    assert "changed" in other.explanation
    assert "a;b=c" not in other.explanation


# --- of other stages, images, contexts ----------------------------------------------------


def test_a_target_takes_what_a_build_of_everything_made(rebuild: Rebuild, busybox: str) -> None:
    rebuild(f"FROM {busybox} AS one\n{_UNIQUE}\nFROM one\nRUN cp /stamp /copy\n")
    log = rebuild("", "--target=one")

    assert (log.taken, log.ran) == ([_UNIQUE], [])


def test_files_of_another_image_are_known_by_its_layers(
    rebuild: Rebuild, busybox: str, debian: str
) -> None:
    copy = f"COPY --from={debian} /etc/debian_version /v"
    rebuild(f"FROM {busybox}\n{copy}\n")
    same = rebuild()
    moved = copy.replace("/etc/debian_version", "/etc/passwd")
    other = rebuild(f"FROM {busybox}\n{moved}\n")
    another = rebuild(f"FROM {busybox}\n{moved.replace(debian, busybox)}\n")

    assert (same.ran, other.ran) == ([], [moved])
    assert another.ran == [moved.replace(debian, busybox)]


def test_files_of_another_context_count(rebuild: Rebuild, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/file").write_text("one")
    flag = f"--build-context=docs={tmp_path / 'docs'}"
    copy, run = "COPY --from=docs file /", "RUN --mount=from=docs,target=/d cat /d/file > /seen"
    rebuild(f"FROM {busybox}\n{copy}\n{run}\n", flag)
    same = rebuild("", flag)
    (tmp_path / "docs/file").write_text("two")
    other = rebuild("", flag)

    assert (same.ran, other.ran) == ([], [copy, run])


def test_a_mount_of_another_stage_counts(
    make_rebuild: MakeRebuild, store: Place, mode: str, busybox: str
) -> None:
    """By the stage's key; and by what it gave, where it had to be built again."""
    rebuild = make_rebuild(store, mode)
    mount = "RUN --mount=from=one,target=/one cp /one/stamp /copy"
    rebuild(f"FROM {busybox} AS one\n{_UNIQUE}\nFROM {busybox}\n{mount}\nRUN true\n")
    assert rebuild().ran == []
    changed = rebuild(
        f"FROM {busybox} AS one\nRUN echo changed > /stamp\nFROM {busybox}\n{mount}\nRUN true\n"
    )
    assert changed.ran == ["RUN echo changed > /stamp", mount, "RUN true"]
    with readers.unpacked(rebuild.image) as root:
        assert (root / "copy").read_text() == "changed\n"


def test_stages_that_begin_alike_are_of_one_piece(
    make_rebuild: MakeRebuild, store: Place, mode: str, busybox: str
) -> None:
    """Two stages have a step with the same key, which gives something else each time."""
    text = f"FROM {busybox} AS a\n{_UNIQUE}\nRUN cp /stamp /a\n"
    text += f"FROM {busybox} AS b\n{_UNIQUE}\nRUN cp /stamp /b\n"
    text += f"FROM {busybox}\nCOPY --from=a /a /stamp /of-a/\nCOPY --from=b /b /stamp /of-b/\n"
    rebuild = make_rebuild(store, mode)
    rebuild(text)
    logs = [rebuild() for _ in range(2)]
    rebuild(text.replace("cp /stamp /b", "cat /stamp > /b"))

    assert logs[-1].ran == []
    for of in "ab":
        with readers.unpacked(rebuild.image) as root:
            assert (root / f"of-{of}" / of).read_text() == (root / f"of-{of}/stamp").read_text()


def test_a_checksum_spares_the_download(rebuild: Rebuild, busybox: str, web: WebServer) -> None:
    """What it is the checksum of was seen before; that the server is gone is no matter."""
    digest = "sha256:" + "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    url = web.add("/file", b"one")
    rebuild(f"FROM {busybox}\nADD --checksum={digest} {url} /file\n")
    web.answer("/file", Answer(500))
    asked = len(web.requests)
    log = rebuild()

    assert log.ran == []
    assert len(web.requests) == asked


# --- variables ----------------------------------------------------------------------------


def test_the_order_of_variables_and_arguments_does_not_count(
    rebuild: Rebuild, busybox: str
) -> None:
    text = f"FROM {busybox}\nARG X\nARG Y\nENV A=1\nENV B=2\n{_UNIQUE}\n"
    rebuild(text, "--build-arg=X=1", "--build-arg=Y=2")
    turned = text.replace("A=1", "C").replace("B=2", "A=1").replace("ENV C", "ENV B=2")
    log = rebuild(turned.replace("ARG X\nARG Y", "ARG Y\nARG X"), "--build-arg=Y=2",
                  "--build-arg=X=1")  # fmt: skip

    assert log.taken == [_UNIQUE]


def test_proxies_do_not_count_unless_they_are_declared(rebuild: Rebuild, busybox: str) -> None:
    text = f"FROM {busybox}\n{_UNIQUE}\n"
    rebuild(text, "--build-arg=http_proxy=http://one.example:1")
    assert rebuild("", "--build-arg=http_proxy=http://two.example:2").ran == []

    declared = text.replace("RUN", "ARG http_proxy\nRUN")
    assert rebuild(declared, "--build-arg=http_proxy=http://one.example:1").ran == [_UNIQUE]
    assert rebuild(declared, "--build-arg=http_proxy=http://two.example:2").ran == [_UNIQUE]


def test_a_base_by_an_argument_counts_as_what_it_is(
    rebuild: Rebuild, busybox: str, debian: str
) -> None:
    text = f"ARG BASE\nFROM $BASE\n{_UNIQUE}\n"
    rebuild(text, f"--build-arg=BASE={busybox}")

    assert rebuild(f"FROM {busybox}\n{_UNIQUE}\n").ran == []
    assert rebuild(text, f"--build-arg=BASE={debian}").ran == [_UNIQUE]


# --- places -------------------------------------------------------------------------------


def test_layers_may_be_kept_beside_the_images_themselves(
    make_rebuild: MakeRebuild, busybox: str
) -> None:
    """In the very repository that is pushed to."""
    rebuild = make_rebuild(None)
    flag = f"--cache-repo={rebuild.image.removesuffix(':latest')}"
    rebuild(f"FROM {busybox}\n{_UNIQUE}\n", flag)

    assert rebuild("", flag).ran == []


def test_an_old_entry_that_nobody_needs_is_not_asked_for(
    make_rebuild: MakeRebuild, store: Place, busybox: str, tmp_path: Path
) -> None:
    """Only the last step's stage is needed: what it stands on may be gone."""
    rebuild = make_rebuild(store)
    rebuild(f"FROM {busybox} AS one\n{_UNIQUE}\nFROM {busybox}\nCOPY --from=one /stamp /\n")
    made = readers.digest(rebuild.image)
    store.remove(key_for(store, "uuid"))
    log = replace(rebuild, cache_dir="another")()

    assert log.ran == []
    assert len(entries(store)) == 1
    assert readers.digest(rebuild.image) == made


# --- with other flags ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "flag", ["--single-snapshot", "--compressed-caching=false", "--ignore-path=/left-out"]
)
def test_a_second_build_is_the_first_with_other_flags_too(
    make_rebuild: MakeRebuild, mode: str, busybox: str, tmp_path: Path, flag: str
) -> None:
    rebuild = make_rebuild(InDirectory(tmp_path / "layers"), mode)
    text = f"FROM {busybox}\nRUN echo x > /left-out; date > /a; rm /bin/vi\nCOPY f /f\n{_UNIQUE}\n"
    first = rebuild(text, flag, files={"f": "x"})
    made = readers.digest(rebuild.image)
    second = rebuild("", flag)

    assert (len(first.ran), second.ran, second.warnings) == (3, [], [])
    assert readers.digest(rebuild.image) == made


def test_a_step_that_does_not_care_what_is_below_it_is_taken_whatever_that_is(
    rebuild: Rebuild, busybox: str
) -> None:
    text = f"FROM {busybox}\nRUN echo one > /one\nCOPY --link f /f\n"
    rebuild(text, files={"f": "x"})
    log = rebuild(text.replace("echo one", "echo two"))

    assert log.ran == ["RUN echo two > /one"]
    assert log.taken == ["COPY --link f /f"]
    with readers.unpacked(rebuild.image) as root:
        assert ((root / "one").read_text(), (root / "f").read_text()) == ("two\n", "x")


def test_what_a_cache_mount_holds_is_no_part_of_the_key_and_outlives_the_build(
    make_rebuild: MakeRebuild, busybox: str, tmp_path: Path
) -> None:
    """Also from one mode to the other, on a directory that both see as they would a volume."""
    place = InDirectory(tmp_path / "layers")
    sandboxed, in_place = make_rebuild(place), make_rebuild(place, "in-place")
    run = "RUN --mount=type=cache,target=/kept,id=k echo {} >> /kept/log; cp /kept/log /log"
    for number, rebuild in enumerate((sandboxed, in_place, sandboxed, in_place)):
        log = rebuild(f"FROM {busybox}\n{run.format(number)}\n")
        assert log.ran == [run.format(number)]
    with readers.unpacked(sandboxed.image) as root:
        assert (root / "log").read_text() == "0\n1\n2\n3\n"
    assert in_place().ran == sandboxed().ran == []


def test_triggers_of_a_base_are_steps_like_others(rebuild: Rebuild, busybox: str) -> None:
    parent = rebuild.image.replace(":latest", "-parent:latest")
    rebuild(f"FROM {busybox}\nONBUILD {_UNIQUE}\nONBUILD COPY f /f\n",
            f"--destination={parent}", files={"f": "x"})  # fmt: skip
    child = f"FROM {parent}\nRUN cat /stamp\n"
    assert len(rebuild(child).ran) == 3

    assert rebuild().ran == []
    assert len(rebuild(files={"f": "changed"}).ran) == 2
