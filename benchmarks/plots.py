"""Pictures of results: ``python -m benchmarks.plots FILE.json… DIRECTORY``.

Of a run of ``python -m benchmarks``, the seconds of every builder and the limit as bars; of a run
of ``python -m benchmarks.growth``, time and memory against size. They are SVG, for documents, and
the same numbers always make the same bytes. Backgrounds are white, for pages that are dark.

Matplotlib draws them, which is an extra: ``pip install 'kaniko-py[bench]'``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEGABYTE = 1_000_000
_OURS, _LIMIT = "#1f5fa8", "#444444"
# Colours that people who see few of them tell apart, too (Okabe and Ito).
_OTHERS = ("#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_MARKS = "os^Dv"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "kaniko-py",  # else every drawing names its clips anew
    "svg.fonttype": "none",  # letters as letters: small, and a browser's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


def draw(results: Path, directory: Path, *more: Path) -> list[Path]:
    """Draw what the file of numbers has, and *more* such files; return the pictures.

    Files of growth become one picture: where two have the same scenario, the later counts.

    Raises:
        SystemExit: there is no matplotlib.
    """
    figures: dict[str, Figure] = {}
    grown: dict[str, Any] = {}
    with _style():
        for file in (results, *more):
            values = json.loads(file.read_text())
            grown |= values.get("growth", {})
            if "scenarios" in values:
                figures["performance"] = bars(values)
        if grown:
            figures["performance-growth"] = growth(grown)
        directory.mkdir(parents=True, exist_ok=True)
        return [_saved(figure, directory / f"{name}.svg") for name, figure in figures.items()]


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError:
        raise SystemExit(
            "benchmarks: pictures take matplotlib: pip install 'kaniko-py[bench]'"
        ) from None
    matplotlib.use("agg")
    with matplotlib.rc_context(_STYLE):
        yield


def _saved(figure: Figure, path: Path) -> Path:
    # A date would make every drawing another file.
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    return path


# --- builders beside each other -----------------------------------------------------------------


def seconds(values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return median seconds by scenario and builder; the last of each may be ``limit``."""
    found: dict[str, dict[str, float]] = {}
    for scenario, builders in values["scenarios"].items():
        found[scenario] = {
            name: statistics.median(cost["seconds"] for cost in builder["costs"])
            for name, builder in builders.items()
        }
        turns: Sequence[Mapping[str, float]] = values["limits"].get(scenario, ())
        parts = dict.fromkeys(part for turn in turns for part in turn)
        commands = values["commands"].get(scenario, [0.0])
        if parts:
            # What the Dockerfile itself runs, no builder can avoid.
            found[scenario]["limit"] = statistics.median(commands) + sum(
                statistics.median(turn[part] for turn in turns if part in turn) for part in parts
            )
    return found


def bars(values: Mapping[str, Any]) -> Figure:
    """Draw the seconds of every builder in every scenario, and the limit, as bars."""
    from matplotlib.figure import Figure

    times = seconds(values)
    names = {name: None for builders in times.values() for name in builders if name != "limit"}
    others = [name for name in names if name != "ours"]
    order = ["ours", *others, "limit"]
    colours = {"ours": _OURS, "limit": _LIMIT} | dict(zip(others, _OTHERS * 9, strict=False))
    longest = max(value for builders in times.values() for value in builders.values())
    rows = sum(len(builders) + 1 for builders in times.values())
    figure = Figure(figsize=(7.2, 0.9 + 0.17 * rows), layout="constrained")
    axes = figure.subplots()
    row, labels = 0.0, []
    for scenario, builders in times.items():
        present = [name for name in order if name in builders]
        labels.append((row + (len(present) - 1) / 2, scenario))
        for name in present:
            value = builders[name]
            axes.barh(row, value, height=0.86, color=colours[name])
            axes.text(value + longest / 150, row, f"{value:.2f}", va="center", fontsize=7)
            row += 1
        row += 1
    axes.set_yticks([at for at, _ in labels], [label for _, label in labels])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(row - 1, -1)
    axes.set_xlabel("seconds, median; less is better")
    _legend(axes, [name for name in order if any(name in b for b in times.values())], colours)
    return figure


def _legend(axes: Axes, names: Sequence[str], colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    words = {"ours": "kaniko-py", "limit": "limit: the same work with C tools"}
    patches = [Patch(color=colours[name], label=words.get(name, name)) for name in names]
    axes.legend(handles=patches, loc="lower right")


# --- growth -------------------------------------------------------------------------------------


def growth(values: Mapping[str, Any]) -> Figure:
    """Draw time and memory against size: a row for each axis of growth."""
    from matplotlib.figure import Figure

    by_axis: dict[str, dict[str, Any]] = {}
    for name, scenario in values.items():
        by_axis.setdefault(scenario["axis"], {})[name] = scenario["points"]
    figure = Figure(figsize=(7.2, 0.3 + 2.1 * len(by_axis)), layout="constrained")
    grid = figure.subplots(len(by_axis), 2, squeeze=False)
    for (axis, lines), (left, right) in zip(by_axis.items(), grid, strict=True):
        _draw_time(left, lines)
        _draw_memory(right, lines)
        sizes = sorted({int(point["size"]) for points in lines.values() for point in points})
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xticks(sizes, [rounded(size) for size in sizes])
            axes.set_xticks([], minor=True)
            axes.set_xlabel(axis)
    grid[0][0].set_title("time")
    grid[0][1].set_title("peak memory of all processes")
    return figure


def rounded(count: int) -> str:
    """Put a count into few letters: ``100k``."""
    for unit, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:g}{letter}"
    return str(count)


def _draw_time(axes: Axes, lines: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    colours = dict(zip(lines, (_OURS, *_OTHERS), strict=False))
    for (name, points), mark in zip(lines.items(), _MARKS, strict=False):
        sizes = [point["size"] for point in points]
        times = [point["seconds"] for point in points]
        axes.plot(sizes, times, f"-{mark}", markersize=4, color=colours[name], label=name)
        # Where it would be if what the largest took were a constant and a price for each.
        each = (times[-1] - times[0]) / (sizes[-1] - sizes[0]) if len(sizes) > 1 else 0.0
        start = times[0] - each * sizes[0]
        between = [sizes[0] * (sizes[-1] / sizes[0]) ** (step / 20) for step in range(21)]
        axes.plot(between, [start + each * size for size in between], ":", color="#888888", lw=1)
    axes.plot([], [], ":", color="#888888", lw=1, label="linear")
    axes.set_yscale("log")
    axes.set_ylim(bottom=min(0.45, *axes.get_ylim()))
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("seconds")
    axes.legend(fontsize=7)


def _draw_memory(axes: Axes, lines: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    colours = dict(zip(lines, (_OURS, *_OTHERS), strict=False))
    for (name, points), mark in zip(lines.items(), _MARKS, strict=False):
        peaks = [point["memory"] / _MEGABYTE for point in points]
        sizes = [point["size"] for point in points]
        axes.plot(sizes, peaks, f"-{mark}", markersize=4, color=colours[name], label=name)
    axes.set_ylim(0, 220)
    axes.axhline(200 * 1.048576, color=_LIMIT, lw=1, ls="--")
    axes.text(0.02, 0.93, "200 MiB", transform=axes.transAxes, va="top", fontsize=7)
    axes.set_ylabel("MB")


def main() -> None:
    """Draw the files that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files of numbers")
    parser.add_argument("directory", type=Path, help="where pictures go")
    arguments = parser.parse_args()
    first, *more = arguments.results
    for picture in draw(first, arguments.directory, *more):
        print(f"picture: {picture}")


if __name__ == "__main__":
    main()
