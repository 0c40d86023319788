"""The language that the tables do not cover: every instruction, every form, every mistake."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaniko_core.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.stages import Dockerfile
from kaniko_core.errors import DockerfileError


def parse(text: str | bytes) -> Dockerfile:
    return parse_dockerfile(text if isinstance(text, bytes) else text.encode(), "Dockerfile")


def one(text: str) -> Any:
    """Parse one instruction of a stage."""
    (instruction,) = parse(f"FROM scratch\n{text}\n").stages[0].instructions
    return instruction


def refused(text: str) -> DockerfileError:
    """Parse one instruction that is wrong; return the error, which names its line."""
    with pytest.raises(DockerfileError) as caught:
        one(text)
    assert caught.value.line == 2
    assert str(caught.value).startswith("Dockerfile:2:")
    return caught.value


def shell(text: str) -> Command:
    return Command((text,), shell=True)


def test_from_has_platform_image_and_name() -> None:
    found = parse("FROM --platform=linux/arm64 alpine:3 As Builder-1.x_y\n").stages[0]
    assert (found.start.image, found.start.name) == ("alpine:3", "builder-1.x_y")
    assert found.start.platform == "linux/arm64"
    assert found.label == "builder-1.x_y"
    assert parse("FROM a\n").stages[0].label == "stage-0"


def test_arguments_before_the_first_from_are_global() -> None:
    found = parse("ARG A=1 B\nARG C=\nFROM x\nARG A\n")
    assert [arg.pairs for arg in found.arguments] == [(("A", "1"), ("B", None)), (("C", ""),)]
    (own,) = found.stages[0].instructions
    assert isinstance(own, Arg)
    assert own.pairs == (("A", None),)


def test_source_says_where_and_what() -> None:
    run = one("# why\nRUN a \\\n# inside\n  && b\n")
    assert run.source.path == "Dockerfile"
    assert (run.source.line, run.source.end_line) == (3, 5)
    assert run.source.text == "RUN a   && b"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN echo  hi", shell("echo  hi")),
        ('RUN ["echo", "hi\\u00e9"]', Command(("echo", "hié"), shell=False)),
        ('RUN [ "echo" ] # no JSON', shell('[ "echo" ] # no JSON')),
        ("RUN ['echo']", shell("['echo']")),
        ('RUN [ "$A" = b ] && c', shell('[ "$A" = b ] && c')),
        ("RUN []", Command((), shell=False)),
        ("RUN [NaN]", shell("[NaN]")),
        ('RUN ["\\ud800"]', Command(("\ufffd",), shell=False)),
        ("RUN " + "[" * 9999, shell("[" * 9999)),
    ],
)
def test_run_has_a_shell_form_and_an_exec_form(text: str, command: Command) -> None:
    assert one(text).command == command


def test_a_list_that_is_not_of_strings_is_refused() -> None:
    for text in (
        "RUN [1]",
        'RUN ["<<E", 1]',
        'CMD ["echo", ["nested"]]',
        'COPY ["a", 1]',
        "VOLUME [null]",
    ):
        assert "not all that is in it are strings" in str(refused(text))


def test_flags_of_run() -> None:
    run = one(
        "RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --network=none "
        "--security=insecure --device=gpu make"
    )
    assert run.mounts == ("type=cache,target=/c", "type=tmpfs,target=/t")
    assert (run.network, run.security, run.devices) == ("none", "insecure", ("gpu",))
    assert run.command == shell("make")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN -- --mount=x", "--mount=x"),
        ("RUN --network=default --  a", "a"),
        (r"RUN --network='ho'\st a", "a"),
        ("RUN --", ""),
    ],
)
def test_two_dashes_end_the_flags(text: str, command: str) -> None:
    if command:
        assert one(text).command == shell(command)
    else:
        assert "at least one argument" in str(refused(text))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("COPY --form=x a b", "did you mean --from?"),
        ("COPY --zzzzzz a b", "it has --from, --chown"),
        ("USER --x a", "it has no flags"),
        ("COPY --from x y", "--from=VALUE"),
        ("COPY --link=yes a b", "write --link"),
        ("COPY --link= a b", "write --link"),
        ("RUN --network=nonne a", "did you mean none?"),
        ("RUN --security=x a", "did you mean sandbox or insecure?"),
    ],
)
def test_a_wrong_flag_is_refused_with_a_suggestion(text: str, hint: str) -> None:
    assert hint in (refused(text).hint or "")


def test_a_flag_given_twice_is_refused_unless_it_may_be() -> None:
    assert "given twice" in str(refused("COPY --from=a --from=b c d"))
    assert one("COPY --exclude=a --exclude=b c d").exclude == ("a", "b")


def test_copy_with_every_flag() -> None:
    copy = one(
        'COPY --from=build --chown="app group" --chmod=u=rwX --link --parents=False '
        "--exclude=*.md a b /dest/"
    )
    assert copy == Copy(
        copy.source,
        ("a", "b"),
        "/dest/",
        from_="build",
        chown="app group",
        chmod="u=rwX",
        link=True,
        exclude=("*.md",),
    )


def test_add_with_every_flag() -> None:
    add = one(
        "ADD --chown=1:1 --chmod=644 --link --exclude=x --checksum=sha256:00 --keep-git-dir "
        '--unpack=false ["a b", "c"]'
    )
    assert add == Add(
        add.source,
        ("a b",),
        "c",
        chown="1:1",
        chmod="644",
        link=True,
        exclude=("x",),
        checksum="sha256:00",
        keep_git_dir=True,
        unpack=False,
    )


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a=b c='d e' f=\"g h\"", (("a", "b"), ("c", "'d e'"), ("f", '"g h"'))),
        (r"ENV a=b\ c d=", (("a", r"b\ c"), ("d", ""))),
        ("ENV a='\\' b=c", (("a", "'\\'"), ("b", "c"))),
        ('ENV a="\\"" b=c\\\\', (("a", '"\\""'), ("b", "c\\\\"))),
        ("ENV a=b=c   d=\t", (("a", "b=c"), ("d", ""))),
    ],
)
def test_env_and_label_have_pairs(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    env = one(text)
    assert env == Env(env.source, pairs)
    label = one(text.replace("ENV", "LABEL"))
    assert label == Label(label.source, pairs)


@pytest.mark.parametrize(("text", "value"), [("ENV a b  c", "b  c"), ("ENV a\tb=c", "b=c")])
def test_the_legacy_form_has_one_pair_without_an_equals_sign(text: str, value: str) -> None:
    env = one(text)
    assert env == Env(env.source, (("a", value),), legacy=True)
    label = one(text.replace("ENV", "LABEL"))
    assert label == Label(label.source, (("a", value),), legacy=True)


def test_escape_directive_changes_escapes_and_continuations() -> None:
    found = parse("# escape=`\nFROM a\nENV a=b` c d=\\ `\n  e=f\nRUN dir c:\\\nRUN x `\n y\n")
    assert found.escape == "`"
    env, first, second = found.stages[0].instructions
    assert isinstance(env, Env)
    assert env.pairs == (("a", "b` c"), ("d", "\\"), ("e", "f"))
    assert isinstance(first, Run)
    assert isinstance(second, Run)
    assert first.command == shell("dir c:\\")
    assert second.command == shell("x  y")


def test_commands_of_the_container() -> None:
    assert isinstance(one("CMD a b"), Cmd)
    assert one('ENTRYPOINT ["a", "b"]').command == Command(("a", "b"), shell=False)
    assert isinstance(one("ENTRYPOINT a"), Entrypoint)
    assert one("CMD []").command == Command((), shell=False)


def test_simple_instructions() -> None:
    assert isinstance(one("WORKDIR /a b"), Workdir)
    assert one("WORKDIR /a b").path == "/a b"
    assert isinstance(one("USER app:app"), User)
    assert isinstance(one("MAINTAINER  A <a@b.c> "), Maintainer)
    assert one("MAINTAINER  A <a@b.c> ").name == "A <a@b.c>"
    assert isinstance(one("STOPSIGNAL 9"), StopSignal)
    assert isinstance(one("EXPOSE 80"), Expose)
    assert one("EXPOSE 80\t 443/tcp").ports == ("80", "443/tcp")
    assert one("VOLUME a  b").paths == ("a", "b")
    assert isinstance(one('VOLUME [" /a "]'), Volume)
    assert one('VOLUME [" /a "]').paths == ("/a",)
    assert one('SHELL ["a", "-c"]') == Shell(one('SHELL ["a", "-c"]').source, ("a", "-c"))


def test_healthcheck_in_every_form() -> None:
    none = one("HEALTHCHECK none")
    assert none == Healthcheck(none.source, None)
    check = one(
        "HEALTHCHECK --interval=1m30s --timeout=0 --start-period=1ms --start-interval=2s "
        '--retries=+3 cmd ["a"]'
    )
    assert check == Healthcheck(
        check.source,
        Command(("a",), shell=False),
        interval=90 * 10**9,
        timeout=0,
        start_period=10**6,
        start_interval=2 * 10**9,
        retries=3,
    )


@pytest.mark.parametrize(
    "flags", ["--interval=1us", "--timeout=-1s", "--interval=x", "--retries=-1", "--retries=1.5"]
)
def test_a_healthcheck_that_cannot_be_is_refused(flags: str) -> None:
    refused(f"HEALTHCHECK {flags} CMD a")


def test_triggers_keep_their_text() -> None:
    assert one("ONBUILD  COPY  --from=x a b ") == OnBuild(
        one("ONBUILD COPY a b").source.__class__("Dockerfile", 2, 2, "ONBUILD COPY  --from=x a b"),
        "COPY  --from=x a b",
    )
    assert one("ONBUILD RUN cat <<A\nx\nA").text == "RUN cat <<A\nx\nA"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ONBUILD ONBUILD RUN a", "not allowed as an ONBUILD trigger"),
        ("ONBUILD from x", "FROM is not allowed"),
        ("ONBUILD NONSENSE x", "unknown instruction NONSENSE"),
        ("RUN", "at least one argument"),
        ("ENV a", "has no value"),
        ("ENV a=b c", "'c' has no value"),
        ("ENV =b", "has no name"),
        ("ARG =b", "has no name"),
        ("COPY a", "at least two arguments"),
        ("COPY []", "at least two arguments"),
        ("SHELL bash -c", "JSON form"),
        ("SHELL []", "at least one argument"),
        ("VOLUME []", "at least one argument"),
        ('VOLUME [" "]', "empty path"),
        ("HEALTHCHECK", "at least one argument"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK CMD", "has no command"),
        ("HEALTHCHECK CMD []", "has no command"),
        ("HEALTHCHECK curl", "unknown type curl"),
        ("FROM a b", "has one image"),
        ("FROM", "at least one argument"),
        ("FROM a AS 1x", "cannot be the name of a stage"),
        ("FROM a AS b$C", "cannot be the name of a stage"),
        ("RUN\u00a0x", "unknown instruction"),
    ],
)
def test_a_mistake_is_named(text: str, message: str) -> None:
    assert message in str(refused(text))


def test_an_unknown_instruction_gets_a_suggestion() -> None:
    error = refused("RUNN make")
    assert str(error) == "Dockerfile:2:1: unknown instruction RUNN\n    RUNN make\n    ^"
    assert error.hint == "did you mean RUN?"
    assert refused("ZZZZ make").hint is None


def test_a_dockerfile_begins_with_from() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:1: RUN stands before the first FROM"):
        parse("RUN a\nFROM b\n")
    for text in ("", "# nothing\n", "ARG A\n", "\ufeff"):
        with pytest.raises(DockerfileError, match="there is no FROM in it"):
            parse(text)


# Lines


def test_instructions_are_case_insensitive() -> None:
    found = parse("from a aS b\nrUn x\n")
    assert found.stages[0].start.name == "b"
    assert isinstance(found.stages[0].instructions[0], Run)


def test_byte_order_mark_and_windows_line_ends_and_indentation() -> None:
    found = parse(b"\xef\xbb\xbf  FROM a\r\n\tRUN b \\\r\n  c\r\n")
    (run,) = found.stages[0].instructions
    assert isinstance(run, Run)
    assert run.command == shell("b   c")
    assert (run.source.line, run.source.end_line) == (2, 3)


def test_bytes_that_are_no_utf8_survive() -> None:
    (run,) = parse(b"FROM a\nRUN echo \xff\n").stages[0].instructions
    assert isinstance(run, Run)
    assert run.command.argv[0].encode("utf-8", "surrogateescape") == b"echo \xff"


def test_other_line_separators_are_characters() -> None:
    assert one("RUN a\x0cb\x0bc\u2028d\x85e").command == shell("a\x0cb\x0bc\u2028d\x85e")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a \\\n\n \n  b", "a   b"),
        ("RUN a \\\n  # why\n  b", "a   b"),
        ("RUN a \\  \t\nb", "a b"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a \\", "a"),
        ("RUN a \\\n\\\nb", "a b"),
        ("R\\\nUN a", "a"),
        ("RUN\\\n a", "a"),
        ("RUN \\\na", "a"),
        ("RUN \\\n\\\n\\\na \\\nb", "a b"),
        ("\\\nRUN a", "a"),
        ("RUN a \\\n#b\\\nc", "a c"),
        ("RUN a # b", "a # b"),
        ("RUN a \\\u00a0", "a \\"),
    ],
)
def test_lines_are_joined(text: str, command: str) -> None:
    assert one(text).command == shell(command)


def test_an_empty_line_inside_an_instruction_is_noted_where_its_text_ends() -> None:
    found = parse("FROM a\nRUN a <<E \\\n\n  b\nx\nE\nRUN c \\\n # d\n e\n").stages[0]
    assert [instruction.source.gap for instruction in found.instructions] == [4, 0]


def test_comments_right_above_an_instruction_are_its_own() -> None:
    found = parse(
        "# syntax=a\n# one\nFROM x\n#two\n\n#  three \nRUN a\nRUN b\n# four\n#\n  # five\nRUN c\n"
    ).stages[0]
    assert found.start.source.comments == ("one",)
    first, second, third = (item.source.comments for item in found.instructions)
    assert first == ("two", "three")
    assert second == ()
    # As in BuildKit, which drops the first character of the line, whatever it is.
    assert third == ("# five",)


def test_a_comment_describes_the_stage_or_argument_that_it_names() -> None:
    found = parse("# A is a letter\n# B another\nARG A=1 B=2 C\n# app what runs\nFROM x AS App\n")
    assert found.arguments[0].descriptions == (("A", "is a letter"), ("B", "another"))
    assert found.stages[0].start.description == "what runs"
    assert parse("# a b\nFROM x\n").stages[0].start.description == ""


def test_a_continuation_of_nothing_is_refused() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:2: the line goes on, but nothing"):
        parse("FROM a\n\\\n")


def test_a_line_has_a_largest_length() -> None:
    longest = 65535 - len("RUN ")
    assert len(one("RUN " + "x" * longest).command.argv[0]) == longest
    assert "longer than 65535 bytes" in str(refused("RUN " + "x" * (longest + 1)))


def test_directives_are_kept_and_checked() -> None:
    found = parse("#!/usr/bin/env kaniko\n# Syntax = a/b:1 \n#check=skip=all\n#x=y\nFROM a\n")
    assert dict(found.directives) == {"syntax": "a/b:1", "check": "skip=all"}
    assert found.stages[0].start.source.comments == (
        "!/usr/bin/env kaniko",
        "Syntax = a/b:1",
        "check=skip=all",
        "x=y",
    )
    # Behind #! BuildKit's parser sees none, so it sees nothing wrong either.
    found = parse("#!x\n# check=a\n# check=b\nFROM a\n")
    assert dict(found.directives) == {"check": "a"}
    with pytest.raises(DockerfileError, match="Dockerfile:2: the directive escape is given twice"):
        parse("# escape=`\n# escape=`\nFROM a\n")
    with pytest.raises(DockerfileError, match="'x' cannot be the escape character") as caught:
        parse("# escape=x\nFROM a\n")
    assert caught.value.hint == "it is a backslash or a backquote"


@pytest.mark.parametrize(
    ("head", "escape"),
    [
        ("# hello\n# escape=`\n", "\\"),
        ("\n# escape=`\n", "\\"),
        ("# other=x\n# escape=`\n", "\\"),
        ("#!/bin/sh\n# escape=`\n", "\\"),
        ("  # escape=`\n", "`"),
        ("#escape = ` \r\n", "`"),
        ("# syntax=a\n# ESCAPE=`\n", "`"),
    ],
)
def test_the_escape_directive_stands_before_everything_else(head: str, escape: str) -> None:
    assert parse(f"{head}FROM a\n").escape == escape


@pytest.mark.parametrize(
    "text",
    [
        "// syntax=docker/other:1\nservices\n",
        "#!/usr/bin/thing\n//syntax=docker/other:1 remark\nservices\n",
        '{"syntax": "docker/other:1", "services": []}',
    ],
)
def test_a_file_for_another_frontend_is_refused_as_such(text: str) -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile: .*written for the frontend docker/o"):
        parse(text)


@pytest.mark.parametrize("text", ["//x\n", '{"syntax": 1}', "{", '{"a": "b"}', "[]"])
def test_what_names_no_frontend_is_an_unknown_instruction(text: str) -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:1:1: unknown instruction"):
        parse(text)


def test_what_other_builders_added_is_not_understood() -> None:
    """buildah's FROM --after, and its files for the C preprocessor, which are comments here."""
    with pytest.raises(DockerfileError, match="FROM has no flag --after") as caught:
        parse("FROM a AS x\nFROM --after=x b\n")
    assert (caught.value.line, caught.value.hint) == (2, "it has --platform")
    found = parse('#include "base.in"\n#define IMAGE other\nFROM IMAGE\n').stages[0]
    assert found.start.image == "IMAGE"


