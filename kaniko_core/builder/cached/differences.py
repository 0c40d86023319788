"""What is different between two records of a step, as phrases for people: names, no values.

What a key was made of is told apart by the kinds of its parts (``inputs.py``). Those in ``_NAMED``
are said by name; so is ``file``, with what of it is another; ``after`` is what the step lies on,
and not its own. All other kinds follow from the words of the instruction, and from the variables
in them: where the text or a variable changed, that is said instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kaniko_core.builder.cached.records import BELOW, KIND, Marks, StepRecord

_MOST_FILES = 5
# By kind of part, what to say of one of them by name.
_NAMED = {
    "argument": "argument {}",
    "variable": "variable {}",
    "stage": "stage {}",
    "image": "image {}",
    "mount": "mount {}",
    "here-document": "here-document {}",
    "url": "the file behind {}",
    "git": "repository {}",
}
# Of the others, what to say where the words of the instruction are the same.
_OTHERS = {
    "base": "the base is another one",
    "command": "the command line changed",
    "epoch": "SOURCE_DATE_EPOCH changed",
    "ignored path": "the paths that are ignored changed",
    "latest time": "the latest time of files changed",
    "mode": "the mounted directory has another mode",
    "platform": "the platform changed",
    "user": "the user changed",
    "workdir": "the working directory changed",
}
_FLAGS = frozenset({"chmod", "chown", "exclude", "link", "parents", "unpack"})
# By field of a file, in the order in which they are said.
_FIELDS = {
    "target": "points elsewhere",
    "to": "goes elsewhere",
    "mode": "has another mode",
    "owner": "has another owner",
}
# What makes all else that is different not worth a word.
_ENOUGH = (KIND, "content")
_KINDS = {"directory": "directory", "symlink": "link"}


def differences(now: StepRecord, before: StepRecord) -> list[str]:
    """Return what is different of the step itself, not of what it lies on."""
    changed = {
        part: what
        for part, what in _changed(now.parts, before.parts).items()
        if part[0] not in BELOW
    }
    files = _files(now.files, before.files)
    words = [kind for kind, _ in changed if kind not in _NAMED]
    found = []
    if words and now.text != before.text:
        found.append("the instruction changed")
        words = []
    # Variables that the words use are named, if something came of it; that the words became
    # others then goes without saying.
    if (changed or files) and (hints := _phrases(_changed(now.hints, before.hints))):
        found += hints
    else:
        found += [_word(kind) for kind in words]
    found += _phrases(changed)
    found += files
    return list(dict.fromkeys(found))


def _changed(now: Marks, before: Marks) -> dict[tuple[str, str], str]:
    """Return the parts that differ, each with what happened to it, in the order of the key."""
    found = {
        part: "changed" if part in before else "is new"
        for part, mark in now.items()
        if before.get(part) != mark
    }
    return found | {part: "is gone" for part in before if part not in now}


def _word(kind: str) -> str:
    return f"--{kind} changed" if kind in _FLAGS else _OTHERS.get(kind, f"its {kind} changed")


def _phrases(changed: Mapping[tuple[str, str], str]) -> list[str]:
    return [_phrase(kind, name, what) for (kind, name), what in changed.items() if kind in _NAMED]


def _phrase(kind: str, name: str, what: str) -> str:
    if kind == "image" and what == "changed":
        what = "is another one"
    # A secret may be mounted where nobody says where.
    return f"{_NAMED[kind].format(shown(name))} {what}" if name else f"a {kind} {what}"


def _files(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Return what is different of the files: of the first few by name, of the others how many."""
    names = list(_worth_naming(now, before))
    found = [_file(name, now.get(name), before.get(name)) for name in names[:_MOST_FILES]]
    if more := len(names) - len(found):
        coarse = not any("=" in marks for marks in (*now.values(), *before.values()))
        thing = ("directory", "directories") if coarse else ("file", "files")
        found.append(f"and {more} more {thing[more > 1]}")
    return found


def _worth_naming(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of what differs; what came or went with its directory goes without saying."""
    whole: set[str] = set()
    # A directory comes before what is in it.
    for name in sorted(now.keys() | before.keys()):
        if now.get(name) == before.get(name):
            continue
        came_or_went = name not in now or name not in before
        if came_or_went:
            whole.add(name)
        if not (came_or_went and name.rpartition("/")[0] in whole):
            yield name


def _file(name: str, now: str | None, before: str | None) -> str:
    if "=" not in (now or before or ""):
        return f"files in {shown(name)} changed"
    fields, old = _read(now), _read(before)
    thing, was = _thing(fields or old), _thing(old or fields)
    if now is None or before is None:
        return f"{thing} {shown(name)} is {'gone' if now is None else 'new'}"
    if thing != was:
        return f"{was} {shown(name)} is a {thing} now"
    other = {key for key in fields | old if fields.get(key) != old.get(key)}
    if other.intersection(_ENOUGH):
        return f"{thing} {shown(name)} changed"
    said = [phrase for key, phrase in _FIELDS.items() if key in other]
    return f"{thing} {shown(name)} {' and '.join(said) or 'has other attributes'}"


def _thing(fields: Mapping[str, str]) -> str:
    return _KINDS.get(fields.get(KIND, ""), "file")


def _read(marks: str | None) -> dict[str, str]:
    return dict(item.split("=", 1) for item in marks.split(";")) if marks else {}


def shown(name: str) -> str:
    """Return a name as it can be shown in a line: quoted where it has other characters."""
    return name if name.isprintable() else repr(name)
