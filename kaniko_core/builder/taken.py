"""What COPY and ADD take: their source words, here-documents and files, wherever they go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kaniko_core.builder.configure import StageState, expand, located
from kaniko_core.builder.destination import Defaults, Destination
from kaniko_core.builder.files import Changes, FileCopier
from kaniko_core.builder.parents import Pivot
from kaniko_core.builder.source import CopySource, InlineFile, LocalWord, Match, SourceItem
from kaniko_core.builder.wanted import is_remote_word
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.instructions import Add, Copy, Heredoc
from kaniko_core.dockerfile.words import Lexer
from kaniko_core.errors import KanikoError
from kaniko_core.lean import dataclass
from kaniko_core.oci.entry import Entry

# What a single file is called here: where it goes decides its name.
_ONE_FILE = b"file"


@dataclass(frozen=True, slots=True)
class TakenFiles:
    """What one match of a source word gives.

    Attributes:
        match: the file; or the directory whose contents are taken.
        entries: with names below the directory; of a file there is one, whose name says nothing.
    """

    match: Match
    entries: list[Entry]

    def path(self, entry: Entry) -> bytes:
        """Return where the file is that *entry* was made of: in the tree, as it was named."""
        if not self.match.is_directory:
            return self.match.path
        top = self.match.resolved
        return top + b"/" + entry.name if top else entry.name


def source_entries(
    instruction: Copy | Add, state: StageState, origin: CopySource
) -> list[TakenFiles]:
    """Return the files of *origin* that a COPY or ADD takes, as they would be in an empty image.

    Errors are those of :func:`kaniko_core.builder.copy.copy_entries`, but for what only the tree
    that is copied into could refuse. ``--chown`` changes nothing, an archive stays a file, and
    what ADD fetches is left out.

    Args:
        instruction: as it was parsed; its words are expanded here.
        state: the stage before it.
        origin: where local sources are.

    Raises:
        DockerfileError: a source is missing, or cannot be one.
        ContextError: a source cannot be read.
        ContentError: a file cannot be stored in a layer.
    """
    instruction = expand(state, instruction)
    with located(instruction.source):
        words = source_words(instruction)
        local = [
            word for word in words if isinstance(instruction, Copy) or not is_remote_word(word)
        ]
        items: list[SourceItem] = [LocalWord(word) for word in local]
        items += inline_files(instruction, state)
        refuse_impossible(instruction, items, fetched=len(words) - len(local))
        return [taken for word in local for taken in _taken(word, instruction, origin)]


def _taken(word: str, instruction: Copy | Add, origin: CopySource) -> Iterator[TakenFiles]:
    filters = exclusions(instruction)
    if not isinstance(instruction, Copy) or not instruction.parents:
        found: Iterator[Match] = iter(origin.find(word))
    else:
        pivot = Pivot.of(word)
        filters = (*filters, *pivot.filters)
        found = tops(origin, word, pivot)
    for match in found:
        destination = Destination(None, Defaults())
        owner = None if origin.keep_owners else (0, 0)
        changes = Changes(owner, instruction.chmod or None)
        copier = FileCopier(origin, destination, changes, filters)
        if match.is_directory:
            copier.contents(match, b"")
        elif copier.wants(match):
            copier.file(match, _ONE_FILE)
        else:
            continue
        yield TakenFiles(match, destination.entries())


def source_words(instruction: Copy | Add) -> list[str]:
    """Return the source words that are no here-documents, as they are in *instruction*."""
    names = {f"<<{heredoc.name}" for heredoc in instruction.heredocs}
    return [word for word in instruction.sources if word not in names]


def inline_files(instruction: Copy | Add, state: StageState) -> list[InlineFile]:
    """Return the here-documents as files, expanded by the variables in force.

    Raises:
        KanikoError: one cannot be expanded, or its name is none for a file.
    """
    variables = state.scope.variables
    return [_inline_file(heredoc, variables) for heredoc in instruction.heredocs]


def _inline_file(heredoc: Heredoc, variables: Mapping[str, str]) -> InlineFile:
    if heredoc.name in (".", "..") or not {"/", "\0"}.isdisjoint(heredoc.name):
        raise KanikoError(
            f"the here-document <<{heredoc.name} is no name for a file",
            hint="its word becomes the file's name; say in the destination where it goes",
        )
    text = heredoc.body
    if heredoc.expand:
        # The escape directive has no say in a body, and quotes in it are the file's.
        text = Lexer("\\", skip_quotes=True).expand(text, variables)
    return InlineFile(heredoc.name, text.encode("utf-8", "surrogateescape"))


def refuse_impossible(
    instruction: Copy | Add, items: Sequence[SourceItem], *, fetched: int = 0
) -> None:
    """Refuse what no source of that kind can be.

    Args:
        instruction: with its words expanded.
        items: its sources.
        fetched: how many more there are, which come from elsewhere.

    Raises:
        KanikoError: there is such a source.
    """
    if isinstance(instruction, Copy):
        for item in items:
            if isinstance(item, LocalWord) and is_remote_word(item.text):
                raise KanikoError(
                    f'COPY does not fetch "{item.text}": its sources are files',
                    hint="ADD fetches URLs and git repositories",
                )
    elif instruction.checksum:
        if len(items) + fetched > 1:
            raise KanikoError(
                f"ADD --checksum is for one source, and there are {len(items) + fetched}",
                hint="write an ADD for each of them",
            )
        if items and isinstance(items[0], LocalWord | InlineFile):
            raise KanikoError(
                "ADD --checksum is for URLs and git repositories, and this source is neither",
                hint="leave it out: the context's files are copied as they are",
            )


def tops(origin: CopySource, word: str, pivot: Pivot) -> Iterator[Match]:
    """Yield the directories of *origin* that ``--parents`` looks into for *word*.

    Raises:
        KanikoError: what *word* names is not in one of them.
    """
    for top in origin.find(pivot.top):
        # What a wildcard before the pivot matches has to be a directory.
        if top.is_directory:
            if pivot.plain_name:
                origin.expect(word, top, pivot.plain_name)
            yield top


def exclusions(instruction: Copy | Add) -> tuple[IgnorePatterns, ...]:
    """Return what ``--exclude`` leaves out."""
    patterns = instruction.exclude
    return (IgnorePatterns(patterns),) if patterns else ()