# Here-documents


def heredocs(text: str) -> tuple[Heredoc, ...]:
    found: tuple[Heredoc, ...] = one(text).heredocs
    return found


def test_a_heredoc_is_part_of_its_instruction() -> None:
    found = parse("FROM a\nRUN <<EOF\nRUN b\n# c\nEOF\nRUN d\n").stages[0].instructions
    first, second = found
    assert isinstance(first, Run)
    assert first.heredocs == (Heredoc("EOF", "RUN b\n# c\n"),)
    assert first.command == shell("<<EOF")
    assert (first.source.line, first.source.end_line) == (2, 5)
    assert second.source.line == 6


@pytest.mark.parametrize(
    ("opening", "end", "expected"),
    [
        ("<<E", "E", Heredoc("E", "x\n")),
        ("<< E", "E", Heredoc("E", "x\n")),
        ("<<  E > f", "E", Heredoc("E", "x\n")),
        ("cat <<- E | sh", "\tE", Heredoc("E", "x\n", chomp=True)),
        ("3<<E", "E", Heredoc("E", "x\n", file_descriptor=3)),
        ("<<'E'", "E", Heredoc("E", "x\n", expand=False)),
        ('<<-"E F"', "\t\tE F", Heredoc("E F", "x\n", expand=False, chomp=True)),
        ("<<e'o'f", "eof", Heredoc("eof", "x\n", expand=False)),
        (r"<<eo\'f", "eo'f", Heredoc("eo'f", "x\n")),
        (r"<<'e'o\'f", "eo'f", Heredoc("eo'f", "x\n", expand=False)),
        ("<<$E", "$E", Heredoc("$E", "x\n")),
        ("[ -f a ] && cat <<E", "E", Heredoc("E", "x\n")),
    ],
)
def test_a_heredoc_has_many_forms(opening: str, end: str, expected: Heredoc) -> None:
    assert heredocs(f"RUN {opening}\nx\n{end}") == (expected,)


