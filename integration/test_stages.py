"""What stages start from: triggers of their bases, named contexts, and the time of a build."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from integration import images, readers
from integration.programs import Build, said

EPOCH = 1_700_000_000
EPOCH_TEXT = "2023-11-14T22:13:20Z"


# --- ONBUILD --------------------------------------------------------------------------------


@pytest.fixture
def parent(build: Build, busybox: str) -> str:
    """An image with triggers, in the registry: it names a stage of whoever starts from it."""
    build(
        f"""FROM {busybox}
WORKDIR /app
ENV WHO=parent
ONBUILD COPY src/ ./
ONBUILD RUN <<END
echo "$WHO" > by
END
ONBUILD COPY --from=tools /tool /tool
ONBUILD ENV FIRED=yes
ONBUILD LABEL from="$WHO"
"""
    )
    triggers = readers.config(build.image)["config"]["OnBuild"]
    assert (len(triggers), triggers[-1]) == (5, 'LABEL from="$WHO"')
    return build.image


def test_triggers_of_an_image_run_in_the_stage_that_starts_from_it(
    build: Build, parent: str, busybox: str
) -> None:
    image = build.image.replace(":latest", ":child")
    text = f"FROM {busybox} AS tools\nRUN echo tool > /tool\nFROM {parent} AS child\nRUN env > e\n"
    build(text, f"--destination={image}", "--target=child", files={"src/a": "A"})

    config = readers.config(image)["config"]
    assert not config.get("OnBuild")
    assert "FIRED=yes" in config["Env"]
    assert config["Labels"] == {"from": "parent"}
    with readers.unpacked(image) as root:
        assert (root / "app/a").read_text() == "A"
        assert (root / "app/by").read_text() == "parent\n"
        assert (root / "tool").read_text() == "tool\n"
        assert "FIRED=yes" in (root / "app/e").read_text()


def test_triggers_of_a_stage_fire_once(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox} AS parent
ONBUILD RUN echo fired >> /log
FROM parent AS child
FROM child
RUN cat /log > /seen
"""
    )
    with readers.unpacked(build.image) as root:
        assert (root / "seen").read_text() == "fired\n"
    assert not readers.config(build.image)["config"].get("OnBuild")


def test_a_trigger_that_fails_names_the_from(build: Build, parent: str) -> None:
    done = build(f"FROM {parent}\n", check=False, files={"src/a": "A"})
    # There is no stage "tools" now, so that it is an image, which nobody has.
    said(done, "Dockerfile:1:", "tools")


# --- named contexts -------------------------------------------------------------------------


def test_a_directory_stands_for_a_stage_and_has_its_own_dockerignore(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("kept")
    (other / "left").write_text("left")
    (other / ".dockerignore").write_text("left\n")
    build(
        f"FROM {busybox} AS files\nRUN false\nFROM {busybox}\nCOPY --from=files / /files/\n"
        "RUN --mount=from=files,target=/m ls /m > /listed\n",
        f"--build-context=files={other}",
    )
    tree = readers.tree(build.image, "files")
    assert set(tree) == {".dockerignore", "kept"}
    assert (tree["kept"].uid, tree["kept"].gid) == (0, 0)
    with readers.unpacked(build.image) as root:
        assert (root / "listed").read_text() == "kept\n"


def test_a_stage_may_start_from_a_directory(build: Build, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "etc").mkdir(parents=True)
    (other / "etc/file").write_text("content")
    build("FROM files\nENV A=1\n", f"--build-context=files={other}")
    assert set(readers.tree(build.image)) == {"etc", "etc/file"}
    config = readers.config(build.image)
    filled = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(filled) == len(config["rootfs"]["diff_ids"]) == 1


def test_an_image_stands_for_another(build: Build, busybox: str) -> None:
    build(
        "FROM nowhere.invalid/team/base:1\nCOPY --from=tools /bin/busybox /tool\n",
        f"--build-context=nowhere.invalid/team/base:1=docker-image://{busybox}",
        f"--build-context=tools=oci-layout://{images.busybox_layout()}",
    )
    assert readers.tree(build.image)["tool"].mode == 0o755
    base, built = readers.manifest(busybox), readers.manifest(build.image)
    assert built["layers"][: len(base["layers"])] == base["layers"]


def test_an_image_of_a_layout_is_a_base(build: Build, busybox: str) -> None:
    build(
        "FROM base\nRUN echo new > /new\n",
        f"--build-context=base=oci-layout://{images.busybox_layout()}:latest",
    )
    digests = [layer["digest"] for layer in readers.manifest(build.image)["layers"]]
    assert digests[:-1] == [layer["digest"] for layer in readers.manifest(busybox)["layers"]]
    assert "new" in readers.tree(build.image)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("files=/no/such/directory", ("/no/such/directory", "files")),
        ("files=oci-layout:///no/such/layout", ("/no/such/layout",)),
        ("files=target:other", ("target:other",)),
        ("files", ("--build-context", "NAME=")),
    ],
)
def test_a_named_context_that_is_none_is_one_sentence(
    build: Build, value: str, words: tuple[str, ...]
) -> None:
    said(build("FROM files\n", f"--build-context={value}", check=False), *words)


