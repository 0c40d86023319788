"""Real Dockerfiles are read as BuildKit reads them."""

from __future__ import annotations

from typing import Any

from kaniko_core.dockerfile.directives import read_directives
from kaniko_core.dockerfile.flags import split_flags
from kaniko_core.dockerfile.lines import logical_lines
from kaniko_core.dockerfile.parser import parse_dockerfile
from tests.dockerfile import described, tables

TABLE = "dockerfiles-parsed.json"


def encoded(case: dict[str, Any]) -> bytes:
    return str(case["text"]).encode("utf-8", "surrogateescape")


def test_keywords_flags_lines_heredocs_and_comments_are_those_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> object:
        _, lines = logical_lines(encoded(case))
        return [
            (
                line.keyword,
                split_flags(line.rest)[0],
                line.line,
                line.end_line,
                [described.heredoc(found) for found in line.heredocs],
                list(line.comments),
            )
            for line in lines
        ]

    def theirs(out: dict[str, Any]) -> object:
        return [
            (
                node["value"],
                node.get("flags", []),
                node["start_line"],
                node["end_line"],
                node.get("heredocs", []),
                node.get("prev_comment") or [],
            )
            for node in out["ast"]
        ]

    tables.check(TABLE, ours, theirs)


def test_instructions_are_those_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> object:
        found = parse_dockerfile(encoded(case), "Dockerfile")
        stages = [
            (
                stage.start.image,
                stage.start.name or "",
                stage.start.platform or "",
                [described.ours(instruction) for instruction in stage.instructions],
            )
            for stage in found.stages
        ]
        return found.escape, [described.ours(arg) for arg in found.arguments], stages

    def theirs(out: dict[str, Any]) -> object:
        if "instructions_error" in out:
            return tables.REFUSED
        stages = [
            (
                stage["base"],
                stage["name"],
                stage["platform"],
                [described.theirs(command) for command in stage["commands"] or []],
            )
            for stage in out["stages"]
        ]
        return out["escape"], [described.theirs(arg) for arg in out["meta_args"] or []], stages

    tables.check(TABLE, ours, theirs)


def test_directives_are_those_of_the_table() -> None:
    def ours(case: dict[str, Any]) -> object:
        lines = case["text"].removeprefix("\ufeff").split("\n")
        return read_directives(lines).values.get(case["key"], "")

    tables.check("directives.json", ours, lambda out: out["cmdline"])
