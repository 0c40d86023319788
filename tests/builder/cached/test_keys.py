"""What keys of steps follow from, and what they do not; Go kaniko's traps among it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kaniko_core.errors import ContextError, DockerfileError
from kaniko_core.oci.platform import Platform
from kaniko_core.options import BuildOptions
from tests.builder.cached.keying import Keyring, age, base
from tests.repository import new_repository
from tests.samples import layer
from tests.web_server import running_web

RUN = "RUN make"
COPY_ALL = "COPY . /app/"


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path)


def finals(ring: Keyring, text: str) -> dict[int, str]:
    return {number: stage.final for number, stage in ring.stages(text).items()}


# --- the files of a COPY ----------------------------------------------------------------------


class TestFiles:
    @pytest.fixture(autouse=True)
    def filled(self, ring: Keyring) -> None:
        ring.add_file("a.txt", "a")
        ring.add_file("src/main.c", "main")
        ring.add_file("src/lib/x.c", "x")
        (ring.context / "link").symlink_to("a.txt")

    def test_same_files_give_the_same_key(self, ring: Keyring, tmp_path: Path) -> None:
        other = tmp_path / "elsewhere"
        other.mkdir()
        copied = Keyring(other)
        shutil.copytree(ring.context, copied.context, symlinks=True, dirs_exist_ok=True)
        assert ring.key(COPY_ALL) == copied.key(COPY_ALL)

    def test_times_make_no_difference(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        for path in (ring.context, *ring.context.rglob("*")):
            age(path)
        assert ring.key(COPY_ALL) == before

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may change owners")
    def test_owners_in_the_context_make_no_difference(self, ring: Keyring) -> None:
        """They are whose checkout it is; the copy is root's."""
        before = ring.key(COPY_ALL)
        os.chown(ring.context / "a.txt", 1234, 5678)
        assert ring.key(COPY_ALL) == before

    def test_content_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        ring.add_file("src/lib/x.c", "y")
        assert ring.key(COPY_ALL) != before

    def test_mode_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "a.txt").chmod(0o755)
        assert ring.key(COPY_ALL) != before

    def test_mode_of_a_directory_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "src").chmod(0o700)
        assert ring.key(COPY_ALL) != before

    def test_mode_that_chmod_replaces_makes_no_difference(self, ring: Keyring) -> None:
        before = ring.key("COPY --chmod=644 a.txt /x")
        (ring.context / "a.txt").chmod(0o755)
        assert ring.key("COPY --chmod=644 a.txt /x") == before

    def test_name_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "a.txt").rename(ring.context / "b.txt")
        assert ring.key(COPY_ALL) != before

    def test_names_and_contents_cannot_be_swapped(self, ring: Keyring) -> None:
        ring.add_file("d/1", "one")
        ring.add_file("d/2", "two")
        before = ring.key("COPY d /d")
        ring.add_file("d/1", "two")
        ring.add_file("d/2", "one")
        assert ring.key("COPY d /d") != before

    def test_end_of_a_name_is_no_beginning_of_the_next(self, ring: Keyring) -> None:
        """Names joined without their lengths: "ab" and "c", or "a" and "bc"."""
        keys = []
        for names in (("ab", "c"), ("a", "bc"), ("a", "b", "c"), ("abc",), ("a/b", "c")):
            shutil.rmtree(ring.context / "d", ignore_errors=True)
            for name in names:
                ring.add_file(f"d/{name}", "")
            keys.append(ring.key("COPY d /d"))
        assert len(set(keys)) == len(keys)

    def test_names_that_look_like_fields_are_told_apart(self, ring: Keyring) -> None:
        keys = []
        for link in ("x", "x;mode=644", "x%3Bmode=644", "x=;"):
            shutil.rmtree(ring.context / "d", ignore_errors=True)
            (ring.context / "d").mkdir()
            (ring.context / "d/l").symlink_to(link)
            keys.append(ring.key("COPY d /d"))
        assert len(set(keys)) == len(keys)

    def test_target_of_a_link_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "link").unlink()
        (ring.context / "link").symlink_to("src/main.c")
        assert ring.key(COPY_ALL) != before

    def test_link_is_another_thing_than_a_file(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "link").unlink()
        ring.add_file("link", "a.txt")
        assert ring.key(COPY_ALL) != before

    def test_dangling_link_is_copied_like_any_other(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "nowhere").symlink_to("/not/there")
        assert ring.key(COPY_ALL) != before

    def test_empty_directory_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        (ring.context / "empty").mkdir()
        assert ring.key(COPY_ALL) != before

    def test_empty_directory_is_another_thing_than_an_empty_file_or_nothing(
        self, ring: Keyring
    ) -> None:
        nothing = ring.key("COPY e* /d/")
        ring.add_file("e", "")
        file = ring.key("COPY e* /d/")
        (ring.context / "e").unlink()
        (ring.context / "e").mkdir()
        assert len({nothing, file, ring.key("COPY e* /d/")}) == 3

    def test_hard_links_count(self, ring: Keyring) -> None:
        ring.add_file("b.txt", "a")
        before = ring.key(COPY_ALL)
        (ring.context / "b.txt").unlink()
        (ring.context / "b.txt").hardlink_to(ring.context / "a.txt")
        assert ring.key(COPY_ALL) != before

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices")
    def test_numbers_of_devices_count(self, ring: Keyring) -> None:
        os.mknod(ring.context / "device", 0o020644, os.makedev(1, 3))
        before = ring.key(COPY_ALL)
        (ring.context / "device").unlink()
        os.mknod(ring.context / "device", 0o020644, os.makedev(1, 5))
        assert ring.key(COPY_ALL) != before

    def test_attributes_count(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        try:
            os.setxattr(ring.context / "a.txt", "user.mark", b"1")
        except OSError:
            pytest.skip("the file system has no user attributes")
        one = ring.key(COPY_ALL)
        os.setxattr(ring.context / "a.txt", "user.mark", b"2")
        assert len({before, one, ring.key(COPY_ALL)}) == 3

    def test_file_that_is_not_copied_makes_no_difference(self, ring: Keyring) -> None:
        before = ring.key("COPY src /src")
        ring.add_file("a.txt", "other")
        assert ring.key("COPY src /src") == before

    def test_ignored_file_makes_no_difference(self, ring: Keyring) -> None:
        ring.ignore = ("*.log", "secret")
        before = ring.key(COPY_ALL)
        ring.add_file("x.log", "log")
        ring.add_file("secret/key", "key")
        assert ring.key(COPY_ALL) == before

    def test_excluded_file_makes_no_difference(self, ring: Keyring) -> None:
        before = ring.key("COPY --exclude=*.md . /app/")
        ring.add_file("README.md")
        assert ring.key("COPY --exclude=*.md . /app/") == before

    def test_empty_file_counts(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        ring.add_file("new", "")
        assert ring.key(COPY_ALL) != before

    def test_directory_is_named_only_once_it_is_there(self, ring: Keyring) -> None:
        """COPY of a directory takes its contents, of a file the file."""
        ring.add_file("t/f", "f")
        one = ring.key("COPY t* /x/")
        shutil.rmtree(ring.context / "t")
        ring.add_file("t", "f")
        assert ring.key("COPY t* /x/") != one

    def test_parts_name_files_as_the_context_has_them(self, ring: Keyring) -> None:
        (step,) = ring.steps("FROM base\nCOPY src a.txt /app/\n")
        names = [part.name for part in step.parts if part.kind == "file"]
        assert names == ["src", "src/lib", "src/lib/x.c", "src/main.c", "a.txt"]

    def test_names_that_are_no_text_are_no_trouble(self, ring: Keyring) -> None:
        before = ring.key(COPY_ALL)
        with open(os.fsencode(ring.context) + b"/\xff", "wb"):  # noqa: PTH123
            pass
        assert ring.key(COPY_ALL) != before

    def test_large_file_is_read_to_its_end(self, ring: Keyring) -> None:
        path = ring.context / "large"
        path.write_bytes(bytes(3 << 20) + b"a")
        before = ring.key("COPY large /")
        path.write_bytes(bytes(3 << 20) + b"b")
        assert ring.key("COPY large /") != before

    def test_many_files_are_all_read(self, ring: Keyring) -> None:
        for number in range(300):
            ring.add_file(f"many/{number}", str(number))
        before = ring.key("COPY many /")
        ring.add_file("many/299", "other")
        assert ring.key("COPY many /") != before


# --- the words of COPY and ADD ----------------------------------------------------------------


class TestWords:
    @pytest.fixture(autouse=True)
    def filled(self, ring: Keyring) -> None:
        ring.add_file("a", "same")
        ring.add_file("b", "same")

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("COPY a /x", "COPY a /y"),
            ("COPY a /x", "COPY a /x/"),
            ("COPY a /x", "COPY b /x"),
            ("COPY a /x", "ADD a /x"),
            ("COPY a /x", "COPY --chown=1 a /x"),
            ("COPY --chown=1 a /x", "COPY --chown=1:2 a /x"),
            ("COPY a /x", "COPY --chmod=600 a /x"),
            ("COPY a /x", "COPY --link a /x"),
            ("COPY --chown=app a /x", "COPY --link --chown=app a /x"),
            ("COPY a /x", "COPY --parents a /x"),
            ("COPY a /x/", "COPY --exclude=b a /x/"),
            ("ADD a /x", "ADD --unpack=false a /x"),
            ("WORKDIR /x\nCOPY a y", "WORKDIR /x/z\nCOPY a y"),
            # Without the slash, a file x would take the directory's place.
            ("WORKDIR /x\nCOPY a .", "WORKDIR /x\nCOPY a /x"),
            # A link in the image may be what the dots go back from.
            ("COPY a /x/../y", "COPY a /y"),
        ],
    )
    def test_what_they_say_counts(self, ring: Keyring, one: str, other: str) -> None:
        assert ring.key(one) != ring.key(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("COPY a /x", "copy   a   /x"),
            ("COPY a /x", "# a comment\n\nCOPY a \\\n    # another\n    /x"),
            ('COPY ["a", "/x"]', "COPY a /x"),
            ("ARG V=/x\nCOPY a $V", "COPY a /x"),
            ("WORKDIR /w\nCOPY a x", "WORKDIR /w\nCOPY a /w/x"),
            ("WORKDIR /w\nCOPY a .", "WORKDIR /w\nCOPY a ./"),
            ("COPY --link --chmod=600 a /x", "COPY --chmod=600 a /x"),
        ],
    )
    def test_how_they_are_written_makes_no_difference(
        self, ring: Keyring, one: str, other: str
    ) -> None:
        assert ring.key(one) == ring.key(other)

    @pytest.mark.parametrize(
        "instruction",
        [
            "COPY a /$V",
            "COPY $V /x",
            "COPY --chown=$V a /x",
            "COPY --exclude=$V . /x/",
            "ADD a /$V",
        ],
    )
    def test_argument_in_a_word_counts(self, ring: Keyring, instruction: str) -> None:
        text = f"ARG V=a\n{instruction}"
        assert ring.key(text) != ring.key(text, args={"V": "b"})

    def test_variable_in_a_word_counts(self, ring: Keyring) -> None:
        assert ring.key("ENV V=a\nCOPY a /$V") != ring.key("ENV V=b\nCOPY a /$V")

    @pytest.mark.parametrize("given", ["1", "2"])
    def test_variables_that_no_word_uses_make_no_difference(
        self, ring: Keyring, given: str
    ) -> None:
        text = "ARG UNUSED\nENV ALSO=$UNUSED\nCOPY a /x"
        assert ring.key(text, args={"UNUSED": given}) == ring.key("COPY a /x")

    def test_here_document_counts_expanded(self, ring: Keyring) -> None:
        text = "ARG V=1\nCOPY <<END /x\nvalue $V\nEND"
        assert ring.key(text) != ring.key(text, args={"V": "2"})
        assert ring.key(text) == ring.key("COPY <<END /x\nvalue 1\nEND")
        assert ring.key(text) != ring.key("COPY <<OTHER /x\nvalue 1\nOTHER")

    def test_here_document_that_is_not_expanded_uses_no_variables(self, ring: Keyring) -> None:
        text = 'ARG V=1\nCOPY <<"END" /x\nvalue $V\nEND'
        assert ring.key(text) == ring.key(text, args={"V": "2"})

    def test_hints_name_the_variables_that_words_use(self, ring: Keyring) -> None:
        text = "FROM base\nARG A=a\nENV E=x UNUSED=y\nCOPY $A /${E}/${UNSET:-z}\n"
        (step,) = ring.steps(text)
        assert [(hint.kind, hint.name) for hint in step.hints] == [
            ("argument", "A"),
            ("variable", "E"),
        ]

    def test_hints_name_those_of_here_documents_and_workdir(self, ring: Keyring) -> None:
        text = "FROM base\nARG A=/a\nCOPY <<END /x\n$A\nEND\nWORKDIR $A\n"
        assert [[hint.name for hint in step.hints] for step in ring.steps(text)] == [["A"], ["A"]]


