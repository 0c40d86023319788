"""COPY and ADD at their edges, as other people's tools unpack what came of them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build

_OLD = 1_500_000_000
# No capability at all, in version 2 of the attribute: capabilities(7).
_CAPABILITY = bytes.fromhex("01000002" + "00" * 16)


def _read(root: Path, name: str) -> str:
    return (root / name).read_text()


def test_here_documents(build: Build, busybox: str) -> None:
    """Plain, expanded, quoted, chomped, executable; into a file and into a directory."""
    build(
        f"""FROM {busybox}
ARG WHO=world
COPY <<greeting <<-"raw" a.txt /out/
hello $WHO
greeting
	$WHO
	raw
COPY --chmod=755 <<EOF /out/run
#!/bin/sh
cat /out/greeting /out/raw > /out/ran
EOF
RUN /out/run
ADD --chown=web <<EOF /out/owned
owned
EOF
""",
        files={"a.txt": "a"},
    )

    with readers.unpacked(build.image) as root:
        assert _read(root, "out/greeting") == "hello world\n"
        assert _read(root, "out/raw") == "$WHO\n"
        assert _read(root, "out/ran") == "hello world\n$WHO\n"
        assert _read(root, "out/a.txt") == "a"
        assert (root / "out/owned").stat().st_uid == 1234
        assert (root / "out/greeting").stat().st_mode & 0o777 == 0o644


def test_parents_and_exclude(build: Build, busybox: str) -> None:
    files: dict[str, str | bytes] = {
        "src/a/one.txt": "1",
        "src/a/one.md": "1",
        "src/b/deep/two.txt": "2",
        "top.txt": "t",
    }
    build(
        f"""FROM {busybox} AS made
COPY --parents src/**/*.txt top.txt /made/
RUN test -f /made/src/b/deep/two.txt && test ! -e /made/src/a/one.md
FROM {busybox}
COPY --from=made --parents /made/src/./*/deep /out/pivot/
COPY --from=made --parents /made/./ /out/all/
COPY --exclude=**/*.md --exclude=b src /out/excluded
COPY --parents none*/x /out/none/
""",
        files=files,
    )

    out = readers.tree(build.image, "out")
    assert {name for name, node in out.items() if node.kind == "-"} == {
        "pivot/b/deep/two.txt",
        *("all/src/a/one.txt", "all/src/b/deep/two.txt", "all/top.txt"),
        "excluded/a/one.txt",
    }
    assert out["none"].kind == "d"


def test_link_replaces_what_is_there(build: Build, busybox: str) -> None:
    """Links, directories and files of the image; what runs later sees the same as the image."""
    build(
        f"""FROM {busybox}
RUN mkdir -p /real/old /dir/full && ln -s /real /way && echo old > /file
COPY --link a /way/a
COPY --link a /dir
COPY --link d /file/
RUN test ! -L /way && test -f /way/a && test -f /dir && test -f /file/inner \\
    && test ! -e /way/old && test -d /real/old && test ! -e /real/a
""",
        files={"a": "a", "d/inner": "inner"},
    )

    with readers.unpacked(build.image) as root:
        assert not (root / "way").is_symlink()
        assert sorted(path.name for path in (root / "way").iterdir()) == ["a"]
        assert _read(root, "dir") == "a"
        assert _read(root, "file/inner") == "inner"
        assert (root / "real/old").is_dir()


def test_layer_of_link_is_the_same_over_any_base(build: Build, busybox: str, debian: str) -> None:
    build.fill({"a": "a"})
    digests = []
    for base in (busybox, debian):
        build(f"FROM {base}\nCOPY --link a /srv/app/a\n")
        digests.append(readers.manifest(build.image)["layers"][-1]["digest"])
    assert digests[0] == digests[1]


def test_directory_and_file_take_turns(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
COPY one /d
RUN rm -r /d/x
COPY two/x /d/x
RUN test -f /d/x && rm /d/x
COPY one/x /d/x
RUN test -f /d/x/old && rm -r /d/x && mkdir /d/x && echo new > /d/x/new
COPY three /d
""",
        files={"one/x/old": "old", "two/x": "file", "three/x/more": "more"},
    )

    assert set(readers.tree(build.image, "d")) == {"x", "x/new", "x/more"}


def test_directory_made_anew_hides_what_was_in_it(build: Build, busybox: str) -> None:
    """Removed and made again by one RUN, and then copied into."""
    build(
        f"""FROM {busybox} AS one
COPY d /d
RUN rm -r /d && mkdir /d && chmod 700 /d
COPY a /d/
RUN test ! -e /d/inner && test -f /d/a
FROM {busybox}
COPY --from=one /d /copied
""",
        files={"a": "a", "d/inner": "inner"},
    )

    assert set(readers.tree(build.image, "copied")) == {"a"}


def test_links_and_directories_take_each_others_place(build: Build, busybox: str) -> None:
    build.fill({"tree/x/inner": "inner"})
    (build.context / "links").mkdir()
    (build.context / "links/x").symlink_to("/etc")
    build(
        f"""FROM {busybox}
COPY tree /d
COPY links /d
RUN test -L /d/x
COPY tree /e
COPY links /f
COPY tree /f
RUN test ! -L /f/x && test -f /f/x/inner && test ! -e /etc/inner
"""
    )

    with readers.unpacked(build.image) as root:
        assert (root / "d/x").is_symlink()
        assert _read(root, "f/x/inner") == "inner"
        assert not (root / "etc/inner").exists()


