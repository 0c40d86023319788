"""From the bytes of a Dockerfile to logical lines: one for each instruction.

dockerfile-parse does the joining. It is handed a view of the file with the same line numbers,
in which everything that it reads differently from BuildKit has one plain form: comments and
blank lines inside a continuation are ``#``, bodies of here-documents too, a line that goes on
ends in a backslash whatever the escape character is, and one that does not ends in a mark
behind which a backslash is safe.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from kaniko_core.dockerfile.directives import Directives, read_directives
from kaniko_core.dockerfile.forms import split_keyword
from kaniko_core.dockerfile.heredocs import openings
from kaniko_core.dockerfile.instructions import Heredoc
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass

# Bytes in one line of the file. Source: BuildKit's scanner, dockerfile.md 1a.
_LONGEST_LINE = 65535
_MARK = "\ue0ff"  # of Unicode's private use area
_COMMENT = "#"
_KEYWORD = re.compile(r"[^\t\v\f\r ]+[\t\v\f\r ]")


class LineError(UsageError):
    """The file cannot be read at *line*, which counts from 1.

    *lines* are those of the instruction, and *at* is what is wrong in them, in the spellings to
    look for.
    """

    def __init__(
        self,
        message: str,
        line: int,
        hint: str | None = None,
        *,
        lines: tuple[str, ...] = (),
        at: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.line = line
        self.lines = lines
        self.at = at


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """An instruction as text: its keyword as written, the rest joined to one line.

    Attributes:
        line, end_line: where it begins and ends, here-documents included; counted from 1.
        gap: where a blank line is inside it, the line on which its text ends; 0 elsewhere.
        comments: those right above it, as :class:`~kaniko_core.dockerfile.instructions.Source`
            has them.
        lines: the lines of the file that it takes, as they stand there.
    """

    keyword: str
    rest: str
    line: int
    end_line: int
    heredocs: tuple[Heredoc, ...] = ()
    gap: int = 0
    comments: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The instruction in one line, for messages."""
        return f"{self.keyword} {self.rest}".strip()


def logical_lines(data: bytes) -> tuple[Directives, list[LogicalLine]]:
    """Read the bytes of a Dockerfile; bytes that are no UTF-8 become lone surrogates.

    Raises:
        LineError: a line is too long, or a here-document does not end.
        DirectiveError: a parser directive is wrong.
    """
    physical = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(physical, 1):
        if len(line) > _LONGEST_LINE:
            raise LineError(f"the line is longer than {_LONGEST_LINE} bytes", number)
    lines = [line.decode("utf-8", "surrogateescape") for line in physical]
    if not lines[-1]:
        lines.pop()
    directives = read_directives(lines)
    view = _View(lines, directives)
    view.prepare()
    return directives, list(_joined(view))


def _joined(view: _View) -> Iterator[LogicalLine]:
    from dockerfile_parse.parser import DockerfileParser

    class Reader(DockerfileParser):
        @property  # type: ignore[misc]  # nobody writes to it
        def lines(self) -> Sequence[str]:
            return [f"{line}\n" for line in view.lines]

    # Without a file of its own it would open ./Dockerfile.
    reader = Reader(fileobj=io.BytesIO(), env_replace=False)  # type: ignore[no-untyped-call]
    for item in reader.structure:
        found = view.found.get(item["startline"])
        if found is not None:
            rest = item["value"].removesuffix(_MARK).strip()
            yield LogicalLine(
                found.keyword,
                rest,
                item["startline"] + 1,
                found.end,
                found.heredocs,
                found.gap,
                found.comments,
                view.source[item["startline"] : found.end],
            )


@dataclass(frozen=True, slots=True)
class _Found:
    """What the view knows of an instruction and dockerfile-parse does not."""

    keyword: str
    end: int
    gap: int
    heredocs: tuple[Heredoc, ...]
    comments: tuple[str, ...]


class _View:
    """The lines of the file as dockerfile-parse is to see them."""

    def __init__(self, source: list[str], directives: Directives) -> None:
        self.source = tuple(source)
        self._directives = directives.count
        self._position = 0
        mark = re.escape(directives.escape)
        self._continued = re.compile(rf"(?:(?<=[^{mark}])|^){mark}[ \t]*$")
        self.lines = [_COMMENT] * len(source)
        self.found: dict[int, _Found] = {}

    def prepare(self) -> None:
        comments: list[str] = []
        while self._position < len(self.source):
            line = self.source[self._position]
            stripped = line.strip()
            if stripped and not stripped.startswith(_COMMENT):
                self._instruction(self._position, tuple(comments))
                comments.clear()
                continue
            if stripped and self._position >= self._directives:
                # BuildKit drops one character, whatever it is: an indented comment keeps its #.
                text = line[1:].strip()
                if text:
                    comments.append(text)
                else:
                    comments.clear()
            self._position += 1

    def _instruction(self, start: int, comments: tuple[str, ...]) -> None:
        """Prepare the instruction that begins at *start*; go on behind it."""
        pieces, gap = self._pieces()
        last = self._position
        logical = "".join(piece for _, piece in pieces)
        keyword, _ = split_keyword(logical)
        if not keyword:
            raise LineError("the line goes on, but nothing follows", start + 1)
        self._show(pieces)
        heredocs = tuple(self._heredocs(logical, start))
        self.found[start] = _Found(keyword, self._position, last if gap else 0, heredocs, comments)

    def _pieces(self) -> tuple[list[tuple[int, str]], bool]:
        """Read one instruction's lines: their places and texts, and if blank ones are between."""
        pieces: list[tuple[int, str]] = []
        gap = False
        goes_on = True
        while goes_on and self._position < len(self.source):
            line = self.source[self._position].rstrip("\r")
            self._position += 1
            stripped = line.lstrip()
            if pieces and stripped.startswith(_COMMENT):
                continue
            if pieces and not stripped:
                gap = True
                continue
            text = line if pieces else stripped
            match = self._continued.search(text)
            goes_on = match is not None
            pieces.append((self._position - 1, text[: match.start()] if match else text))
        return pieces, gap

    def _show(self, pieces: list[tuple[int, str]]) -> None:
        """Write the plain form of an instruction."""
        place, text = pieces[0]
        used = 1
        # A keyword that is broken, or ends, at the end of a line has to stand on the first.
        while used < len(pieces) and not _KEYWORD.match(text):
            text += pieces[used][1]
            used += 1
        shown = [(place, text), *pieces[used:]]
        for place, text in shown[:-1]:
            self.lines[place] = text + "\\"
        place, text = shown[-1]
        self.lines[place] = text + _MARK

    def _heredocs(self, logical: str, start: int) -> Iterator[Heredoc]:
        for opening in openings(logical):
            body: list[str] = []
            while True:
                if self._position == len(self.source):
                    raise LineError(
                        f"the here-document {opening.name} does not end",
                        start + 1,
                        f"end it with a line that holds {opening.name} alone",
                        lines=self.source[start:],
                        at=tuple(
                            f"<<{dash}{quote}{opening.name}"
                            for dash in ("", "-")
                            for quote in ("", '"', "'")
                        ),
                    )
                line = self.source[self._position]
                self._position += 1
                if opening.ended_by(line.rstrip("\r")):
                    break
                body.append(f"{line}\n")
            yield Heredoc(
                opening.name,
                "".join(body),
                opening.expand,
                opening.chomp,
                opening.file_descriptor,
            )
