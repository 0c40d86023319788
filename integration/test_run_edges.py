"""What RUN leaves in a layer, at its edges; and stages at theirs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from integration import readers
from integration.programs import Build, said
from integration.readers import Layer


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


def test_command_that_changes_nothing_adds_no_layer(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN true\nRUN cat /etc/group > /dev/null\n")

    assert own_layers(build, busybox) == []
    first, second = readers.config(build.image)["history"][-2:]
    assert (first["empty_layer"], second["empty_layer"]) == (True, True)


# setxattr by number, for the image has Perl but no setfattr: x86_64 and arm64 differ.
_NOTED = """\
RUN perl -e '($path, $name, $value) = ("/etc/issue", "user.note", "kept"); \\
  syscall(`uname -m` =~ /x86_64/ ? 188 : 5, $path, $name, $value, length $value, 0) == 0 or die $!'
"""


def test_change_of_an_extended_attribute_alone_is_a_layer_with_the_file(
    build: Build, debian: str
) -> None:
    build(f"FROM {debian}\n{_NOTED}")

    (layer,) = own_layers(build, debian)
    assert files(layer) == {"etc/issue"}
    assert layer.members["etc/issue"].pax_headers["SCHILY.xattr.user.note"] == "kept"


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
RUN setsid sh -c 'trap "" HUP TERM INT; sleep 1234.5' > /dev/null 2>&1 < /dev/null & true
RUN ! pgrep sleep
"""
    )

    assert build.programs.processes("sleep 1234.5") == []


# --- what is made anew --------------------------------------------------------------------------


def test_file_made_anew_is_a_file_and_no_whiteout(build: Build, busybox: str) -> None:
    build(f"FROM {busybox}\nRUN rm /etc/group && echo anew > /etc/group\n")

    (layer,) = own_layers(build, busybox)
    assert files(layer) == {"etc/group"}


def test_directory_removed_and_made_anew_is_opaque(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
RUN mkdir -p /d/sub && echo x > /d/a && echo x > /d/sub/b
RUN rm -rf /d && mkdir /d && echo x > /d/new
"""
    )

    layer = own_layers(build, busybox)[-1]
    hidden = {name for name in layer.names if "/.wh." in name}
    assert hidden in ({"d/.wh..wh..opq"}, {"d/.wh.a", "d/.wh.sub"})
    assert set(readers.tree(build.image, "d")) == {"new"}


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
    build(
        f"FROM {busybox}\n"
        "RUN dd if=/dev/zero of=/sparse bs=1 count=0 seek=40M && echo end >> /sparse\n"
    )

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
RUN <<END
{made}
END
RUN mkdir /removed && cp -r . /removed && mkdir d && cp -r /removed "d/a b"
RUN rm -r -- /removed/*
FROM {busybox}
COPY --from=made /n /copied
COPY --from=made /removed /removed
"""
    )

    with readers.unpacked(build.image) as root:
        assert set(os.listdir(os.fsencode(root / "copied"))) == {*STRANGE, b"d"}
        assert set(os.listdir(os.fsencode(root / "copied/d/a b"))) == set(STRANGE)
        assert os.listdir(os.fsencode(root / "removed")) == [b".hidden"]


def test_environment_of_a_command_is_what_env_says(build: Build, busybox: str) -> None:
    build(
        f"""FROM {busybox}
ENV EQUALS=a=b=c QUOTED="it's \\"said\\"" SINGLE='$HOME "x"' SPACED=two\\ words EMPTY= \\
    DOLLAR=\\$A UMLAUT=ü
ENV legacy one  two = three
ENV JOINED="$EQUALS/$QUOTED" DEFAULT=${{NONE:-none}}
RUN env > /seen
"""
    )

    with readers.unpacked(build.image) as root:
        seen = (root / "seen").read_text().splitlines()
    for line in (
        "EQUALS=a=b=c",
        'QUOTED=it\'s "said"',
        'SINGLE=$HOME "x"',
        "SPACED=two words",
        "EMPTY=",
        "DOLLAR=$A",
        "UMLAUT=ü",
        "legacy=one  two = three",
        'JOINED=a=b=c/it\'s "said"',
        "DEFAULT=none",
    ):
        assert line in seen


def test_long_command_and_long_output_pass(build: Build, busybox: str) -> None:
    words = " ".join(f"w{number}" for number in range(8000))
    done = build(f"FROM {busybox}\nRUN echo {words} | wc -w; seq 20000; printf 'no end of line'\n")

    assert "8000" in done.stderr
    assert "20000" in done.stderr
    assert "no end of line" in done.stderr


# --- stages -------------------------------------------------------------------------------------


def test_forty_stages(build: Build, busybox: str) -> None:
    chain = "".join(
        f"FROM s{n - 1} AS s{n}\nRUN echo {n} >> /all\nFROM scratch AS c{n}\n"
        f"COPY --from=s{n} /all /all{n}\n"
        for n in range(1, 20)
    )
    ends = "".join(f"COPY --from=c{n} / /\n" for n in (1, 10, 19))
    build(f"FROM {busybox} AS s0\nRUN echo 0 > /all\n{chain}FROM scratch\n{ends}")

    with readers.unpacked(build.image) as root:
        assert sorted(os.listdir(root)) == ["all1", "all10", "all19"]
        assert (root / "all19").read_text().split() == [str(n) for n in range(20)]


def test_stages_are_known_by_number_and_by_name_in_any_case(build: Build, busybox: str) -> None:
    """Of two with one name, the later one is meant."""
    build(
        f"""FROM {busybox} AS Made
RUN echo first > /f
FROM {busybox} AS MADE
RUN echo second > /f
FROM scratch
COPY --from=0 /f /number
COPY --from=mAdE /f /name
COPY --from=1 /f /one
"""
    )

    with readers.unpacked(build.image) as root:
        texts = {name: (root / name).read_text() for name in ("number", "name", "one")}
    assert texts == {"number": "first\n", "name": "second\n", "one": "second\n"}


def test_name_of_a_stage_may_not_be_a_number(build: Build, busybox: str) -> None:
    build.fill({"Dockerfile": f"FROM {busybox} AS 0\nRUN true\n"})
    done = build.programs.executor(*build.arguments, check=False)

    said(done, "Dockerfile:1", "name")


@pytest.mark.parametrize("later", ["0", "b"])
def test_stages_that_wait_for_each_other_are_refused(
    build: Build, busybox: str, later: str
) -> None:
    dockerfile = (
        f"FROM {busybox}\nCOPY --from={later} /f /\nFROM {busybox} AS b\nCOPY --from=0 /f /\n"
    )
    build.fill({"Dockerfile": dockerfile})
    done = build.programs.executor(*build.arguments, check=False)

    said(done, "Dockerfile:")


def test_dockerfile_given_from_elsewhere_is_named_as_it_was_given(
    build: Build, busybox: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "My.Dockerfile"
    elsewhere.parent.mkdir()
    elsewhere.write_text(f"FROM {busybox}\nCOPY . /c/\nRUN false\n")
    build.fill({"a": "a"})
    done = build.programs.executor(*build.arguments, "--dockerfile", elsewhere, check=False)

    said(done, "My.Dockerfile:3", "false")