def test_destination_behind_links(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
RUN mkdir /real && ln -s real /way && ln -s made/later /dangling && ln -s /real/f /file
COPY d /way
COPY d /dangling
COPY a /file
WORKDIR /way/sub
COPY a b/
""",
        files={"a": "a", "d/inner": "inner"},
    )

    with readers.unpacked(build.image) as root:
        assert _read(root, "real/inner") == "inner"
        assert _read(root, "made/later/inner") == "inner"
        assert _read(root, "real/f") == "a"
        assert _read(root, "real/sub/b/a") == "a"
        assert (root / "way").is_symlink()
        assert (root / "dangling").is_symlink()


def test_special_files_and_bits(build: Build, busybox: str) -> None:
    """From a stage and from the context: FIFOs, set-user-ID, the sticky bit, hard links."""
    build.fill({"tool": "tool"})
    (build.context / "tool").chmod(0o4755)
    build(
        f"""FROM {busybox} AS made
RUN mkdir -p /d/tmp && mkfifo -m 640 /d/fifo && chmod 1777 /d/tmp && echo x > /d/a \\
    && ln /d/a /d/b && chown 5:6 /d/a && chmod 2711 /d/a
FROM {busybox}
COPY --from=made /d /out/
COPY --chown=7:8 tool /out/tool
RUN test -p /out/fifo && test -u /out/tool && test /out/a -ef /out/b
"""
    )

    out = readers.tree(build.image, "out")
    assert (out["fifo"].kind, oct(out["fifo"].mode)) == ("p", oct(0o640))
    assert oct(out["tmp"].mode) == oct(0o1777)
    assert (oct(out["a"].mode), out["a"].uid, out["a"].gid) == (oct(0o2711), 5, 6)
    assert (oct(out["tool"].mode), out["tool"].uid) == (oct(0o4755), 7)
    copied = next(layer for layer in readers.layers(build.image) if "out/b" in layer.members)
    assert copied.members["out/b"].linkname == "out/a"


def test_extended_attributes(build: Build, busybox: str) -> None:
    """Capabilities always; user.* too, which BuildKit loses."""
    build.fill({"tool": "tool"})
    path = build.context / "tool"
    try:
        os.setxattr(path, "security.capability", _CAPABILITY)
        os.setxattr(path, "user.note", b"note")
    except OSError:
        pytest.skip("this file system has no such attributes")
    build(f"FROM {busybox}\nCOPY --chown=5:6 --chmod=755 tool /tool\n")

    headers = readers.layers(build.image)[-1].members["tool"].pax_headers
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == (
        _CAPABILITY
    )
    assert headers["SCHILY.xattr.user.note"] == "note"


def test_odd_names(build: Build, busybox: str) -> None:
    names = ["with space", "new\nline", "br[ack]et", os.fsdecode(b"bytes-\xff"), "-dash", "ünï"]
    build.fill({f"odd/{name}": "x" for name in names})
    build(
        f"""FROM {busybox}
COPY odd /odd
COPY ["odd/with space", "/said/to be"]
COPY odd/br[[]ack]et odd/*dash /said/
RUN test $(find /odd -type f -print0 | tr -dc '\\0' | wc -c) = {len(names)}
"""
    )

    assert set(readers.tree(build.image, "odd")) == set(names)
    assert set(readers.tree(build.image, "said")) == {"to be", "br[ack]et", "-dash"}


def test_sparse_file(build: Build, busybox: str) -> None:
    """Half a gigabyte of nothing, and a word at its end."""
    size = 512 << 20
    with (build.context / "sparse").open("wb") as file:
        file.truncate(size - 4)
        file.seek(0, os.SEEK_END)
        file.write(b"last")
    build(
        f"FROM {busybox}\nCOPY sparse /sparse\n"
        f"RUN test $(stat -c %s /sparse) = {size} && test $(tail -c 4 /sparse) = last\n"
    )

    found = [layer.members["sparse"].size for layer in readers.layers(build.image)[-1:]]
    assert found == [size]


def test_archives_with_flags(build: Build, busybox: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("sub/file")
        member.size, member.mode, member.mtime = 4, 0o640, _OLD
        archive.addfile(member, io.BytesIO(b"text"))
    build(
        f"""FROM {busybox}
ADD --chown=web:staff packed /owned/
ADD --unpack=false packed /kept/
ADD --unpack packed /unpacked/
ADD --exclude=pack* packed a /excluded/
""",
        files={"packed": data.getvalue(), "a": "a"},
    )

    with readers.unpacked(build.image) as root:
        owned = (root / "owned/sub/file").stat()
        assert (owned.st_uid, owned.st_gid) == (1234, 50)
        assert sorted(path.name for path in (root / "kept").iterdir()) == ["packed"]
        assert _read(root, "unpacked/sub/file") == "text"
        assert sorted(path.name for path in (root / "excluded").iterdir()) == ["a"]


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("COPY gone /x", 'Dockerfile:2: source "gone" does not exist in the build context'),
        ("COPY --parents x/gone /x", 'Dockerfile:2: source "x/gone" does not exist'),
        ("COPY https://example.com/x /x", "Dockerfile:2: COPY does not fetch"),
        ("COPY --chown=nobody-at-all a /x", "Dockerfile:2: no user nobody-at-all"),
        ("COPY d /bin/busybox", "Dockerfile:2: /bin/busybox is a file in the image"),
    ],
)
def test_what_cannot_be_copied_is_a_sentence(
    build: Build, busybox: str, instruction: str, message: str
) -> None:
    done = build(f"FROM {busybox}\n{instruction}\n", files={"a": "a", "d/inner": "x"}, check=False)

    assert done.status != 0
    assert message in done.written
    assert "Traceback" not in done.written