# --- the order of stages --------------------------------------------------------------------


def test_a_later_stage_is_copied_from_where_a_context_stands_for_it(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "made").write_text("made\n")
    text = (
        f"FROM {busybox} AS result\nCOPY --from=1 /made /made\nFROM {busybox} AS later\nRUN false\n"
    )
    build(text, "--target=result", f"--build-context=later={tmp_path}")
    with readers.unpacked(build.image) as root:
        assert (root / "made").read_text() == "made\n"


def test_stages_in_a_circle_are_refused(build: Build, busybox: str) -> None:
    text = f"FROM {busybox} AS a\nCOPY --from=b /x /x\nFROM {busybox} AS b\nCOPY --from=a /x /x\n"
    said(build(text, check=False), "Dockerfile:", "circle")


# --- SOURCE_DATE_EPOCH ----------------------------------------------------------------------


def test_the_same_inputs_at_another_time_make_the_same_image(build: Build, busybox: str) -> None:
    text = f"""FROM {busybox}
ARG SOURCE_DATE_EPOCH
ENV AT=$SOURCE_DATE_EPOCH
WORKDIR /made/deep
COPY <<END file
content
END
"""
    flag = f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}"
    build(text, flag)
    first = readers.digest(build.image)
    subprocess.run(["sleep", "1.1"], check=True)
    build(text, flag)

    assert readers.digest(build.image) == first
    config = readers.config(build.image)
    assert config["created"] == EPOCH_TEXT
    assert config["history"][-1]["created"] == EPOCH_TEXT
    assert f"AT={EPOCH}" in config["config"]["Env"]
    tree = readers.tree(build.image, "made")
    assert (tree["deep"].mtime, tree["deep/file"].mtime) == (EPOCH, EPOCH)


def test_a_global_arg_is_the_time_of_the_build(build: Build, busybox: str) -> None:
    build(f"ARG SOURCE_DATE_EPOCH={EPOCH}\nFROM {busybox}\nENV A=1\n")
    assert readers.config(build.image)["created"] == EPOCH_TEXT


def test_a_time_that_is_none_is_refused(build: Build, busybox: str) -> None:
    done = build(f"FROM {busybox}\n", "--build-arg=SOURCE_DATE_EPOCH=soon", check=False)
    said(done, "SOURCE_DATE_EPOCH=soon")


# --- frontends ------------------------------------------------------------------------------


def test_the_syntax_directive_is_noted_and_other_frontends_are_warned_of(
    build: Build, busybox: str
) -> None:
    done = build(f"# syntax=docker/dockerfile:1.7\nFROM {busybox}\n")
    assert "docker/dockerfile:1.7 is not fetched" in done.stderr
    assert "warning" not in done.stderr.lower()
    done = build(f"# syntax=example.com/other:1\nFROM {busybox}\n")
    assert "the frontend example.com/other:1 is not run" in done.stderr