# --- RUN --------------------------------------------------------------------------------------


class TestRun:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (RUN, "RUN make install"),
            (RUN, 'RUN ["make"]'),
            ('RUN ["a", "b c"]', 'RUN ["a b", "c"]'),
            (RUN, 'SHELL ["/bin/bash", "-c"]\nRUN make'),
            (RUN, "USER nobody\nRUN make"),
            ("WORKDIR /a\nRUN make", "WORKDIR /b\nRUN make"),
            (RUN, "ENV A=1\nRUN make"),
            (RUN, "RUN --network=none make"),
            (RUN, "RUN --security=insecure make"),
            (RUN, "RUN --device=vendor.com/gpu=all make"),
            ("ARG A=1\nRUN make", "ENV A=2\nRUN make"),
            ("ENV A=1 B=2\nRUN make", "ENV A=1-B=2\nRUN make"),
            ("ENV A=1-2\nRUN make", "ENV A=1 2=\nRUN make"),
            ("ENV AB=c\nRUN make", "ENV A=Bc\nRUN make"),
            ("RUN <<END\nmake\nEND", "RUN <<END\nmake install\nEND"),
            ("RUN <<END\n#!/bin/sh\na\nEND", "RUN <<END\n#!/bin/sh\nb\nEND"),
            ("RUN cat <<END\na\nEND", "RUN cat <<END\nb\nEND"),
            (RUN, "RUN --mount=type=cache,target=/c make"),
            ("RUN --mount=type=tmpfs,target=/t make", "RUN --mount=type=tmpfs,target=/u make"),
            (
                "RUN --mount=type=tmpfs,target=/t make",
                "RUN --mount=type=tmpfs,target=/t,size=1m make",
            ),
            (
                "RUN --mount=type=cache,target=/c,id=a make",
                "RUN --mount=type=cache,target=/c,id=b make",
            ),
            (
                "RUN --mount=type=secret,id=a make",
                "RUN --mount=type=secret,id=a,mode=0444 make",
            ),
            ("RUN --mount=type=secret,id=a make", "RUN --mount=type=secret,id=a,env=A make"),
            ("RUN --mount=type=ssh make", "RUN --mount=type=ssh,required make"),
            (
                "RUN --mount=type=secret,id=a,target=/s make",
                "RUN --mount=type=ssh,id=a,target=/s make",
            ),
            ("RUN --mount=type=secret,id=a make", "RUN --mount=type=secret,id=a,uid=1 make"),
            ("RUN --mount=type=secret,id=a make", "RUN --mount=type=secret,id=a,gid=1 make"),
            ("RUN --mount=target=/c make", "RUN --mount=target=/c,rw make"),
            (
                "RUN --mount=from=tools,source=/a,target=/m make",
                "RUN --mount=from=tools,source=/b,target=/m make",
            ),
            (
                "RUN --mount=type=cache,target=/c make",
                "RUN --mount=type=cache,target=/c,sharing=locked make",
            ),
        ],
    )
    def test_what_a_command_finds_counts(self, ring: Keyring, one: str, other: str) -> None:
        assert ring.key(one) != ring.key(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (RUN, "LABEL a=b\nCMD x\nEXPOSE 1\nVOLUME /v\nSTOPSIGNAL KILL\nRUN make"),
            (RUN, "ENTRYPOINT x\nHEALTHCHECK NONE\nMAINTAINER me\nONBUILD RUN x\nRUN make"),
            (RUN, "ARG NOTHING\nRUN make"),
            (RUN, "RUN --network=default make"),
            (RUN, "RUN --network=host make"),
            (RUN, "RUN --security=sandbox make"),
            ("ENV A=1\nENV B=2\nRUN make", "ENV B=2\nENV A=1\nRUN make"),
            ("ENV A=1 B=2\nRUN make", "ENV A=1\nENV B=2\nRUN make"),
            ("WORKDIR /\nRUN make", RUN),
            ('RUN ["/bin/sh", "-c", "make"]', RUN),
            (
                "WORKDIR /w\nRUN --mount=type=tmpfs,target=t make",
                "WORKDIR /w\nRUN --mount=type=tmpfs,target=/w/t make",
            ),
        ],
    )
    def test_what_it_does_not_find_makes_no_difference(
        self, ring: Keyring, one: str, other: str
    ) -> None:
        assert ring.key(one) == ring.key(other)

    def test_value_of_a_declared_argument_counts(self, ring: Keyring) -> None:
        text = "ARG A\nRUN make"
        assert ring.key(text, args={"A": "1"}) != ring.key(text, args={"A": "2"})

    def test_arguments_that_are_not_declared_make_no_difference(self, ring: Keyring) -> None:
        assert ring.key(RUN, args={"A": "1"}) == ring.key(RUN)

    def test_order_of_arguments_makes_no_difference(self, ring: Keyring) -> None:
        text = "ARG A\nARG B\nRUN make"
        one = ring.key(text, args={"A": "1", "B": "2"})
        assert one == ring.key(text, args={"B": "2", "A": "1"})
        assert one != ring.key(text, args={"A": "2", "B": "1"})

    def test_proxies_of_the_build_make_no_difference(self, ring: Keyring) -> None:
        args = {"http_proxy": "http://proxy"}
        assert ring.key(RUN, args=args) == ring.key(RUN)
        assert ring.key(f"ARG http_proxy\n{RUN}", args=args) != ring.key(RUN)

    def test_name_of_the_machine_counts(self, ring: Keyring) -> None:
        assert ring.key(RUN, args={"BUILDKIT_SANDBOX_HOSTNAME": "me"}) != ring.key(RUN)
        assert ring.key(RUN, args={"BUILDKIT_SANDBOX_HOSTNAME": "kaniko"}) == ring.key(RUN)

    def test_values_of_secrets_make_no_difference(self, ring: Keyring) -> None:
        text = "RUN --mount=type=secret,id=token make"
        options = BuildOptions(context=str(ring.context))
        assert ring.key(text, options=options) == ring.key(text)

    def test_files_of_the_context_that_are_mounted_count(self, ring: Keyring) -> None:
        text = "RUN --mount=source=src,target=/src make"
        ring.add_file("src/a.c", "1")
        ring.add_file("other", "1")
        before = ring.key(text)
        ring.add_file("other", "2")
        assert ring.key(text) == before
        ring.add_file("src/a.c", "2")
        changed = ring.key(text)
        assert changed != before
        (ring.context / "src").chmod(0o700)
        assert ring.key(text) != changed

    def test_single_file_that_is_mounted_counts(self, ring: Keyring) -> None:
        ring.add_file("a", "1")
        before = ring.key("RUN --mount=source=a,target=/a make")
        ring.add_file("a", "2")
        assert ring.key("RUN --mount=source=a,target=/a make") != before

    def test_ignored_files_are_not_mounted(self, ring: Keyring) -> None:
        ring.ignore = ("*.log",)
        before = ring.key("RUN --mount=target=/src make")
        ring.add_file("a.log")
        assert ring.key("RUN --mount=target=/src make") == before

    def test_command_that_is_no_text_is_no_trouble(self, ring: Keyring) -> None:
        assert ring.key("RUN make \udcff") != ring.key("RUN make \udcfe")


