"""Errors point at what is wrong: the line, and the column where that helps."""

from __future__ import annotations

import pytest

from kaniko_core.dockerfile.instructions import Source
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.errors import DockerfileError


def mistake(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile(f"FROM a\n{text}\n".encode(), "Dockerfile")
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "column", "shown"),
    [
        ("RUNN make", 2, 1, "RUNN make\n    ^"),
        ("\t RUNN make", 2, 3, "RUNN make\n    ^"),
        ("RUN --mont=type=x a", 2, 5, "RUN --mont=type=x a\n        ^"),
        ("RUN --network=no a", 2, 5, "RUN --network=no a\n        ^"),
        ("COPY --link=maybe a b", 2, 6, "COPY --link=maybe a b\n         ^"),
        ("COPY --from a b", 2, 6, "COPY --from a b\n         ^"),
        ("COPY --chown=a \\\n  --chmd=1 \\\n  a b", 3, 3, "--chmd=1 \\\n    ^"),
        ('SHELL ["/bin/sh" "-c"]', 2, 18, 'SHELL ["/bin/sh" "-c"]\n                     ^'),
        ("SHELL /bin/sh", 2, 7, "SHELL /bin/sh\n          ^"),
        ("SHELL {}", 2, 7, "SHELL {}\n          ^"),
        ("CMD [1, 2]", 2, 5, "CMD [1, 2]\n        ^"),
        ('RUN --network=none ["a", 2]', 2, 20, 'RUN --network=none ["a", 2]\n' + " " * 23 + "^"),
        ("RUN a <<E\nb", 2, 7, "RUN a <<E\n          ^"),
        ("RUN <<A <<-'B'\nA\nb", 2, 9, "RUN <<A <<-'B'\n            ^"),
        ("RUN a \\\n  <<E\nb", 3, 3, "<<E\n    ^"),
        ("COPY a <<E\nE", 2, 8, "COPY a <<E\n           ^"),
        ("ENV abc=b \\\n c", 3, 2, "c\n    ^"),
        ("FROM b AS 1c", 2, 11, "FROM b AS 1c\n              ^"),
        ("ONBUILD RUNN x", 2, 9, "ONBUILD RUNN x\n            ^"),
        ("ONBUILD FROM x", 2, 9, "ONBUILD FROM x\n            ^"),
    ],
)
def test_an_error_points_at_what_is_wrong(text: str, line: int, column: int, shown: str) -> None:
    error = mistake(text)
    assert (error.line, error.column) == (line, column)
    assert str(error).startswith(f"Dockerfile:{line}:{column}: ")
    assert str(error).endswith(f"\n    {shown}")


@pytest.mark.parametrize("text", ["COPY a", "FROM a b", "RUNN\\\nN make"])
def test_an_error_of_the_whole_instruction_has_no_column(text: str) -> None:
    error = mistake(text)
    assert (error.line, error.column) == (2, 0)
    assert str(error).startswith("Dockerfile:2: ")
    assert "^" not in str(error)


def test_an_unknown_flag_and_instruction_get_a_suggestion() -> None:
    assert mistake("COPY --chwon=a b c").hint == "did you mean --chown?"
    assert mistake("WORKDRI a").hint == "did you mean WORKDIR?"


def test_a_source_finds_the_first_spelling_that_stands_in_its_lines() -> None:
    source = Source("F", 4, 5, "RUN a b", lines=("RUN a \\", "  b"))
    assert source.error("no", at=("x", "", "b")).column == 3
    assert source.error("no", at=("x", "", "b")).line == 5
    assert str(source.error("no", at=("x",))) == "F:4: no\n    RUN a b"
    assert str(source.error("no", hint="h")) == "F:4: no\n    RUN a b"
