"""Rules about how instructions are written: they need no variables, and no image."""

from __future__ import annotations

from collections.abc import Sequence

from kaniko_core.dockerfile.checks.findings import Findings, quoted
from kaniko_core.dockerfile.checks.policy import is_check
from kaniko_core.dockerfile.flags import split_flags
from kaniko_core.dockerfile.forms import split_keyword, split_space, split_words
from kaniko_core.dockerfile.instructions import Source
from kaniko_core.dockerfile.stages import Dockerfile

_RESERVED = frozenset({"context", "scratch"})
_WITH_ALIAS = 3  # words of FROM: image, AS, name


def check_spelling(source: Source, findings: Findings) -> None:
    """Apply the rules that look at one instruction, even where it cannot be parsed."""
    if source.gap:
        # The line on which the text ends, as in BuildKit; which line is empty, nobody keeps.
        findings.add("NoEmptyContinuation", source, "Empty continuation line", line=source.gap)
    match source.keyword.upper():
        case "FROM":
            _check_from(source, findings)
        case "MAINTAINER":
            findings.add(
                "MaintainerDeprecated",
                source,
                "Maintainer instruction is deprecated in favor of using label",
            )


def check_description(source: Source, escape: str, findings: Findings) -> None:
    """Apply the rule about comments above FROM and ARG; *source* can be parsed."""
    comments = [comment for comment in source.comments if not is_check(comment)]
    keyword = source.keyword.upper()
    names: Sequence[str] = ()
    if keyword == "FROM":
        words = _arguments(source)
        names = [words[2].lower()] if len(words) == _WITH_ALIAS else []
    elif keyword == "ARG":
        rest = split_flags(split_keyword(source.text)[1])[1]
        names = [word.partition("=")[0] for word in split_words(rest, escape)]
    if not names or not comments or comments[-1].partition(" ")[0] in names:
        return
    name = names[0] if len(names) == 1 else "<arg_key>"
    findings.add(
        "InvalidDefinitionDescription",
        source,
        f"Comment for {keyword} should follow the format: `# {name} <description>`",
    )


def check_names(dockerfile: Dockerfile, findings: Findings) -> None:
    """Apply the rules about names of stages."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        name = stage.start.name
        if name is None:
            continue
        if name in _RESERVED:
            findings.add(
                "ReservedStageName",
                stage.start.source,
                f"Stage name should not use the same name as reserved stage {quoted(name)}",
            )
        if name in seen:
            findings.add(
                "DuplicateStageName",
                stage.start.source,
                f"Duplicate stage name {quoted(name)}, stage names should be unique",
            )
        seen.add(name)


def check_casing(dockerfile: Dockerfile, findings: Findings) -> None:
    """Apply the rule that the instructions of all stages are in one case: the more frequent."""
    sources = [
        item.source for stage in dockerfile.stages for item in (stage.start, *stage.instructions)
    ]
    lower = sum(source.keyword.islower() for source in sources)
    upper = sum(source.keyword.isupper() for source in sources)
    for source in sources:
        keyword = source.keyword
        wanted = keyword.lower() if lower > upper else keyword.upper()
        if keyword != wanted:
            findings.add(
                "ConsistentInstructionCasing",
                source,
                f"Command '{keyword}' should match the case of the command majority "
                f"({'lowercase' if lower > upper else 'uppercase'})",
            )


def _check_from(source: Source, findings: Findings) -> None:
    words = _arguments(source)
    if len(words) < _WITH_ALIAS:
        return
    keyword, alias, name = source.keyword, words[1], words[2]
    if len(words) == _WITH_ALIAS and name != name.lower():
        findings.add("StageNameCasing", source, f"Stage name '{name}' should be lowercase")
    # A FROM in mixed case is for ConsistentInstructionCasing to name.
    cased = alias.lower() if keyword.islower() else alias.upper()
    if (keyword.islower() or keyword.isupper()) and alias != cased:
        findings.add(
            "FromAsCasing", source, f"'{alias}' and '{keyword}' keywords' casing do not match"
        )


def _arguments(source: Source) -> tuple[str, ...]:
    return split_space(split_flags(split_keyword(source.text)[1])[1].strip())