# --- WORKDIR ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("WORKDIR /a", "WORKDIR /b", False),
        ("WORKDIR /a", "USER 1\nWORKDIR /a", False),
        ("ARG V=/a\nWORKDIR $V", "WORKDIR /a", True),
        ("ENV V=/a\nWORKDIR $V", "WORKDIR /a", True),
        ("ENV V=/a\nWORKDIR $V", "ENV V=/b\nWORKDIR $V", False),
        ("WORKDIR /a\nWORKDIR b", "WORKDIR /a\nWORKDIR /a/b", True),
    ],
)
def test_workdir_follows_from_its_path_and_the_user(
    ring: Keyring, one: str, other: str, same: bool
) -> None:
    assert (ring.key(one) == ring.key(other)) is same


def test_workdir_of_the_root_is_no_step(ring: Keyring) -> None:
    assert ring.steps("FROM base\nWORKDIR /\n") == []


# --- what lies below --------------------------------------------------------------------------


class TestBelow:
    def test_each_step_follows_from_those_before(self, ring: Keyring) -> None:
        one = ring.steps("FROM base\nRUN a\nRUN b\nRUN c\n")
        other = ring.steps("FROM base\nRUN a\nRUN x\nRUN c\n")
        assert one[0].key == other[0].key
        assert one[2].key != other[2].key

    def test_same_instruction_twice_is_two_steps(self, ring: Keyring) -> None:
        one, two = ring.steps("FROM base\nRUN date\nRUN date\n")
        assert one.key != two.key

    def test_what_is_linked_follows_from_nothing_below(self, ring: Keyring) -> None:
        ring.add_file("a")
        one = ring.steps("FROM base\nRUN a\nCOPY --link a /a\nRUN c\n")
        other = ring.steps("FROM other\nRUN b\nCOPY --link a /a\nRUN c\n")
        assert one[1].key == other[1].key
        assert one[1].independent
        # What comes after it does.
        assert one[2].key != other[2].key
        assert not one[2].independent

    @pytest.mark.parametrize(
        ("flags", "independent"),
        [
            ("--link", True),
            ("--link --chown=1000:1000", True),
            ("--link --chown=root", True),
            # The image says which number a name has.
            ("--link --chown=app", False),
            ("--link --chown=1000:app", False),
            # As with BuildKit, --link has no effect then.
            ("--link --chmod=644", False),
            ("", False),
        ],
    )
    def test_flags_decide_what_is_independent(
        self, ring: Keyring, flags: str, independent: bool
    ) -> None:
        ring.add_file("a")
        (step,) = ring.steps(f"FROM base\nCOPY {flags} a /a\n")
        assert step.independent is independent

    def test_final_key_is_that_of_the_last_step(self, ring: Keyring) -> None:
        (stage,) = ring.stages("FROM base\nRUN a\nRUN b\nLABEL x=y\n").values()
        assert stage.final == stage.steps[1].key

    def test_final_key_of_a_stage_without_steps_is_that_of_its_start(self, ring: Keyring) -> None:
        (stage,) = ring.stages("FROM base\nENV a=b\n").values()
        assert stage.final == stage.start

    def test_files_of_the_base_count_and_nothing_else_of_it(self, ring: Keyring) -> None:
        ring.images["base"] = base()
        before = ring.key(RUN)
        ring.images["base"] = base(labels={"a": "b"}, created="2025-05-05T05:05:05Z", cmd=("x",))
        assert ring.key(RUN) == before
        ring.images["base"] = replace(base(), raw_manifest=base().raw_manifest + b"\n")
        assert ring.key(RUN) == before
        ring.images["base"] = base("other files")
        assert ring.key(RUN) != before

    @pytest.mark.parametrize(
        "runtime", [{"env": ("A=1",)}, {"user": "me"}, {"working_dir": "/w"}, {"shell": ("sh",)}]
    )
    def test_config_of_the_base_counts_for_run(
        self, ring: Keyring, runtime: dict[str, object]
    ) -> None:
        ring.images["base"] = base()
        before = ring.key(RUN)
        ring.images["base"] = base(**runtime)  # type: ignore[arg-type]
        assert ring.key(RUN) != before

    def test_name_of_the_base_makes_no_difference(self, ring: Keyring) -> None:
        ring.images = {"one": base(), "two": base()}
        assert finals(ring, "FROM one\nRUN a\n") == finals(ring, "FROM two\nRUN a\n")

    def test_order_of_the_layers_of_the_base_counts(self, ring: Keyring) -> None:
        from kaniko_core.oci.image import compose

        one, two = layer({"a": b"1"}), layer({"a": b"2"})
        config = base().config
        ring.images = {
            "base": compose(config, (one, two), docker=False),
            "other": compose(config, (two, one), docker=False),
        }
        assert finals(ring, "FROM base\nRUN a\n") != finals(ring, "FROM other\nRUN a\n")

    def test_platform_counts(self, ring: Keyring) -> None:
        arm = Platform("linux", "arm64")
        text = "FROM scratch\nCOPY . /\n"
        one, other = ring.steps(text), ring.steps(text, platform=arm)
        assert one[0].key != other[0].key

    def test_triggers_of_the_base_are_steps(self, ring: Keyring) -> None:
        ring.images["base"] = base(on_build=("RUN trigger",))
        steps = ring.steps("FROM base\nRUN own\n")
        assert len(steps) == 2
        ring.images["base"] = base()
        assert steps[1].key == ring.steps("FROM base\nRUN trigger\nRUN own\n")[1].key