@pytest.mark.parametrize(
    "text",
    [
        'RUN "<<E"',
        "RUN <<<E",
        "RUN <<",
        "RUN a<<E",
        'RUN ["<<E"]',
        "RUN echo 'open <<E",
        "RUN echo $((1 << 2))",
        "RUN <<${x",
        "RUN <<'a'' '\"",
        "RUN echo 1 <<''",
    ],
)
def test_what_only_looks_like_a_heredoc_is_none(text: str) -> None:
    assert heredocs(text) == ()


def test_arithmetic_that_does_not_end_takes_no_time() -> None:
    assert heredocs("RUN " + "$((" * 20_000 + " <<E\nb\nE\n") == (Heredoc("E", "b\n"),)
    assert heredocs('RUN echo $((1 << 2)) "$(( 1" <<E $((3 << 4))\nb\nE\n') == (
        Heredoc("E", "b\n"),
    )


def test_several_heredocs_follow_each_other() -> None:
    copy = one("COPY a <<X <<'Y' /dest/\nY\nX\nX\nY")
    assert copy.heredocs == (Heredoc("X", "Y\n"), Heredoc("Y", "X\n", expand=False))
    assert copy.sources == ("a", "<<X", "<<Y")
    assert copy.destination == "/dest/"


def test_copy_takes_a_heredoc_whose_name_stands_apart() -> None:
    assert one("COPY << E /dest\nE").sources == ("<<E",)
    assert one("COPY <<'a b' <<E /dest\na b\nE").sources == ("<<'a", "b'", "<<E")


