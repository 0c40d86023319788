"""Dockerfiles as data, and the many ways to print the same data.

What is printed is a list of instructions, each a keyword, the rest of its logical line, and its
here-documents. How it is printed is drawn anew each time: continuations with comments and blank
lines inside them, leading blanks, case, the escape character, line endings, a byte order mark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

KEYWORDS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    "STOPSIGNAL USER VOLUME WORKDIR"
).split()
BLANKS = st.sampled_from(["", "", " ", "\t", "  \t"])
COMMENTS = st.sampled_from(["# words", "#", "  # FROM x", "\t#\\", "# <<E", "#`"])


@dataclass(frozen=True)
class Document:
    """A here-document, whose name and body are on lines of their own."""

    name: str
    body: tuple[str, ...]
    chomp: bool = False
    quoted: bool = False

    @property
    def opening(self) -> str:
        quote = "'" if self.quoted else ""
        return f"<<{'-' if self.chomp else ''}{quote}{self.name}{quote}"


@dataclass(frozen=True)
class Line:
    """An instruction as data; *rest* has no space around it."""

    keyword: str
    rest: str
    documents: tuple[Document, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(filter(None, (self.rest, *(d.opening for d in self.documents))))


def rests(escape: str) -> st.SearchStrategy[str]:
    """Generate what follows a keyword: one line, that neither goes on nor opens a document."""
    pieces = st.sampled_from(
        [*"abXY12 \t$#{}'\"=:/-.,[]é\\`", "--x", "a=b", "  ", "$A", "#x", "\\n", "<", "\u00a0"]
    )
    return (
        st.lists(pieces, min_size=1, max_size=12)
        .map(lambda parts: "".join(parts).strip())
        .filter(lambda text: text != "" and "<<" not in text and text[-1] != escape)
    )


NAMES = st.sampled_from(["E", "EOF", "file.txt", "_x1"])
BODIES = st.lists(
    st.sampled_from(["", "text", "\ttabs", "# no comment", "RUN x \\", "  E", "EOFF", "$A 'x"]),
    max_size=3,
).map(tuple)
DOCUMENTS = st.builds(Document, NAMES, BODIES, st.booleans(), st.booleans())


def lines(escape: str) -> st.SearchStrategy[Line]:
    """Generate instructions; three of them may have here-documents."""
    plain = st.builds(Line, st.sampled_from(KEYWORDS), rests(escape))
    # A quote that is open, or a list, would make a << mean nothing.
    words = st.sampled_from(["", "cat", "a b", "--x=1 y"])
    documented = st.builds(
        Line,
        st.sampled_from(["ADD", "COPY", "RUN"]),
        words,
        st.lists(DOCUMENTS, min_size=1, max_size=2, unique_by=lambda d: d.name).map(tuple),
    )
    return plain | documented


class Printer:
    """Prints instructions; every choice is drawn."""

    def __init__(self, draw: Callable[[st.SearchStrategy[str]], str], escape: str) -> None:
        self._draw = draw
        self._escape = escape
        self._ending = draw(st.sampled_from(["\n", "\r\n"]))
        # Of each instruction: where it begins and ends, counted from 1.
        self.places: list[tuple[int, int]] = []
        self._lines: list[str] = []

    def printed(self, lines: list[Line]) -> bytes:
        default = self._escape == "\\"
        if not default or self._chosen():
            self._lines.append(
                self._draw(st.sampled_from(["# escape=", "#Escape = "])) + self._escape
            )
        for line in lines:
            while self._chosen():
                self._lines.append(self._draw(COMMENTS | BLANKS))
            self._instruction(line)
        mark = "\ufeff" if self._chosen() else ""
        end = self._ending if self._chosen() else ""
        return (mark + self._ending.join(self._lines) + end).encode()

    def _instruction(self, line: Line) -> None:
        start = len(self._lines) + 1
        keyword = "".join(letter.lower() if self._chosen() else letter for letter in line.keyword)
        blank = self._draw(st.sampled_from([" ", "\t", "  "]))
        text = f"{keyword}{blank}{line.text}{self._draw(BLANKS)}"
        self._lines.append(self._draw(BLANKS))
        while (piece := self._cut(text)) is not None:
            before, text = piece
            self._lines[-1] += before + self._escape + self._draw(BLANKS)
            while self._chosen():
                self._lines.append(self._draw(COMMENTS | BLANKS))
            self._lines.append("")
        self._lines[-1] += text
        for document in line.documents:
            tabs = self._draw(st.sampled_from(["", "\t", "\t\t"])) if document.chomp else ""
            self._lines += [*document.body, tabs + document.name]
        self.places.append((start, len(self._lines)))

    def _cut(self, text: str) -> tuple[str, str] | None:
        """Choose where a line goes on; what follows must not look like a comment or a blank."""
        places = [
            place
            for place in range(1, len(text))
            if text[place - 1] != self._escape
            and text[place:].strip()
            and not text[place:].lstrip().startswith("#")
            and not (place > 0 and text[:place].endswith("<") and text[place:].startswith("<"))
        ]
        if not places or not self._chosen():
            return None
        place = self._draw(st.sampled_from(places))
        return text[:place], text[place:]

    def _chosen(self) -> bool:
        return self._draw(st.sampled_from(["", "", "yes"])) != ""
