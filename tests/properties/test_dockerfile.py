"""What is printed is read back, however it is printed; nothing that is written is a crash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaniko_core.dockerfile.instructions import (
    Arg,
    Copy,
    Env,
    Expose,
    Healthcheck,
    Label,
    Source,
    User,
    Volume,
    Workdir,
)
from kaniko_core.dockerfile.lines import logical_lines
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import DockerfileError
from tests.properties.depth import tried
from tests.properties.printing import KEYWORDS, Document, Line, Printer, lines


@tried()
@given(st.data())
def test_logical_lines_are_read_back_however_they_are_printed(data: st.DataObject) -> None:
    escape = data.draw(st.sampled_from("\\`"))
    printer = Printer(data.draw, escape)
    written = data.draw(st.lists(lines(escape), min_size=1, max_size=4))
    text = printer.printed(written)
    directives, found = logical_lines(text)
    assert directives.escape == escape
    assert [(line.keyword.upper(), line.rest) for line in found] == [
        (line.keyword, line.text) for line in written
    ]
    assert [(line.line, line.end_line) for line in found] == printer.places
    ending = "\r\n" if b"\r\n" in text else "\n"
    assert [[told(document) for document in line.heredocs] for line in found] == [
        [meant(document, ending) for document in line.documents] for line in written
    ]


def told(document: object) -> object:
    return (
        document.name,  # type: ignore[attr-defined]
        document.content,  # type: ignore[attr-defined]
        document.chomp,  # type: ignore[attr-defined]
        document.expand,  # type: ignore[attr-defined]
    )


def meant(document: Document, ending: str) -> object:
    body = "".join(line + ending for line in document.body)
    return document.name, body, document.chomp, not document.quoted


NAMES = st.text(st.sampled_from("abAB_1"), min_size=1, max_size=4)
VALUES = st.sampled_from(
    ["", "x", "a=b", '"two words"', "'$A'", "$A", "${B:-c}", "\\ x", "é", "#1"]
)
PATHS = st.sampled_from(["a", "/b/", "c d.txt", "*.go", "$A/x", ".", "é", "[x]"])
PLAIN = st.sampled_from(["a", "/b/", "*.go", "$A/x", ".", "é", "--", "x[1]"])


def quoted(words: list[str]) -> str:
    return "[" + ", ".join('"' + word.replace("\\", "\\\\") + '"' for word in words) + "]"


@tried(0.3)
@given(st.data())
def test_instructions_are_read_back_as_the_data_that_they_were(data: st.DataObject) -> None:
    pairs = tuple(data.draw(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=3)))
    words = data.draw(st.lists(PATHS, min_size=2, max_size=3))
    plain = data.draw(st.lists(PLAIN.filter(lambda word: word != "--"), min_size=2, max_size=3))
    joined = " ".join(f"{name}={value}" for name, value in pairs)
    written = [
        (Line("FROM", "scratch"), None),
        (Line("ENV", joined), Env(SOURCE, pairs)),
        (Line("LABEL", joined), Label(SOURCE, pairs)),
        (Line("ARG", f"{joined} z"), Arg(SOURCE, (*pairs, ("z", None)))),
        (Line("COPY", quoted(words)), Copy(SOURCE, tuple(words[:-1]), words[-1])),
        (
            Line("COPY", "--from=x --link --exclude=y --exclude=z " + " ".join(plain)),
            Copy(
                SOURCE,
                tuple(plain[:-1]),
                plain[-1],
                from_="x",
                link=True,
                exclude=("y", "z"),
            ),
        ),
        (Line("VOLUME", quoted(words)), Volume(SOURCE, tuple(words))),
        (Line("EXPOSE", " ".join(plain)), Expose(SOURCE, tuple(plain))),
        (Line("WORKDIR", words[0]), Workdir(SOURCE, words[0])),
        (Line("USER", words[0]), User(SOURCE, words[0])),
        (Line("HEALTHCHECK", "NONE"), Healthcheck(SOURCE, None)),
    ]
    text = Printer(data.draw, "\\").printed([line for line, _ in written])
    found = parse_dockerfile(text, "Dockerfile").stages[0].instructions
    assert [fields(instruction) for instruction in found] == [
        fields(instruction) for _, instruction in written[1:]
    ]


SOURCE = Source("Dockerfile", 1, 1, "")


def fields(instruction: object) -> object:
    names = [name for name in type(instruction).__slots__ if name != "source"]  # type: ignore[attr-defined]
    return type(instruction), [getattr(instruction, name) for name in names]


BITS = st.sampled_from(
    [
        *KEYWORDS,
        *(word.lower() for word in KEYWORDS),
        *"\n\n\n\n\n\\\\  \t\r#$\"'`=:[]{}<-,/",
        *("FROM scratch\n", "# escape=`\n", "#syntax=x\n", "#check=skip=all\n", "\\\n", "`\n"),
        *("<<E", "<<-E", "\nE\n", "<< ", "--mount=", "-- ", "--chown=", "--from=x", "--interval="),
        *("AS ", "a=b", '["a"]', "NONE", "5s"),
        *("\x00", "\ufeff", "\u2028", "\x1c", "\x1f", "\v", "\f", "\x85", "\u00a0", "\ue0ff"),
    ]
)
TEXTS = st.lists(BITS, max_size=25).map(lambda bits: "".join(bits).encode())


@tried(3)
@given(TEXTS | st.binary(max_size=80) | st.text().map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_whatever_is_written_is_read_or_refused_at_one_of_its_lines(text: bytes) -> None:
    for data in (text, b"FROM scratch\n" + text):
        try:
            found = parse_dockerfile(data, "Dockerfile")
        except DockerfileError as error:
            # What is missing from the whole file has no line.
            number = error.line or ("no FROM" in str(error))
        else:
            number = max(stage.start.source.end_line for stage in found.stages)
        assert 1 <= number <= data.count(b"\n") + 1
