"""What --explain says: names of what changed, and no values."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from kaniko_core.builder.cached.explain import Outcome, explain, record, record_name
from kaniko_core.builder.cached.keys import StageKeys, StepKey
from kaniko_core.builder.cached.records import Record
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.planner import make_plan
from kaniko_core.cache.key import Part, key_of
from kaniko_core.context.named import NamedContexts
from kaniko_core.dockerfile.instructions import Add, Copy, Run, Workdir
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.oci.platform import Platform
from kaniko_core.steps.step import Missing

AMD64 = Platform("linux", "amd64")
ABSENT = Outcome(Missing.ABSENT)
Keys = Mapping[int, StageKeys]
Places = Mapping[tuple[int, int], Outcome]


def plan_of(text: str, **contexts: str) -> Plan:
    return make_plan(
        parse_dockerfile(text.encode(), "Dockerfile"),
        build_platform=AMD64,
        target_platform=AMD64,
        contexts=NamedContexts.parse(contexts.items()),
    )


def keys_of(
    plan: Plan,
    parts: Mapping[int, Sequence[Part]] | None = None,
    hints: Mapping[int, Sequence[Part]] | None = None,
    base: str = "chain",
) -> Keys:
    """Return keys as the builder would make them, with *parts* of the steps by their lines."""
    found: dict[int, StageKeys] = {}
    for number, planned in plan.stages.items():
        start_parts = (Part("image", "base", base),)
        after = start = key_of(start_parts)
        steps: dict[int, StepKey] = {}
        for position, instruction in enumerate(planned.instructions):
            if not isinstance(instruction, Run | Copy | Add | Workdir):
                continue
            line = instruction.source.line
            own = (
                Part("after", "", after),
                Part("command", "", " ".join(instruction.source.text.split())),
                *(parts or {}).get(line, ()),
            )
            after = key_of(own)
            steps[position] = StepKey(after, own, tuple((hints or {}).get(line, ())))
        found[number] = StageKeys(start, start_parts, steps, after)
    return found


def all_missed(plan: Plan, keys: Keys, outcome: Outcome = ABSENT) -> Places:
    return {(number, position): outcome for number in keys for position in keys[number].steps}


def explained(
    before: str,
    now: str,
    parts: Mapping[int, Sequence[Part]] | None = None,
    old_parts: Mapping[int, Sequence[Part]] | None = None,
    outcome: Outcome = ABSENT,
) -> str:
    """Return what is said where every step was missed."""
    old, plan = plan_of(before), plan_of(now)
    keys = keys_of(plan, parts)
    previous = record(old, keys_of(old, old_parts))
    return explain(plan, keys, all_missed(plan, keys, outcome), previous)


def file(name: str, **fields: str) -> Part:
    values = {"kind": "file", "mode": "0644", "owner": "0:0", "content": "1", **fields}
    return Part("file", name, ";".join(f"{key}={value}" for key, value in values.items()))


def causes(now: Sequence[Part], before: Sequence[Part]) -> list[str]:
    """Return what is said of a step with these parts that had those."""
    text = "FROM a\nCOPY . /x\n"
    first, *lines = explained(text, text, {2: now}, {2: before}).splitlines()
    assert first == "Dockerfile:2 COPY . /x"
    return [line.removeprefix("    ") for line in lines]


# --- why a step was missed --------------------------------------------------------------------


def said_of(text: str, outcome: Outcome) -> str:
    plan = plan_of(f"FROM a\n{text}\n")
    keys = keys_of(plan)
    said = explain(plan, keys, {(0, 0): outcome}, record(plan, keys))
    place, cause = said.splitlines()
    assert place == f"Dockerfile:2 {text}"
    return cause.strip()


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        (Missing.ABSENT, "it was not in the cache"),
        (Missing.EXPIRED, "expired"),
        (Missing.LOST, "its layer is gone from the cache"),
        (Missing.UNREACHABLE, "the cache could not be asked"),
        (Missing.OFF, "RUN layers are not cached (--cache-run-layers)"),
    ],
)
def test_reason_of_the_cache(why: Missing, cause: str) -> None:
    assert said_of("RUN make", Outcome(why)) == cause


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("COPY a b", "COPY layers are not cached (--cache-copy-layers)"),
        ("ADD a b", "ADD layers are not cached (--cache-copy-layers)"),
        ("WORKDIR /a", "WORKDIR layers are not cached (--cache-run-layers)"),
    ],
)
def test_kind_of_step_that_is_not_cached(text: str, flag: str) -> None:
    assert said_of(text, Outcome(Missing.OFF)) == flag


@pytest.mark.parametrize("why", [None, Missing.ABSENT])
def test_step_that_was_made_on_something_else(why: Missing | None) -> None:
    said = said_of("RUN make", Outcome(why, culprit="line 5"))
    assert said == "was made on another result of line 5"


def test_steps_that_were_found_are_not_spoken_of() -> None:
    plan = plan_of("FROM a\nRUN one\nRUN two\nRUN three\n")
    keys = keys_of(plan)
    outcomes = {(0, 0): Outcome(), (0, 1): ABSENT, (0, 2): Outcome()}
    said = explain(plan, keys, outcomes, record(plan, keys))
    assert said == "Dockerfile:3 RUN two\n    it was not in the cache\n"


def test_a_build_that_found_everything() -> None:
    plan = plan_of("FROM a\nRUN one\n")
    keys = keys_of(plan)
    assert explain(plan, keys, {(0, 0): Outcome()}, None) == "every step was in the cache\n"


def test_a_build_without_steps() -> None:
    plan = plan_of("FROM a\nENV a=b\n")
    assert explain(plan, keys_of(plan), {}, None) == ""


@pytest.mark.parametrize(
    "previous",
    [None, b"", b"nonsense", gzip.compress(b"[]"), gzip.compress(b'{"format": 0}')],
    ids=["none", "empty", "nonsense", "other JSON", "other format"],
)
def test_first_build(previous: bytes | None) -> None:
    plan = plan_of("FROM a\nRUN one\n")
    keys = keys_of(plan)
    assert explain(plan, keys, all_missed(plan, keys), previous) == (
        "nothing is known of an earlier build, so nobody can say what changed since\n"
        "Dockerfile:2 RUN one\n"
        "    it was not in the cache\n"
    )


def test_reason_of_the_cache_comes_before_what_changed() -> None:
    text = "FROM a\nCOPY . /x\n"
    said = explained(
        text, text, {2: [file("a", content="2")]}, {2: [file("a")]}, Outcome(Missing.OFF)
    )
    assert said.splitlines()[1:] == [
        "    COPY layers are not cached (--cache-copy-layers)",
        "    file a changed",
    ]


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"content": "2"}, "file a changed"),
        ({"mode": "0755"}, "file a has another mode"),
        ({"owner": "1:1"}, "file a has another owner"),
        ({"mode": "0755", "owner": "1:1"}, "file a has another mode and has another owner"),
        ({"mode": "0755", "content": "2"}, "file a changed"),
        ({"kind": "directory", "content": "2"}, "file a is a directory now"),
        ({"kind": "symlink"}, "file a is a link now"),
        ({"kind": "fifo"}, "file a changed"),
        ({"target": "b"}, "file a points elsewhere"),
        ({"to": "b"}, "file a goes elsewhere"),
        ({"attributes": "1"}, "file a has other attributes"),
        ({"device": "1:3"}, "file a has other attributes"),
    ],
)
def test_what_of_a_file_changed(fields: dict[str, str], phrase: str) -> None:
    assert causes([file("a", **fields)], [file("a")]) == [phrase]


@pytest.mark.parametrize(
    ("kind", "word"),
    [("directory", "directory"), ("symlink", "link"), ("hardlink", "file"), ("fifo", "file")],
)
def test_word_for_a_kind_of_file(kind: str, word: str) -> None:
    assert causes([file("a", kind=kind)], []) == [f"{word} a is new"]


def test_files_that_came_and_went() -> None:
    now, before = [file("a"), file("c")], [file("a"), file("b")]
    assert causes(now, before) == ["file b is gone", "file c is new"]


def test_directory_stands_for_what_came_or_went_with_it() -> None:
    now = [file("a", kind="directory"), file("a/x"), file("a/y", kind="directory"), file("a/y/z")]
    assert causes(now, []) == ["directory a is new"]
    assert causes([], now) == ["directory a is gone"]


def test_what_changed_in_a_directory_is_named() -> None:
    directory = file("a", kind="directory")
    now, before = [directory, file("a/x", content="2"), file("a/y")], [directory, file("a/x")]
    assert causes(now, before) == ["file a/x changed", "file a/y is new"]


def test_first_files_are_named_and_the_others_counted() -> None:
    names = [f"f{number:02}" for number in range(22)]
    said = causes([file(name) for name in names], [file(name, content="2") for name in names])
    assert said == [*(f"file f0{n} changed" for n in range(5)), "and 17 more files"]


def test_name_with_other_characters_is_quoted() -> None:
    said = causes([file("a\nb"), file("\udcff")], [])
    assert said == [r"file 'a\nb' is new", r"file '\udcff' is new"]


def test_content_that_looks_like_fields_is_not_lost() -> None:
    now = file("a", target="x;mode=0755;content=")
    assert causes([now], [file("a", target="x;mode=0755;content=1")]) != []


# --- arguments, variables, and words ----------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "phrase"),
    [
        (Part("argument", "VERSION", "2"), "argument VERSION changed"),
        (Part("variable", "PATH", "2"), "variable PATH changed"),
        (Part("variable", "OF_JSON", "\ud800"), "variable OF_JSON changed"),
        (Part("stage", "build", "2"), "stage build changed"),
        (Part("image", "busybox:1", "2"), "image busybox:1 is another one"),
        (Part("platform", "", "2"), "the platform changed"),
        (Part("user", "", "2"), "the user changed"),
        (Part("network", "", "2"), "its network changed"),
        (Part("chmod", "", "2"), "--chmod changed"),
        (Part("mount", "/cache", "2"), "mount /cache changed"),
        (Part("mount", "", "2"), "a mount changed"),
    ],
)
def test_part_that_changed(part: Part, phrase: str) -> None:
    assert causes([part], [replace(part, value="1")]) == [phrase]


def test_variables_that_came_and_went() -> None:
    now, before = [Part("variable", "NEW", "")], [Part("variable", "OLD", "")]
    assert causes(now, before) == ["variable NEW is new", "variable OLD is gone"]


def test_parts_of_one_name_are_looked_at_together() -> None:
    one, two = Part("source", "", "1"), Part("source", "", "2")
    assert causes([one, two], [two, one]) == ["its source changed"]
    assert causes([one, two], [one, two]) == ["it was not in the cache"]


def test_variable_in_the_words_is_named_and_not_the_words() -> None:
    text = "FROM a\nCOPY $FROM /x\n"
    plan = plan_of(text)
    old = keys_of(plan, {2: [Part("source", "", "one")]}, {2: [Part("argument", "FROM", "one")]})
    keys = keys_of(plan, {2: [Part("source", "", "two")]}, {2: [Part("argument", "FROM", "two")]})
    said = explain(plan, keys, all_missed(plan, keys), record(plan, old))
    assert said.splitlines()[1:] == ["    argument FROM changed"]


def test_variable_that_changes_nothing_is_not_named() -> None:
    """``${A:+x}`` is the same for many values."""
    plan = plan_of("FROM a\nCOPY ${A:+x} /x\nRUN y\n")
    old = keys_of(plan, {}, {2: [Part("argument", "A", "1")]})
    keys = keys_of(plan, {3: [Part("user", "", "u")]}, {2: [Part("argument", "A", "2")]})
    said = explain(plan, keys, {(0, 1): ABSENT}, record(plan, old))
    assert said == "Dockerfile:3 RUN y\n    the user changed\n"


# --- instructions -----------------------------------------------------------------------------


def test_instruction_that_changed() -> None:
    said = explained("FROM a\nRUN one\nRUN two\n", "FROM a\nRUN one\nRUN 2\n")
    assert said == (
        "Dockerfile:2 RUN one\n"
        "    it was not in the cache\n"
        "Dockerfile:3 RUN 2\n"
        "    the instruction changed\n"
    )


def test_inserted_instruction_is_new_and_the_others_follow_it() -> None:
    said = explained("FROM a\nRUN one\nRUN two\n", "FROM a\nRUN one\nCOPY a b\nRUN two\n")
    assert said.splitlines()[2:] == [
        "Dockerfile:3 COPY a b",
        "    the instruction is new",
        "Dockerfile:4 RUN two",
        "    follows a step that changed (line 3)",
    ]


def test_first_of_several_changes_is_the_one_that_is_followed() -> None:
    said = explained(
        "FROM a\nRUN one\nRUN two\nRUN three\nRUN four\n",
        "FROM a\nRUN 1\nRUN two\nRUN 3\nRUN four\n",
    )
    assert [line for line in said.splitlines() if line.startswith(" ")] == [
        "    the instruction changed",
        "    follows a step that changed (line 2)",
        "    follows a step that changed (line 2)",
        "    the instruction changed",
        "    follows a step that changed (line 2)",
    ]


def test_step_behind_one_that_was_removed() -> None:
    said = explained("FROM a\nRUN one\nRUN two\n", "FROM a\nRUN two\n")
    assert said.splitlines()[1:] == ["    follows other steps than before"]


def test_comments_blanks_and_lines_make_no_difference() -> None:
    said = explained("FROM a\nRUN one  two\n", "FROM a\n\n# why\nRUN one \\\n  two\n")
    assert said == "Dockerfile:4 RUN one two\n    it was not in the cache\n"


def test_instruction_belongs_to_one_of_its_kind_where_its_text_changed() -> None:
    said = explained("FROM a\nRUN one\nCOPY a b\n", "FROM a\nCOPY a c\n")
    assert said.splitlines()[1:] == [
        "    follows other steps than before",
        "    the instruction changed",
    ]


def test_long_instruction_is_cut() -> None:
    said = explained("FROM a\n", f"FROM a\nRUN {'x' * 200}\n")
    place = said.splitlines()[0]
    assert len(place) < 100
    assert place.endswith("x…")


def test_what_cannot_be_shown_is_quoted() -> None:
    said = explained("FROM a\n", "FROM a\nRUN echo '\x1b[1m'\n")
    assert said.splitlines()[0] == "Dockerfile:2 " + repr("RUN echo '\x1b[1m'")


def test_step_that_is_independent_now_does_not_follow_others() -> None:
    before, now = (plan_of(f"FROM a\n{text}\n") for text in ("COPY a b", "COPY --link a b"))
    old, keys = keys_of(before), keys_of(now, base="new")
    step = keys[0].steps[0]
    alone = replace(keys[0], steps={0: replace(step, parts=step.parts[1:])})
    said = explain(now, {0: alone}, {(0, 0): ABSENT}, record(before, old))
    assert said.splitlines()[1:] == ["    the instruction changed"]


def test_here_document_is_shown_by_its_first_line() -> None:
    said = explained("FROM a\n", "FROM a\nRUN <<EOF\nsecond\nEOF\n")
    assert said.splitlines()[0] == "Dockerfile:2 RUN <<EOF"


# --- bases and stages -------------------------------------------------------------------------


def test_base_image_that_is_another_one() -> None:
    plan = plan_of("FROM debian:12\nRUN one\nRUN two\n")
    keys, old = keys_of(plan, base="new"), keys_of(plan)
    said = explain(plan, keys, all_missed(plan, keys), record(plan, old))
    assert said == (
        "Dockerfile:2 RUN one\n"
        "    the base image debian:12 is another one\n"
        "Dockerfile:3 RUN two\n"
        "    the base image debian:12 is another one\n"
    )


def test_stage_that_starts_from_one_that_changed() -> None:
    plan = plan_of("FROM a AS build\nRUN one\nFROM build\nRUN two\n")
    old = keys_of(plan)
    first = keys_of(plan, {2: [Part("argument", "A", "1")]})
    start = (Part("stage", "build", first[0].final),)
    second = StageKeys(
        key_of(start),
        start,
        {0: StepKey("k", (Part("after", "", key_of(start)), *old[1].steps[0].parts[1:]))},
        "k",
    )
    old_start = (Part("stage", "build", old[0].final),)
    old_second = replace(old[1], start_parts=old_start)
    said = explain(
        plan, {0: first[0], 1: second}, {(1, 0): ABSENT}, record(plan, {0: old[0], 1: old_second})
    )
    assert said == "Dockerfile:4 RUN two\n    stage build changed\n"


def starting_with(plan: Plan, *start: Part) -> Keys:
    """Return the keys of a plan with one stage, which starts from *start*."""
    after = key_of(start)
    own = Part("command", "", "x")
    step = StepKey("k", (Part("after", "", after), own))
    return {0: StageKeys(after, start, {0: step}, "k")}


def test_scratch_for_another_platform() -> None:
    plan = plan_of("FROM scratch\nRUN x\n")
    old, keys = (starting_with(plan, Part("platform", "", arch)) for arch in ("amd64", "arm64"))
    said = explain(plan, keys, {(0, 0): ABSENT}, record(plan, old))
    assert said == "Dockerfile:2 RUN x\n    the platform changed\n"


def test_context_as_a_base() -> None:
    plan = plan_of("FROM files\nRUN x\n", files="docs")
    old, keys = (starting_with(plan, file("a", content=content)) for content in "12")
    previous = record(plan, old)
    said = explain(plan, keys, {(0, 0): ABSENT}, previous)
    assert said == "Dockerfile:2 RUN x\n    context files changed\n"
    said = explain(plan, keys, {(0, -1): ABSENT}, previous)
    assert said == ("Dockerfile:1 FROM files\n    context files changed\n    file a changed\n")


def test_stage_that_is_new() -> None:
    said = explained(
        "FROM a\nRUN one\n", "FROM a AS x\nRUN two\nFROM a\nRUN one\nCOPY --from=x / /\n"
    )
    assert said.splitlines()[:2] == ["Dockerfile:2 RUN two", "    the stage is new"]


def test_stages_belong_together_by_what_they_do_where_they_have_no_name() -> None:
    before = "FROM a\nRUN one\nRUN two\n"
    now = "FROM a AS new\nRUN x\nFROM a\nRUN one\nRUN two\nCOPY --from=new /a /a\n"
    said = explained(before, now).splitlines()
    assert said[2:] == [
        "Dockerfile:4 RUN one",
        "    it was not in the cache",
        "Dockerfile:5 RUN two",
        "    it was not in the cache",
        "Dockerfile:6 COPY --from=new /a /a",
        "    the instruction is new",
    ]


def test_stage_with_a_new_name_is_known_by_what_it_does() -> None:
    before = "FROM a AS old\nRUN one\nFROM b\nCOPY --from=0 /a /a\n"
    now = "FROM a AS other\nRUN one\nFROM b\nCOPY --from=0 /a /a\n"
    assert "is new" not in explained(before, now)


def test_stage_that_is_one_layer_is_explained_as_a_whole() -> None:
    plan = plan_of("FROM a\nCOPY . /x\nRUN two\n")
    keys = keys_of(plan, {2: [file("a", content="2")]})
    previous = record(plan, keys_of(plan, {2: [file("a")]}))
    assert explain(plan, keys, {(0, -1): Outcome(Missing.OFF)}, previous) == (
        "Dockerfile:1 FROM a\n"
        "    layers are not cached (--cache-run-layers)\n"
        "    line 2: file a changed\n"
    )


# --- the record -------------------------------------------------------------------------------


def test_record_is_the_same_for_the_same_keys() -> None:
    plan = plan_of("FROM a\nCOPY . /x\n")
    parts = {2: [file("a"), Part("variable", "A", "b")]}
    assert record(plan, keys_of(plan, parts)) == record(plan, keys_of(plan, parts))


def test_record_that_is_read_is_the_one_that_was_written() -> None:
    plan = plan_of("FROM a AS b\nCOPY . /x\nRUN y\nFROM b\nRUN z\n")
    keys = keys_of(plan, {2: [file("a"), file("\udcff")]}, {3: [Part("argument", "A", "1")]})
    assert Record.parse(record(plan, keys)) == Record.of(plan, keys)


def test_no_value_is_in_the_record_nor_in_the_text() -> None:
    secret, other = "hunter2-and-more", "correct-horse"
    text = "FROM a\nARG TOKEN\nRUN curl $TOKEN\nCOPY $TOKEN /x\n"
    plan = plan_of(text)

    def keys(value: str) -> Keys:
        parts = [
            Part("argument", "TOKEN", value),
            Part("variable", "TOKEN", value),
            Part("variable", "RAW", value.encode()),
            Part("mount", "/run/secrets/id", value),
            file("a", content=value),
            Part("file", "b", value),
            Part("file", "c", value.encode()),
        ]
        hints = [Part("argument", "TOKEN", value)]
        return keys_of(plan, {3: parts, 4: parts}, {3: hints, 4: hints})

    previous = record(plan, keys(secret))
    said = explain(plan, keys(other), all_missed(plan, keys(other)), previous)
    assert "argument TOKEN changed" in said
    for value in (secret, other):
        assert value not in said
        assert value.encode() not in gzip.decompress(previous)


def test_marks_are_too_short_to_try_passwords_against() -> None:
    plan = plan_of("FROM a\nRUN x\n")
    data = json.loads(
        gzip.decompress(record(plan, keys_of(plan, {2: [Part("variable", "A", "1")]})))
    )
    assert len(data["stages"][0]["steps"][0]["parts"]["variable"]["A"]) == 4


def test_record_of_very_many_files_names_their_directories() -> None:
    plan = plan_of("FROM a\nCOPY . /x\n")
    old = [file(f"{top}/{low}/{n}") for top in "ab" for low in "xy" for n in range(10)]
    now = [file("a/x/0", content="2"), *old[1:]]
    records = [Record.of(plan, keys_of(plan, {2: p}), most_files=20) for p in (old, now)]
    files = [dict(item.stages[0].steps[0].files) for item in records]
    assert sorted(files[0]) == ["a/x/", "a/y/", "b/x/", "b/y/"]
    assert [name for name in files[0] if files[0][name] != files[1][name]] == ["a/x/"]


def test_record_of_very_many_directories_names_the_first_of_them() -> None:
    plan = plan_of("FROM a\nCOPY . /x\n")
    parts = [file(f"{top}/{low}/f") for top in "ab" for low in "xyz"] + [file("f")]
    found = Record.of(plan, keys_of(plan, {2: parts}), most_files=3)
    assert sorted(found.stages[0].steps[0].files) == ["/", "a/", "b/"]


@pytest.mark.parametrize("most", [1000, 20, 3])
def test_records_of_any_coarseness_can_be_compared(most: int) -> None:
    plan = plan_of("FROM a\nCOPY . /x\n")
    old = [file(f"{top}/{low}/{n}") for top in "ab" for low in "xy" for n in range(10)]
    now = [file("a/x/0", content="2"), *old[1:]]
    previous = Record.of(plan, keys_of(plan, {2: old}), most_files=most).to_bytes()
    keys = keys_of(plan, {2: now})
    said = explain(plan, keys, all_missed(plan, keys), previous).splitlines()[1:]
    assert said == [
        {1000: "    file a/x/0 changed", 20: "    files in a/x/ changed"}.get(
            most, "    files in a/ changed"
        )
    ]


def test_coarsening_in_steps_gives_what_coarsening_at_once_gives() -> None:
    plan = plan_of("FROM a\nCOPY . /x\n")
    parts = [file(name) for name in ("a", "b/c", "b/d/e", "b/d/f", "g/h/i")]
    fine = Record.of(plan, keys_of(plan, {2: parts}))
    assert fine.coarsened(1).coarsened(2) == fine.coarsened(2)


def test_record_that_bursts_is_no_record() -> None:
    """A cache may hold anything."""
    bomb = gzip.compress(b'{"format": 1, "stages": "' + b" " * (80 << 20) + b'"}', 1)
    assert Record.parse(bomb) is None


def test_records_have_names_of_their_own() -> None:
    names = [
        record_name("Dockerfile", "", AMD64),
        record_name("a/Dockerfile", "", AMD64),
        record_name("Dockerfile", "a", AMD64),
        record_name("Dockerfile", "", Platform("linux", "arm64")),
    ]
    assert len(set(names)) == 4
    assert all(len(name) == len("explain-") + 32 for name in names)
    assert record_name("Dockerfile", "", AMD64) == names[0]