# --- stages, images, contexts -----------------------------------------------------------------


class TestOrigins:
    BUILD = "FROM base AS build\nRUN {}\nFROM scratch\nCOPY --from=build /out /\n"

    def test_stage_that_is_copied_from_counts(self, ring: Keyring) -> None:
        (one,) = ring.steps(self.BUILD.format("a"))
        (other,) = ring.steps(self.BUILD.format("b"))
        assert one.key != other.key
        assert one.stages == {0}

    def test_what_changes_no_files_of_it_makes_no_difference(self, ring: Keyring) -> None:
        (one,) = ring.steps(self.BUILD.format("a"))
        (other,) = ring.steps(self.BUILD.format("a\nENV x=y\nLABEL a=b"))
        assert one.key == other.key

    def test_its_name_and_number_make_no_difference(self, ring: Keyring) -> None:
        (one,) = ring.steps(self.BUILD.format("a"))
        for text in (
            self.BUILD.format("a").replace("build", "other"),
            self.BUILD.format("a").replace("=build", "=0"),
        ):
            assert ring.steps(text)[0].key == one.key

    def test_source_that_is_copied_from_it_counts(self, ring: Keyring) -> None:
        text = self.BUILD.format("a")
        assert ring.steps(text)[0].key != ring.steps(text.replace("/out", "/bin"))[0].key

    @pytest.mark.parametrize(
        "flag", ["--chmod=600", "--chown=1", "--link", "--parents", "--exclude=x"]
    )
    def test_flags_of_a_copy_from_it_count(self, ring: Keyring, flag: str) -> None:
        """Of the files of a stage nothing is known yet."""
        text = "FROM base AS build\nFROM base\nCOPY {}--from=build a /x/\n"
        one, other = ring.steps(text.format("")), ring.steps(text.format(f"{flag} "))
        assert one[0].key != other[0].key

    def test_stage_that_starts_from_another_goes_on_from_there(self, ring: Keyring) -> None:
        stages = ring.stages("FROM base AS one\nRUN a\nFROM one\nRUN b\n")
        assert stages[1].start == stages[0].final
        (single,) = ring.stages("FROM base\nRUN a\nRUN b\n").values()
        assert stages[1].final == single.final

    def test_variables_of_the_other_stage_count(self, ring: Keyring) -> None:
        text = "FROM base AS one\nENV A={}\nFROM one\nRUN b\n"
        assert ring.steps(text.format(1))[0].key != ring.steps(text.format(2))[0].key

    @pytest.mark.parametrize("kind", ["bind", "cache"])
    def test_stage_that_is_mounted_counts(self, ring: Keyring, kind: str) -> None:
        text = (
            "FROM base AS build\nRUN {}\nFROM base\n"
            f"RUN --mount=type={kind},from=build,target=/m make\n"
        )
        (one,), (other,) = ring.steps(text.format("a")), ring.steps(text.format("b"))
        assert one.key != other.key
        assert one.stages == {0}

    @pytest.mark.parametrize(
        "instruction", ["COPY --from=tools /a /a", "RUN --mount=from=tools,target=/t make"]
    )
    def test_image_that_is_read_counts_by_its_files(self, ring: Keyring, instruction: str) -> None:
        ring.images["tools"] = base("one")
        before = ring.key(instruction)
        ring.images["tools"] = base("one", labels={"a": "b"})
        assert ring.key(instruction) == before
        ring.images["tools"] = base("two")
        assert ring.key(instruction) != before

    def test_parts_name_stages_and_images_for_people(self, ring: Keyring) -> None:
        text = (
            "FROM base AS build\nFROM base\n"
            "COPY --from=0 /a /\nCOPY --from=tools:1 /a /\nCOPY --from=scratch . /\n"
        )
        found = [
            (part.kind, part.name)
            for step in ring.steps(text)
            for part in step.parts
            if part.kind in ("stage", "image")
        ]
        assert found == [("stage", "build"), ("image", "tools:1"), ("image", "scratch")]

    def test_files_of_a_named_context_count(self, ring: Keyring) -> None:
        text = "COPY --from=docs . /docs/"
        before = ring.key(text)
        (ring.docs / "a").write_text("a")
        assert ring.key(text) != before

    def test_files_of_a_named_context_that_is_mounted_count(self, ring: Keyring) -> None:
        text = "RUN --mount=from=docs,target=/docs make"
        before = ring.key(text)
        (ring.docs / "a").write_text("a")
        assert ring.key(text) != before

    def test_stage_that_starts_from_files_follows_from_them(self, ring: Keyring) -> None:
        (before,) = ring.stages("FROM docs\n").values()
        (ring.docs / "a").write_text("a")
        (after,) = ring.stages("FROM docs\n").values()
        assert before.start != after.start

    @pytest.mark.parametrize(
        ("epoch", "options"),
        [(1, None), (None, BuildOptions(ignore_path=("/a",))), (2, None)],
    )
    def test_it_follows_from_what_else_is_wanted(
        self, ring: Keyring, epoch: int | None, options: BuildOptions | None
    ) -> None:
        (plain,) = ring.stages("FROM docs\n").values()
        (other,) = ring.stages("FROM docs\n", epoch=epoch, options=options).values()
        assert plain.start != other.start

    def test_second_mount_is_another_than_the_first(self, ring: Keyring) -> None:
        text = "RUN --mount=from={},target=/a --mount=from={},target=/b make"
        assert ring.key(text.format("x", "y")) != ring.key(text.format("y", "x"))


