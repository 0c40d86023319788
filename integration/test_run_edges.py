"""What RUN leaves in a layer, at its edges; and stages at theirs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, said
from integration.readers import Layer

NOISE = "etc/resolv.conf etc/hosts etc/hostname"


def own_layers(build: Build, base: str) -> list[Layer]:
    """Return the layers that are not the base's."""
    return readers.layers(build.image)[len(readers.manifest(base)["layers"]) :]


def files(layer: Layer) -> set[str]:
    """Return the names in a layer that are no directories."""
    return {name for name, member in layer.members.items() if not member.isdir()}


# --- what a command changes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        ("chmod 0600 /etc/group", "mode", 0o600),
        ("chmod 4755 /etc/group", "mode", 0o4755),
        ("chown 12:34 /etc/group", "uid", 12),
        ("chgrp 34 /etc/group", "gid", 34),
        ("touch -d '2001-02-03 04:05:06' /etc/group", "mtime", 981_173_106),
    ],
)
def test_change_of_metadata_alone_is_a_layer_with_the_file(
    build: Build, busybox: str, command: str, field: str, value: int
) -> None:
    build(f"FROM {busybox}\nENV TZ=UTC\nRUN {command}\n")

    (layer,) = own_layers(build, busybox)
    assert files(layer) == {"etc/group"}
    member = layer.members["etc/group"]
    assert getattr(member, field) == value
    assert member.size > 0


def test_change_of_a_directory_alone_holds_nothing_of_what_is_in_it(
    build: Build, busybox: str
) -> None:
    build(f"FROM {busybox}\nRUN chmod 1777 /usr\nRUN chown 5:6 /etc\n")

    first, second = own_layers(build, busybox)
    assert (first.names, first.members["usr"].mode) == ({"usr"}, 0o1777)
    assert (second.names, second.members["etc"].uid) == ({"etc"}, 5)