def test_a_heredoc_keeps_its_line_ends() -> None:
    assert heredocs("RUN <<E\na\r\nb\r\nE\r\n") == (Heredoc("E", "a\r\nb\r\n"),)


def test_a_heredoc_that_does_not_end_is_refused() -> None:
    error = refused("RUN <<E\nx\n E")
    assert "the here-document E does not end" in str(error)
    assert "holds E alone" in (error.hint or "")


def test_a_heredoc_cannot_be_a_destination() -> None:
    assert "cannot be the destination of COPY" in str(refused("COPY a <<E\nE"))


def test_other_instructions_have_no_heredocs() -> None:
    assert one("USER <<E").name == "<<E"


# Anything


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_dockerfile_or_an_error(data: bytes) -> None:
    for text in (data, b"FROM a\n" + data, b"FROM a\nRUN " + data):
        try:
            found = parse(text)
        except DockerfileError as error:
            assert str(error).startswith("Dockerfile:")
        else:
            assert isinstance(found.stages[0].start, From)


TOKENS = st.sampled_from(
    "FROM RUN COPY ADD ENV ARG ONBUILD HEALTHCHECK CMD NONE SHELL VOLUME LABEL EXPOSE USER AS "
    "-- --from=a --link --x --mount=a <<E <<-E <<'E' E # ` \\ \\\n \n \r\n \t ' \" [ ] , = a b "
    '["a"] ["a","b"] $((1 <<) {} é \ue0ff'.replace("\\n", "\n").split(" ")
)


@settings(deadline=None, max_examples=300)
@given(st.lists(TOKENS, max_size=25), st.sampled_from(["", "# escape=`\n"]))
def test_any_tokens_are_a_dockerfile_or_an_error(tokens: list[str], head: str) -> None:
    try:
        found = parse(f"{head}FROM a\n{' '.join(tokens)}\n")
    except DockerfileError:
        return
    lines = [i.source.line for stage in found.stages for i in stage.instructions]
    assert lines == sorted(lines)