# --- ADD --------------------------------------------------------------------------------------


class TestAdd:
    def test_archive_counts_by_its_bytes(self, ring: Keyring) -> None:
        tar = layer({"member": b"1"}).data
        (ring.context / "a.tgz").write_bytes(tar)
        before = ring.key("ADD a.tgz /x/")
        (ring.context / "a.tgz").write_bytes(layer({"member": b"2"}).data)
        assert ring.key("ADD a.tgz /x/") != before

    def test_two_archives_of_one_name_both_count(self, ring: Keyring) -> None:
        """Unpacked, neither takes the other's place."""
        for name in ("one", "two"):
            (ring.context / name).mkdir()
            (ring.context / name / "a.tgz").write_bytes(layer({name: b""}).data)
        before = ring.key("ADD one/a.tgz two/a.tgz /x/")
        (ring.context / "one/a.tgz").write_bytes(layer({"other": b""}).data)
        assert ring.key("ADD one/a.tgz two/a.tgz /x/") != before

    def test_content_behind_a_url_counts(self, ring: Keyring) -> None:
        with running_web() as web:
            url = web.add("/f", b"one", last_modified="Tue, 01 Jan 2019 00:00:00 GMT")
            before = ring.key(f"ADD {url} /x")
            web.add("/f", b"one", last_modified="Wed, 01 Jan 2020 00:00:00 GMT")
            assert ring.key(f"ADD {url} /x") == before
            web.add("/f", b"two")
            assert ring.key(f"ADD {url} /x") != before

    def test_name_behind_a_url_counts_and_its_host_does_not(self, ring: Keyring) -> None:
        with running_web() as web, running_web() as mirror:
            one = ring.key(f"ADD {web.add('/f', b'1')} /x/")
            assert ring.key(f"ADD {mirror.add('/f', b'1')} /x/") == one
            assert ring.key(f"ADD {web.add('/g', b'1')} /x/") != one

    def test_url_with_a_checksum_is_not_fetched(self, ring: Keyring) -> None:
        with running_web() as web:
            url = web.add("/f", b"one")
            plain = ring.key(f"ADD {url} /x")
            web.requests.clear()
            digest = "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
            assert ring.key(f"ADD --checksum={digest} {url} /x") == plain
            assert web.requests == []

    def test_password_in_a_url_is_no_part(self, ring: Keyring) -> None:
        digest = f"sha256:{'0' * 64}"
        text = f"FROM base\nADD --checksum={digest} https://{{}}example.com/f /x\n"
        (one,) = ring.steps(text.format("me:hidden@"))
        assert one.key == ring.steps(text.format(""))[0].key
        assert "hidden" not in repr(one.parts)

    def test_commit_is_all_that_counts_of_a_repository(self, ring: Keyring) -> None:
        """A whole commit is known without asking: there is no such server."""
        commit = "1" * 40
        one = ring.key(f"ADD https://one.invalid/r.git#{commit} /r")
        assert ring.key(f"ADD https://two.invalid/q.git#{commit} /r") == one
        assert ring.key(f"ADD https://one.invalid/r.git#{'2' * 40} /r") != one
        assert ring.key(f"ADD https://one.invalid/r.git#{commit}:sub /r") != one
        assert ring.key(f"ADD --keep-git-dir=true https://one.invalid/r.git#{commit} /r") != one
        checksum = f"ADD --checksum={commit} https://one.invalid/r.git#main /r"
        assert ring.key(checksum) == one

    def test_submodules_count(self, ring: Keyring) -> None:
        text = f"ADD https://one.invalid/r.git?ref={'1' * 40}{{}} /r"
        assert ring.key(text.format("")) != ring.key(text.format("&submodules=false"))

    def test_branch_counts_by_its_commit(self, ring: Keyring) -> None:
        served = ring.path / "served"
        repository = new_repository(ring.path, served, "code")
        commit = repository.commit({"a": "1"})
        with running_web(repositories=served) as web:
            url = f"{web.address}/git/code.git"
            one = ring.key(f"ADD {url}#main /r")
            assert ring.key(f"ADD {url}#{commit} /r") == one
            repository.commit({"a": "2"})
            assert ring.key(f"ADD {url}#main /r") != one

    def test_unpack_counts(self, ring: Keyring) -> None:
        url = f"--checksum=sha256:{'0' * 64} https://example.com/f.tgz /x"
        assert ring.key(f"ADD {url}") != ring.key(f"ADD --unpack=true {url}")


