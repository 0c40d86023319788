"""From the bytes of a Dockerfile to logical lines: one for each instruction.

dockerfile-parse does the reading. It is handed a view of the file with the same line numbers
in which what it does not know has been put into a form that it does: here-document bodies are
lifted out, blank lines inside a continuation become comments, a backslash that continues
nothing is hidden, an instruction's name split over lines is joined.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kaniko_core.dockerfile.directives import Directives, read_directives
from kaniko_core.dockerfile.instructions import Heredoc
from kaniko_core.dockerfile.words import Lexer, WordError
from kaniko_core.errors import UsageError

# Bytes in one line of the file. Source: BuildKit's scanner, dockerfile.md 1a.
_LONGEST_LINE = 65535
# Stands behind an escape character at the end of a line that does not continue it; a private
# use character, which the file cannot hold by accident.
_HIDDEN = "\ue0ff"
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)")
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_COMMENT = "#"


class LineError(UsageError):
    """The file cannot be read at *line*, which counts from 1."""

    def __init__(self, message: str, line: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """An instruction as text: its keyword as written, the rest joined to one line."""

    keyword: str
    rest: str
    line: int
    end_line: int
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def text(self) -> str:
        """The instruction in one line, for messages and the history."""
        return f"{self.keyword} {self.rest}".strip()


def logical_lines(data: bytes) -> tuple[Directives, list[LogicalLine]]:
    """Read the bytes of a Dockerfile.

    Raises:
        LineError: a line is too long, or a here-document does not end.
        DirectiveError: a parser directive is wrong.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, 1):
        if len(line.encode("utf-8", "surrogateescape")) > _LONGEST_LINE:
            raise LineError(f"the line is longer than {_LONGEST_LINE} bytes", number)
    directives = read_directives(lines)
    view = _View(lines, directives)
    view.normalise()
    return directives, list(_parsed(view, directives.escape))


def _parsed(view: _View, escape: str) -> Iterator[LogicalLine]:
    from dockerfile_parse.parser import DockerfileParser

    class Front(DockerfileParser):
        @property
        def lines(self) -> list[str]:  # type: ignore[misc]  # its setter is for writing
            return [f"{line}\n" for line in view.lines]

    # The parser may write to its file: it is given one of its own.
    front = Front(fileobj=io.BytesIO(), env_replace=False)  # type: ignore[no-untyped-call]
    for item in front.structure:
        if item["instruction"] == "COMMENT" or not item["content"].strip():
            continue
        start = item["startline"]
        heredocs, end = view.heredocs.get(start, ((), view.ends.get(start, item["endline"])))
        value = item["value"].replace(_HIDDEN, "")
        yield LogicalLine(view.keywords[start], value, start + 1, end + 1, heredocs)


class _View:
    """The lines of the file as dockerfile-parse is to see them."""

    def __init__(self, source: list[str], directives: Directives) -> None:
        self._source = source
        self._escape = directives.escape
        escape = re.escape(directives.escape)
        self._continued = re.compile(rf"([^{escape}]){escape}[ \t]*$|^{escape}[ \t]*$")
        self._ends_in_escape = re.compile(rf"{escape}\s*$")
        self._start = directives.lines
        self.lines = list(source)
        self.heredocs: dict[int, tuple[tuple[Heredoc, ...], int]] = {}
        self.keywords: dict[int, str] = {}
        self.ends: dict[int, int] = {}
        if directives.lines:
            # dockerfile-parse misses an escape directive that is not the first.
            self.lines[: directives.lines] = [_COMMENT] * directives.lines
            self.lines[0] = f"# escape={directives.escape}"

    def normalise(self) -> None:
        position = self._start
        while position < len(self._source):
            line = self._source[position].lstrip()
            if not line or line.startswith(_COMMENT):
                if line and position:
                    self.lines[position] = _COMMENT
                position += 1
                continue
            position = self._instruction(position)

    def _instruction(self, start: int) -> int:
        """Prepare the instruction that begins at *start*; return where the next may begin."""
        logical, last, following = self._joined(start)
        keyword, *more = logical.split(None, 1)
        rest = more[0] if more else ""
        self.keywords[start] = keyword
        self.ends[start] = last
        first = self._continued.sub(lambda m: m[1] or "", self._source[start])
        if last > start and re.match(r"\s*\S+\s", first) is None:
            # The keyword ends, or is broken, at the end of the line.
            self.lines[start] = logical + (_HIDDEN if self._ends_in_escape.search(logical) else "")
            self.lines[start + 1 : last + 1] = [_COMMENT] * (last - start)
        name = keyword.upper()
        if name == "ONBUILD" and rest:
            name, _, rest = rest.partition(" ")
            name = name.upper()
        if name in _WITH_HEREDOCS and "<<" in rest:
            following = self._lift_heredocs(start, rest, following)
        return following

    def _joined(self, start: int) -> tuple[str, int, int]:
        """Join the lines of one instruction.

        Returns its text, the last line that is part of it, and the line after it.
        """
        logical = ""
        last = position = start
        while position < len(self._source):
            line = self._source[position]
            stripped = line.strip()
            if position > start and (not stripped or stripped.startswith(_COMMENT)):
                self.lines[position] = _COMMENT
                position += 1
                continue
            last = position
            match = self._continued.search(line)
            if match is None:
                logical += line
                if self._ends_in_escape.search(line):
                    self.lines[position] = line + _HIDDEN
                return logical, last, position + 1
            logical += line[: match.start()] + (match[1] or "")
            position += 1
        # The file ends inside a continuation: dockerfile-parse would lose the instruction.
        self.lines[last] = self._continued.sub(lambda m: m[1] or "", self._source[last])
        return logical, last, position

    def _lift_heredocs(self, start: int, rest: str, position: int) -> int:
        found: list[Heredoc] = []
        for fd, name, expand, chomp in _heredoc_names(rest, self._escape):
            body: list[str] = []
            while True:
                if position >= len(self._source):
                    raise LineError(
                        f"the here-document {name} does not end",
                        start + 1,
                        f"end it with a line that holds {name} alone",
                    )
                line = self._source[position]
                self.lines[position] = _COMMENT
                position += 1
                if (line.lstrip("\t") if chomp else line) == name:
                    break
                body.append(f"{line}\n")
            found.append(Heredoc(name, "".join(body), expand, chomp, fd))
        if found:
            self.heredocs[start] = (tuple(found), position - 1)
        return position


def _heredoc_names(rest: str, escape: str) -> Iterator[tuple[int, str, bool, bool]]:
    """Yield file descriptor, name, whether to expand, and whether to strip tabs."""
    try:
        words = Lexer(escape, raw_quotes=True, raw_escapes=True, skip_unset=True).expand_words(
            re.sub(r"<<(-?)[ \t]+", r"<<\1", rest), {}
        )
    except WordError:
        return
    if rest.lstrip().startswith("["):
        return
    for word in words:
        match = _HEREDOC.fullmatch(word)
        if match is None or not match[3]:
            continue
        name = Lexer(escape, skip_unset=True).expand(match[3], {})
        yield int(match[1] or 0), name, name == match[3], bool(match[2])