def test_command_that_changes_nothing_makes_an_empty_layer(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN true\nRUN cat /etc/group > /dev/null\n")

    assert [layer.names for layer in own_layers(build, busybox)] == [set(), set()]


def test_extended_attributes_of_the_user_are_kept(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN touch /f && setfattr -n user.note -v kept /f\n")

    (layer,) = own_layers(build, busybox)
    assert layer.members["f"].pax_headers["SCHILY.xattr.user.note"] == "kept"


def test_special_bits_are_kept_where_others_write_over_them(build: Build, busybox: str) -> None:
    """The kernel takes them away when a file changes its owner; the layer has what is left."""
    build(
        f"""FROM {busybox}
RUN touch /u /g /b && mkdir /t /s && chmod 4711 /u && chmod 2711 /g && chmod 6755 /b \\
 && chmod 1777 /t && chmod 2775 /s && chown 1:1 /b && chown 1:1 /s
"""
    )

    nodes = readers.tree(build.image)
    assert [oct(nodes[name].mode) for name in "ugbts"] == [
        *("0o4711", "0o2711", "0o755", "0o1777", "0o2775")
    ]


# --- processes that stay ------------------------------------------------------------------------


def test_process_left_running_is_ended_and_writes_no_more(build: Build, busybox: str) -> None:
    """It holds the command's output open, too: the build must not wait for it."""
    started = time.monotonic()
    done = build(
        f"""FROM {busybox}
RUN (while :; do echo tick >> /ticks; sleep 0.1; done) & sleep 0.5; echo over
RUN sleep 0.5; wc -l < /ticks > /counted; sleep 0.5; wc -l < /ticks | cmp - /counted
"""
    )

    assert "over" in done.stderr
    assert time.monotonic() - started < 60
    assert build.programs.leftovers() == []


def test_daemon_in_a_session_of_its_own_is_ended_too(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
RUN setsid sh -c 'trap "" HUP TERM INT; sleep 1000' > /dev/null 2>&1 < /dev/null & true
RUN ! pgrep sleep
"""
    )

    assert build.programs.processes("sleep 1000") == []


# --- what is made anew --------------------------------------------------------------------------


def test_file_made_anew_is_a_file_and_no_whiteout(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN rm /etc/group && echo anew > /etc/group\n")

    (layer,) = own_layers(build, busybox)
    assert files(layer) == {"etc/group"}


def test_directory_removed_and_made_anew_is_opaque(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN rm -rf /etc && mkdir /etc && echo x > /etc/new\n")

    (layer,) = own_layers(build, busybox)
    hidden = {name for name in layer.names if "/.wh." in f"/{name}"}
    assert hidden == {"etc/.wh..wh..opq"} or hidden == {"etc/.wh.group", "etc/.wh.passwd"}
    assert set(readers.tree(build.image, "etc")) == {"new"}


def test_what_stands_at_a_name_may_change_its_kind_again_and_again(
    build: Build, busybox: str
) -> None:
    build(
        f"""FROM {busybox}
RUN mkdir -p /x/deep && echo 1 > /x/deep/file
RUN rm -r /x && echo file > /x
RUN rm /x && mkdir /x && echo 2 > /x/other
RUN rm -r /x && ln -s /etc /x
RUN rm /x && mkfifo /x
RUN rm /x && mkdir -p /x/deep
"""
    )

    kinds = [layer.members["x"].type for layer in own_layers(build, busybox)]
    assert kinds == [b"5", b"0", b"5", b"2", b"6", b"5"]
    assert set(readers.tree(build.image, "x")) == {"deep"}


def test_directory_moved_is_there_under_its_new_name_only(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
RUN mkdir -p /old/sub && echo x > /old/sub/f && ln /old/sub/f /old/l
RUN mv /old /new
"""
    )

    nodes = readers.tree(build.image)
    assert "old" not in nodes
    assert {name for name in nodes if name.startswith("new")} == {
        *("new", "new/sub", "new/sub/f", "new/l")
    }


def test_hard_link_to_a_file_of_an_earlier_layer_has_its_content(
    build: Build, busybox: str
) -> None:
    """The later layer cannot name a file of another one: it holds the file itself."""
    build(
        f"""FROM {busybox}
RUN mkdir /d && echo text > /d/a
RUN ln /d/a /d/b && ln /d/a /etc/c
RUN rm /d/a
"""
    )

    with readers.unpacked(build.image) as root:
        assert not (root / "d/a").exists()
        assert (root / "d/b").read_text() == (root / "etc/c").read_text() == "text\n"


def test_file_written_through_one_of_its_links_changes_under_all_names(
    build: Build, busybox: str
) -> None:
    build(
        f"""FROM {busybox}
RUN mkdir /d && echo old > /d/a && ln /d/a /d/b
RUN echo new > /d/a
RUN test "$(cat /d/a)" = new
"""
    )

    with readers.unpacked(build.image) as root:
        assert (root / "d/a").read_text() == "new\n"


def test_sparse_file_has_its_size(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN dd if=/dev/zero of=/sparse bs=1 count=0 seek=40M && echo end >> /sparse\n")

    with readers.unpacked(build.image) as root:
        assert (root / "sparse").stat().st_size == 40 * 2**20 + 4
        assert (root / "sparse").read_bytes().endswith(b"\0end\n")


# --- names --------------------------------------------------------------------------------------

STRANGE = [
    b"two words",
    b"[x]*?",
    b"new\nline",
    b"\xff\xfe not utf-8",
    b"-rf",
    b"back\\slash",
    b"quote'\"$A`",
    b"%s",
    "é한".encode(),
    b"e" * 255,
    b".hidden",
    b"#x",
    b"wh.x",
]


def test_names_are_bytes(build: Build, busybox: str) -> None:
    """Made by RUN, removed by RUN, copied from a stage: always the same bytes."""
    octal = ["".join(f"\\0{byte:03o}" for byte in name) for name in STRANGE]
    made = "\n".join(f'n="$(printf "%b." "{name}")"; echo x > "${{n%.}}"' for name in octal)
    build(
        f"""FROM {busybox} AS made
WORKDIR /n
RUN <<E
{made}