# --- options of the build ---------------------------------------------------------------------


@pytest.mark.parametrize("instruction", ["COPY a /x", "WORKDIR /x", "COPY <<E /x\nE"])
def test_epoch_counts_where_it_is_the_time_of_something(ring: Keyring, instruction: str) -> None:
    ring.add_file("a")
    keys = {ring.key(instruction, epoch=epoch) for epoch in (None, 0, 1)}
    assert len(keys) == 3


def test_epoch_makes_no_difference_to_a_command(ring: Keyring) -> None:
    assert ring.key(RUN, epoch=1) == ring.key(RUN)


@pytest.mark.parametrize("instruction", ["COPY --link a /x", "WORKDIR /x", RUN])
def test_ignored_paths_count(ring: Keyring, instruction: str) -> None:
    ring.add_file("a")
    plain = ring.key(instruction)
    one = ring.key(instruction, options=BuildOptions(ignore_path=("/a", "/b")))
    assert one == ring.key(instruction, options=BuildOptions(ignore_path=("/b/", "/a")))
    var_run = ring.key(instruction, options=BuildOptions(ignore_var_run=True))
    assert len({plain, one, var_run}) == 3


# --- what can be wrong ------------------------------------------------------------------------


class TestErrors:
    def test_missing_source_is_told_as_the_build_tells_it(self, ring: Keyring) -> None:
        with pytest.raises(DockerfileError, match='Dockerfile:3: source "a" does not exist'):
            ring.key("LABEL a=b\nCOPY a /x")

    def test_missing_source_of_a_mount_has_its_place(self, ring: Keyring) -> None:
        with pytest.raises(DockerfileError, match=r"Dockerfile:2: .*does not exist"):
            ring.key("RUN --mount=source=a,target=/a make")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_file_without_rights_cannot_be_read(self, ring: Keyring) -> None:
        ring.add_file("d/a", mode=0)
        with pytest.raises(ContextError, match='"d/a" in the build context'):
            ring.key("COPY d /x")

    def test_checksum_of_several_sources_is_refused(self, ring: Keyring) -> None:
        ring.add_file("a")
        digest = f"sha256:{'0' * 64}"
        with pytest.raises(DockerfileError, match="one source, and there are 2"):
            ring.key(f"ADD --checksum={digest} a https://example.invalid/f /x/")
        with pytest.raises(DockerfileError, match="this source is neither"):
            ring.key(f"ADD --checksum={digest} a /x/")

    def test_copy_of_a_url_is_refused(self, ring: Keyring) -> None:
        with pytest.raises(DockerfileError, match="COPY does not fetch"):
            ring.key("COPY https://example.invalid/f /x")

    def test_url_that_cannot_be_fetched_names_the_instruction(self, ring: Keyring) -> None:
        with running_web() as web, pytest.raises(ContextError) as caught:
            ring.key(f"ADD {web.address}/f /x")
        assert caught.value.__notes__ == [f"Dockerfile:2: in stage stage-0: ADD {web.address}/f /x"]

    @pytest.mark.parametrize(
        "instruction",
        [
            # What is there in the image is not known yet; it may be a directory.
            "COPY a d/b /x",
            "COPY * /x",
            "ADD a d/b /x",
            # The image may have no file of that name where it goes.
            "COPY .wh.a /x",
        ],
    )
    def test_what_the_tree_below_decides_is_not_refused_here(
        self, ring: Keyring, instruction: str
    ) -> None:
        for name in ("a", "d/b", ".wh.a"):
            ring.add_file(name)
        assert len(ring.key(instruction)) == 64


# --- files that change while they are read ----------------------------------------------------


def test_step_knows_whether_its_files_were_written_to_since(ring: Keyring) -> None:
    path = ring.add_file("a", "1")
    ring.add_file("b", "1")
    copied, mounted, other = ring.steps(
        "FROM base\nCOPY a /a\nRUN --mount=target=/m make\nCOPY b /b\n"
    )
    assert copied.unchanged()
    path.write_text("2")
    age(path)
    assert not copied.unchanged()
    assert not mounted.unchanged()
    assert other.unchanged()
    path.unlink()
    assert not copied.unchanged()
