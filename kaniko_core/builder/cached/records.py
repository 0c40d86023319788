"""What the keys of a build were made of, kept for the next build to compare with its own.

A record names all that each key follows from, and has a *mark* of each value: two bytes of a
hash. That is enough to see that a value is another one (all but one of 65,536 times), and too
little to find out a password by trying: whoever can read the cache can read its records.

    {"format": 1, "coarseness": 0,
     "stages": [{"name": "build", "number": 0, "start": {…}, "steps": [
       {"keyword": "COPY", "text": "9f86", "parts": {"platform": {"": "d081"}}, "hints": {},
        "files": {"src/a.c": "kind=file;mode=7d65;content=884c"}}]}]}

Where there are more files than anybody would want to read of, whole directories have one mark:
the sum of the marks of what is in them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from kaniko_core.builder.cached.keys import StageKeys, StepKey
from kaniko_core.builder.plan import Plan
from kaniko_core.cache.key import Part, key_of
from kaniko_core.dockerfile.instructions import From, Instruction
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform

FILE = "file"
KIND = "kind"
# The parts that stand for what lies below a step.
BELOW = frozenset({"after"})
MOST_FILES = 100_000
_FORMAT = 1
_MARK_BYTES = 2
_MARKS = 1 << (8 * _MARK_BYTES)
# Bytes. A record of as many files as there may be takes a fraction of it.
_LARGEST = 64 << 20
_COARSEST = 2
# What is better takes five times as long, for a hundredth of the size.
_COMPRESSION = 6
# Characters of a field that many files have in common, such as a mode.
_SHORT = 20

Marks = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What is kept of one step, or of what a stage starts from.

    Attributes:
        keyword: the instruction's name, in upper case.
        text: mark of the instruction as it was written.
        parts: marks of the parts of its key by kind and name, but for files.
        hints: marks of the variables that its words use.
        files: by name, a mark for each field: ``kind=file;mode=7d65``, the kind itself
            excepted; of a directory with all that is in it, one mark alone.
    """

    keyword: str
    text: str
    parts: Marks = field(default_factory=dict)
    hints: Marks = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def below(self) -> Marks:
        """Marks of what the step lies on; none where that makes no difference."""
        return {part: mark for part, mark in self.parts.items() if part[0] in BELOW}


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What is kept of one stage; *name* is empty where the Dockerfile gives none."""

    name: str
    number: int
    start: StepRecord
    steps: tuple[StepRecord, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of one build.

    Attributes:
        stages: those that were planned, by number.
        coarseness: 0 where files are named, 1 where their directories are, 2 where only the
            first components of their names are.
    """

    stages: tuple[StageRecord, ...]
    coarseness: int = 0

    @classmethod
    def of(
        cls, plan: Plan, keys: Mapping[int, StageKeys], *, most_files: int = MOST_FILES
    ) -> Record:
        """Return what is to be known of *plan*, whose steps have *keys*.

        Where they read more than *most_files*, these are not named.
        """
        stages = []
        files = sum(part.kind == FILE for stage in keys.values() for part in _all_parts(stage))
        coarseness = 1 if files > most_files else 0
        for number, found in sorted(keys.items()):
            planned = plan.stages[number]
            instructions = planned.instructions
            stages.append(
                StageRecord(
                    planned.stage.start.name or "",
                    number,
                    _step(planned.stage.start, StepKey("", found.start_parts), coarseness),
                    tuple(
                        _step(instructions[position], step, coarseness)
                        for position, step in sorted(found.steps.items())
                    ),
                )
            )
        record = cls(tuple(stages), coarseness)
        names = sum(len(step.files) for stage in stages for step in (stage.start, *stage.steps))
        return record.coarsened(_COARSEST) if names > most_files else record

    def coarsened(self, coarseness: int) -> Record:
        """Return the record with as much of its files' names as that; finer it cannot become."""
        if coarseness <= self.coarseness:
            return self
        stages = tuple(
            replace(
                stage,
                start=_coarsened(stage.start, coarseness),
                steps=tuple(_coarsened(step, coarseness) for step in stage.steps),
            )
            for stage in self.stages
        )
        return Record(stages, coarseness)

    def to_bytes(self) -> bytes:
        """Return the record as it is kept: the same bytes for the same record."""
        data = {
            "format": _FORMAT,
            "coarseness": self.coarseness,
            "stages": [
                {
                    "name": stage.name,
                    "number": stage.number,
                    "start": _step_json(stage.start),
                    "steps": [_step_json(step) for step in stage.steps],
                }
                for stage in self.stages
            ],
        }
        # Names that are no UTF-8 have lone surrogates, which only escapes can hold.
        text = json.dumps(data, separators=(",", ":"))
        return gzip.compress(text.encode(), _COMPRESSION, mtime=0)

    @classmethod
    def parse(cls, raw: bytes) -> Record | None:
        """Read what :meth:`to_bytes` wrote; None for all that this version did not write."""
        try:
            data = json.loads(_unpacked(raw))
            if data["format"] != _FORMAT:
                return None
            stages = tuple(
                StageRecord(
                    str(stage["name"]),
                    int(stage["number"]),
                    _step_of(stage["start"]),
                    tuple(_step_of(step) for step in stage["steps"]),
                )
                for stage in data["stages"]
            )
            return cls(stages, int(data["coarseness"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
            return None


def record_name(path: str, target: str, platform: Platform) -> str:
    """Return the name under which the record of a Dockerfile is kept.

    Args:
        path: which Dockerfile; of all that share the cache.
        target: the stage that is built.
        platform: what for.
    """
    parts = (
        Part("dockerfile", "", path),
        Part("target", "", target),
        Part("platform", "", platform.complete),
    )
    return f"explain-{key_of(parts)[:32]}"


def record(plan: Plan, keys: Mapping[int, StageKeys]) -> bytes:
    """Return what the next build needs to know, to say what changed: no values, only marks."""
    return Record.of(plan, keys).to_bytes()


def keyword(instruction: Instruction | From) -> str:
    """Return the name of an instruction; of a trigger, what it triggers."""
    return type(instruction).__name__.upper()


def _all_parts(stage: StageKeys) -> Iterable[Part]:
    yield from stage.start_parts
    for step in stage.steps.values():
        yield from step.parts


def _step(instruction: Instruction | From, step: StepKey, coarseness: int) -> StepRecord:
    text = instruction.source.text
    known: dict[str, str] = {}
    files = {
        part.name: _file_marks_of(part.value, known) for part in step.parts if part.kind == FILE
    }
    found = StepRecord(
        keyword=keyword(instruction),
        text=_mark(" ".join(text.split())),
        parts=_marks(part for part in step.parts if part.kind != FILE),
        hints=_marks(step.hints),
        files=files,
    )
    return _coarsened(found, coarseness)


def _marks(parts: Iterable[Part]) -> Marks:
    """Return the marks of parts; those that have kind and name in common have one together."""
    found: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        found.setdefault((part.kind, part.name), []).append(_mark(part.value))
    return {what: marks[0] if len(marks) == 1 else _mark(*marks) for what, marks in found.items()}


def _mark(*values: str | bytes) -> str:
    state = hashlib.blake2b(digest_size=_MARK_BYTES)
    for value in values:
        # As for keys: what is JSON elsewhere may have lone surrogates.
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def _file_marks_of(value: str | bytes, known: dict[str, str]) -> str:
    """Return a mark for each field of a file; *known* has those of short ones, for many files."""
    if isinstance(value, bytes):
        return f"={_mark(value)}"
    found = []
    for item in value.split(";"):
        mark = known.get(item)
        if mark is None:
            mark = _field_mark(item)
            if len(item) <= _SHORT:
                known[item] = mark
        found.append(mark)
    return ";".join(found)


def _field_mark(item: str) -> str:
    name, equals, value = item.partition("=")
    if not equals:
        return f"={_mark(item)}"
    # What kind of file it is tells people what to call it, and nobody anything else.
    return item if name == KIND else f"{name}={_mark(value)}"


def _coarsened(step: StepRecord, coarseness: int) -> StepRecord:
    if not coarseness:
        return step
    sums: dict[str, int] = {}
    for name, marks in step.files.items():
        first, slash, _ = name.partition("/")
        directory = name.rpartition("/")[0] if coarseness == 1 else first if slash else ""
        # What has no fields has been summed up already.
        mark = _mark(name, marks) if "=" in marks else marks
        sums[f"{directory}/"] = (sums.get(f"{directory}/", 0) + int(mark, 16)) % _MARKS
    return replace(
        step, files={name: f"{total:0{2 * _MARK_BYTES}x}" for name, total in sums.items()}
    )


def _step_json(step: StepRecord) -> dict[str, Any]:
    return {
        "keyword": step.keyword,
        "text": step.text,
        "parts": _nested(step.parts),
        "hints": _nested(step.hints),
        "files": dict(step.files),
    }


def _nested(marks: Marks) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for (kind, name), mark in marks.items():
        found.setdefault(kind, {})[name] = mark
    return found


def _step_of(data: Any) -> StepRecord:
    return StepRecord(
        keyword=str(data["keyword"]),
        text=str(data["text"]),
        parts=_flat(data["parts"]),
        hints=_flat(data["hints"]),
        files={str(name): _file_marks(marks) for name, marks in data["files"].items()},
    )


def _file_marks(data: Any) -> str:
    if "=" not in data:
        int(data, 16)
    return str(data)


def _flat(data: Any) -> Marks:
    return {
        (str(kind), str(name)): str(mark)
        for kind, names in data.items()
        for name, mark in names.items()
    }


def _unpacked(raw: bytes) -> bytes:
    """Return what was compressed, as far as a record can go: a cache may hold anything."""
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(raw, _LARGEST)
