"""The results for readers: a table in text, the same in Markdown, and the verdicts.

Each builder of each scenario has a line; so has the limit. A dash says that nothing was measured,
or that there is nothing to compare with. Rows are made once, and both tables are made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bars import Verdict, of_own_bar
from benchmarks.numbers import Limit, Outcome, Results

_MEGABYTE = 1_000_000
_DASH = "-"
HEADINGS = (
    "builder",
    "wall s",
    "spread s",
    "cpu s",
    "peak MB",
    "disk MB",
    "net MB",
    "requests",
    "layers got",
    "new MB",
    "x limit",
    "x best peer",
)
_OVERVIEW = ("scenario", "ours s", "best peer s", "commands s", "limit s", "bar", "measured", "")
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A scenario's lines below its title."""

    name: str
    title: str
    rows: tuple[Row, ...]


def table(name: str, title: str, outcome: Outcome, *, on_disk: bool) -> Table:
    """Make the table of a scenario.

    Args:
        name: of the scenario.
        title: what it is.
        outcome: what was measured.
        on_disk: whether files were on a disk; in memory, nothing is written to one.
    """
    rows = [_row(builder, outcome, on_disk=on_disk) for builder in outcome.costs]
    if commands := outcome.commands():
        spread = _spread([limit.commands for limit in outcome.limits if limit.commands])
        rows.append(_short("the commands themselves", commands, spread))
    if limit := outcome.limit():
        spread = _spread([sum(each.parts.values()) for each in outcome.limits])
        beyond = "limit beyond them" if outcome.commands() else "limit"
        rows.append(_short(beyond, limit, spread))
    return Table(name, title, tuple(rows))


def _row(builder: str, outcome: Outcome, *, on_disk: bool) -> Row:
    costs = outcome.costs[builder]
    seconds, limit = outcome.median(builder, "seconds"), outcome.limit()
    best = outcome.best()
    cpu, requests = outcome.median(builder, "cpu"), outcome.median(builder, "requests")
    return (
        builder,
        _number(seconds),
        _spread([cost.seconds for cost in costs]),
        _number(cpu) if cpu else _DASH,
        _megabytes(outcome.median(builder, "memory")),
        _megabytes(outcome.median(builder, "disk")) if on_disk else _DASH,
        _megabytes(outcome.median(builder, "network")),
        f"{requests:.0f}" if requests else _DASH,
        # Without requests, nobody counted; with them, none is what a reader looks for.
        f"{outcome.median(builder, 'blobs'):.0f}" if requests else _DASH,
        _megabytes(outcome.median(builder, "pushed")),
        _ratio(seconds - outcome.commands(), limit),
        _ratio(seconds, best[1]) if best and builder == "ours" else _DASH,
    )


def _short(name: str, seconds: float, spread: str) -> Row:
    return (name, _number(seconds), spread, *([_DASH] * (len(HEADINGS) - 3)))


def _number(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.3f}"


def _spread(seconds: Sequence[float]) -> str:
    return f"{_number(min(seconds))}-{_number(max(seconds))}"


def _megabytes(number: float) -> str:
    megabytes = number / _MEGABYTE
    if not megabytes:
        return _DASH
    # What is less than a kilobyte is not nothing.
    return f"{megabytes:.1f}" if megabytes >= 1 else f"{max(megabytes, 0.001):.3f}"


def _ratio(value: float, of: float) -> str:
    return f"{value / of:.2f}" if of else _DASH


def overview(outcomes: Mapping[str, Outcome], verdicts: Sequence[Verdict]) -> tuple[Row, ...]:
    """Make one line for each scenario that ours took part in, below a line of headings."""
    rows = [_OVERVIEW]
    for name, outcome in outcomes.items():
        if "ours" not in outcome.costs:
            continue
        own = of_own_bar(name, verdicts)
        best = outcome.best()
        rows.append(
            (
                name,
                _number(outcome.median("ours", "seconds")),
                f"{_number(best[1])} ({best[0]})" if best else _DASH,
                _number(outcome.commands()) if outcome.commands() else _DASH,
                _number(outcome.limit()) if outcome.limit() else _DASH,
                own.bar if own else _DASH,
                f"{own.measured:.2f}" if own else _DASH,
                _met(own) if own else _DASH,
            )
        )
    return tuple(rows)


# --- text ------------------------------------------------------------------------------------


def in_text(tables: Iterable[Table]) -> str:
    """Return tables for a terminal."""
    return "\n\n".join(
        f"{each.name}: {each.title}\n{_aligned((HEADINGS, *each.rows))}" for each in tables
    )


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def parts_in_text(limits: Mapping[str, Sequence[Limit]]) -> str:
    """Return what the limits are made of: each tool's seconds in each turn, and the pipe's."""
    lines = []
    for name, turns in limits.items():
        tools = {tool: None for turn in turns for tool in turn.parts}
        told = [
            f"{tool} {_spread([t.parts[tool] for t in turns if tool in t.parts])}" for tool in tools
        ]
        told += [f"(as one pipe {_number(turn.pipe)})" for turn in turns if turn.pipe]
        if told:
            lines.append(f"  {name}: {', '.join(told)}")
    return "\n".join(lines)


def overview_in_text(rows: Sequence[Row]) -> str:
    """Return the overview for a terminal."""
    return _aligned(rows)


def verdicts_in_text(verdicts: Iterable[Verdict]) -> str:
    """Return a line for each verdict, those that were missed first."""
    ordered = sorted(verdicts, key=lambda verdict: verdict.met)
    return _aligned([_judged(verdict) for verdict in ordered]) if ordered else ""


def _judged(verdict: Verdict) -> Row:
    shares = (f"{verdict.measured:.2f}", f"{verdict.share:.2f}")
    return (verdict.scenario, verdict.bar, *shares, _met(verdict))


def _met(verdict: Verdict) -> str:
    return "met" if verdict.met else "MISSED"


# --- Markdown --------------------------------------------------------------------------------


def in_markdown(
    tables: Iterable[Table], verdicts: Sequence[Verdict], results: Results, parts: str
) -> str:
    """Return all of it as a piece of a page: headings of the third level, and tables."""
    about = results.about
    pieces = [
        f"Measured {about['date']} at {about['commit']}, all work {_place(about['place'])}, "
        f"{about['processors']} processors, Linux {about['kernel']}, Python {about['python']}; "
        f"medians of {about['runs']} runs. A limit is the sum of its tools: "
        + ", ".join(f"`{tool}`" for tool in about["tools"].values())
        + ", `curl` and `tar`.",
        _pipes(overview(results.outcomes, verdicts)),
    ]
    for each in tables:
        pieces += [f"### {each.name}", f"{each.title}", _pipes((HEADINGS, *each.rows))]
    judged = [_judged(verdict) for verdict in verdicts]
    headings = ("scenario", "bar", "measured", "of what is allowed", "")
    pieces += ["### The bars", _pipes((headings, *judged))]
    pieces += [
        "### What the limits are made of",
        "Seconds, from least to most.",
        f"```\n{parts}\n```",
    ]
    for scenario, failure in results.failures.items():
        pieces.append(f"{scenario} failed: {failure.splitlines()[0]}")
    return "\n\n".join(pieces) + "\n"


def _place(place: str) -> str:
    return "in memory" if place == "memory" else "on disk"


def _pipes(rows: Sequence[Row]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join((head, "|---" * len(rows[0]) + "|", *body))
