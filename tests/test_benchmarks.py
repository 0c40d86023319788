"""The parts of the benchmarks that measure nothing: medians, bars, tables, command lines."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks import bars, limits, numbers, peers, scenarios, tables
from benchmarks.__main__ import main
from benchmarks.instruments import INSTRUMENTS
from benchmarks.limits import Tools
from benchmarks.measure import CommandError, Cost, measure
from benchmarks.numbers import Limit, Outcome, Results
from integration.world import REPOSITORY

ABOUT = {
    "commit": "0123abc",
    "date": "2026-11-22T05:00:00Z",
    "place": "memory",
    "runs": 3,
    "python": "3.11.7",
    "kernel": "6.18",
    "processors": 2,
    "tools": {"gunzip": "igzip -d -c"},
}
TOOLS = Tools(("igzip", "-d", "-c"), ("igzip", "-1", "-c"), ("sha256sum",))


def costs(*seconds: float, memory: int = 80 << 20, blobs: int = 0) -> list[Cost]:
    return [Cost(each, each, memory, memory, blobs=blobs) for each in seconds]


def an_outcome() -> Outcome:
    return Outcome(
        {"ours": costs(3.0, 2.0, 2.5), "buildah": costs(9, 11, 10), "podman": costs(12)},
        [Limit({"curl": 0.5, "tar x": 1.0}), Limit({"curl": 0.7, "tar x": 2.0}), Limit({})],
    )


# --- medians ------------------------------------------------------------------------------


def test_a_limit_is_the_sum_of_the_medians_of_its_parts() -> None:
    assert an_outcome().limit() == pytest.approx(0.6 + 1.5)


def test_commands_that_were_not_timed_count_nothing() -> None:
    assert an_outcome().commands() == 0
    assert Outcome({}, [Limit({}, 3.0), Limit({}, None), Limit({}, 5.0)]).commands() == 4


def test_the_best_peer_is_the_fastest_that_is_not_ours() -> None:
    assert an_outcome().best() == ("buildah", 10)
    assert Outcome({"ours": costs(1)}).best() is None


# --- the file -----------------------------------------------------------------------------


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = Results(ABOUT, {"large-base": an_outcome()}, {"warmed": "no room"})
    written.outcomes["large-base"].limits = [Limit({"curl": 0.5}, 3.0, 4.0), Limit({"curl": 0.6})]
    written.write(tmp_path / "results.json", bars.verdicts(written.outcomes))

    read = numbers.read(tmp_path / "results.json")

    assert read == written


def test_the_file_says_what_the_package_promises(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(ABOUT, {"large-base": an_outcome()}).write(path, [])
    values = json.loads(path.read_text())

    assert values["limits"]["large-base"] == [
        {"curl": 0.5, "tar x": 1.0},
        {"curl": 0.7, "tar x": 2},
    ]
    assert set(values["scenarios"]["large-base"]["ours"]["costs"][0]) == {
        field.name for field in fields(Cost)
    }
    assert values["pipes"] == {}


def test_of_several_files_the_latest_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    Results(ABOUT, {"a": Outcome({"ours": costs(1)})}, {"b": "failed"}).write(one)
    Results(ABOUT, {"b": Outcome({"ours": costs(2)})}).write(two)

    both = numbers.merged([one, two])

    assert set(both.outcomes) == {"a", "b"}
    assert both.failures == {}


def test_files_of_different_places_are_not_merged(tmp_path: Path) -> None:
    paths = [tmp_path / f"{place}.json" for place in ("disk", "memory")]
    for path in paths:
        Results({**ABOUT, "place": path.stem}, {"a": Outcome({"ours": costs(1)})}).write(path)
    with pytest.raises(SystemExit, match="elsewhere"):
        numbers.merged(paths)


def test_to_show_a_file_writes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = tmp_path / "1.json", tmp_path / "kept"
    Results(ABOUT, {"large-base": an_outcome()}).write(path)
    monkeypatch.setattr(numbers, "DIRECTORY", kept)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--show", str(path)])
    main()
    assert not kept.exists()


# --- bars ---------------------------------------------------------------------------------


def verdict(name: str, bar: str, outcomes: bars.Outcomes) -> bars.Verdict:
    [found] = [v for v in bars.verdicts(outcomes) if (v.scenario, v.bar) == (name, bar)]
    return found


def test_every_scenario_has_a_bar_and_every_bar_a_scenario() -> None:
    known = {each.name for each in (*scenarios.SCENARIOS, *INSTRUMENTS)}
    assert {bar.scenario for bar in bars.BARS} == known


def test_a_build_is_held_to_a_multiple_of_the_limit() -> None:
    found = verdict("large-base", "<= 1.3 x the limit", {"large-base": an_outcome()})
    assert found.measured == pytest.approx(2.5 / 2.1)
    assert found.met


def test_what_the_commands_take_is_not_held_against_the_builder() -> None:
    outcome = Outcome({"ours": costs(2.0)}, [Limit({"tar c": 0.5}, 1.5)])
    found = verdict("many-files", "<= 1.3 x the limit", {"many-files": outcome})
    assert found.measured == pytest.approx(1.0)


def test_stages_are_held_to_the_longest() -> None:
    outcome = Outcome({"ours": costs(4.5)}, [Limit({"curl": 0.1}, 3.0)])
    found = verdict("stages", "<= 1.4 x the longest stage", {"stages": outcome})
    assert found.measured == pytest.approx(1.5)
    assert not found.met
    assert found.share == pytest.approx(1.5 / 1.4)


def test_more_runs_are_compared_with_one_run_of_the_same_benchmark() -> None:
    ten = Outcome({"ours": costs(3.4)})
    bar = "<= 0.12 s more for each RUN than large-base"
    found = verdict("ten-runs", bar, {"large-base": an_outcome(), "ten-runs": ten})
    assert found.measured == pytest.approx(0.1)
    assert bar not in [v.bar for v in bars.verdicts({"ten-runs": ten})]


def test_the_largest_memory_of_all_runs_counts() -> None:
    outcome = Outcome({"ours": [*costs(1), *costs(1, memory=300 << 20), *costs(1)]})
    found = verdict("rebuild", "<= 200 MiB", {"rebuild": outcome})
    assert (found.measured, found.met) == (300, False)


def test_a_rebuild_that_downloads_a_layer_once_is_told() -> None:
    outcome = Outcome({"ours": [*costs(1), *costs(1, blobs=1)]})
    found = verdict("rebuild", "no layer downloaded", {"rebuild": outcome})
    assert (found.measured, found.share, found.met) == (1, 1.0, False)


def test_ours_is_compared_with_each_peer() -> None:
    outcome = Outcome({"ours": costs(1), "buildah": costs(0.5), "podman": costs(2)})
    assert not verdict("rebuild", "faster than buildah", {"rebuild": outcome}).met
    assert verdict("rebuild", "faster than podman", {"rebuild": outcome}).measured == 0.5


def test_a_run_without_ours_is_not_judged() -> None:
    assert bars.verdicts({"help": Outcome({"buildah": costs(1)}), "version": Outcome()}) == []


# --- tables -------------------------------------------------------------------------------


def test_a_table_has_a_line_for_each_builder_and_for_the_limit() -> None:
    made = tables.table("large-base", "cold", an_outcome(), on_disk=False)
    assert [row[0] for row in made.rows] == ["ours", "buildah", "podman", "limit"]
    ours = dict(zip(tables.HEADINGS, made.rows[0], strict=True))
    assert ours["wall s"] == "2.50"
    assert ours["spread s"] == "2.00-3.00"
    assert ours["x limit"] == "1.19"
    assert ours["x best peer"] == "0.25"


def test_commands_have_a_line_of_their_own() -> None:
    outcome = Outcome({"ours": costs(2.0)}, [Limit({"tar c": 0.5}, 1.5)])
    made = tables.table("many-files", "many", outcome, on_disk=False)
    assert [row[:2] for row in made.rows[1:]] == [
        ("the commands themselves", "1.50"),
        ("limit beyond them", "0.50"),
    ]
    assert made.rows[0][-2] == "1.00"


@pytest.mark.parametrize(("on_disk", "shown"), [(True, "5.0"), (False, "-")])
def test_bytes_to_disk_are_only_told_of_a_disk(*, on_disk: bool, shown: str) -> None:
    outcome = Outcome({"ours": [Cost(1, 1, 1, 1, disk=5_000_000)]})
    made = tables.table("help", "help", outcome, on_disk=on_disk)
    assert made.rows[0][tables.HEADINGS.index("disk MB")] == shown


def test_the_columns_of_the_text_are_aligned() -> None:
    text = tables.in_text([tables.table("large-base", "cold", an_outcome(), on_disk=False)])
    title, *lines = text.splitlines()
    assert title == "large-base: cold"
    assert len({len(line) for line in lines}) == 1


def test_missed_bars_are_told_first() -> None:
    outcome = Outcome({"ours": costs(0.9), "buildah": costs(2)})
    told = tables.verdicts_in_text(bars.verdicts({"rebuild": outcome})).splitlines()
    assert "MISSED" in told[0]
    assert not any("MISSED" in line for line in told[1:])


def test_markdown_has_the_tables_the_bars_and_the_parts() -> None:
    measured = Results(ABOUT, {"large-base": an_outcome()}, {"warmed": "ours: no room\nmore"})
    made = tables.table("large-base", "cold", an_outcome(), on_disk=False)
    parts = tables.parts_in_text({"large-base": an_outcome().limits})
    page = tables.in_markdown([made], bars.verdicts(measured.outcomes), measured, parts)
    assert "### large-base\n\ncold\n\n| builder | wall s |" in page
    assert "| large-base | <= 1.3 x the limit | 1.19 | 0.92 | met |" in page
    assert "curl 0.50-0.70, tar x 1.00-2.00" in page
    assert "warmed failed: ours: no room\n" in page


def test_the_overview_has_the_scenarios_own_bar() -> None:
    outcomes = {"large-base": an_outcome(), "help": Outcome({"buildah": costs(1)})}
    rows = tables.overview(outcomes, bars.verdicts(outcomes))
    assert rows[1:] == (
        (
            *("large-base", "2.50", "10.00 (buildah)", "-", "2.10"),
            *("<= 1.3 x the limit", "1.19", "met"),
        ),
    )


def test_what_nobody_counted_is_no_zero() -> None:
    outcome = Outcome({"ours": [Cost(1, 0, 0, 0)], "buildah": [Cost(1, 1, 1, 1, requests=2)]})
    ours, buildah = tables.table("rebuild", "again", outcome, on_disk=False).rows
    assert ours[3:10] == ("-",) * 7
    assert buildah[tables.HEADINGS.index("layers got")] == "0"


# --- command lines ------------------------------------------------------------------------


def test_the_fastest_installed_tool_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pigz", "gzip", "sha256sum"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(os, "environ", {"PATH": str(tmp_path)})
    monkeypatch.setattr(
        limits, "missing_tools", lambda name: [name][: not (tmp_path / name).exists()]
    )
    tools = Tools.installed()
    assert (tools.gunzip[0], tools.gzip[0], tools.sha256[0]) == ("pigz", "pigz", "sha256sum")


def test_a_tool_of_which_no_kind_is_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "missing_tools", lambda name: [name])
    with pytest.raises(CommandError, match="none of these is installed: igzip, pigz, gzip"):
        Tools.installed()


def test_the_pipe_fails_with_any_of_its_tools() -> None:
    assert TOOLS.pipe("http://host/blob", Path("/there")) == (
        "bash",
        "-c",
        "set -o pipefail; curl --silent --show-error --fail http://host/blob"
        " | igzip -d -c | { tar -C /there -xf - && cat > /dev/null; }",
    )


def test_commands_run_in_the_root_with_an_environment_of_its_own() -> None:
    command = limits.in_chroot(Path("/root/of/image"), "echo one > /one")
    assert command[:2] == ("env", "-i")
    assert command[-5:] == ("chroot", "/root/of/image", "/bin/sh", "-c", "echo one > /one")


def test_a_tool_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(CommandError, match="ended with 3:\nno room"):
        limits.timed(("sh", "-c", "echo no room >&2; exit 3"))


def test_what_a_tool_writes_can_be_kept(tmp_path: Path) -> None:
    assert limits.timed(("echo", "this"), tmp_path / "written") > 0
    assert (tmp_path / "written").read_text() == "this\n"


def test_a_described_builder_fills_in_what_its_commands_name(tmp_path: Path) -> None:
    description = tmp_path / "other.toml"
    description.write_text(
        'name = "other"\n'
        'build = [["sh", "-c", "build {context} FROM {base} to {destination} in {directory}"]]\n'
    )
    other = peers.peer(str(description), tmp_path)
    expected = [["sh", "-c", f"build /context FROM base:1 to there:2 in {tmp_path}/other"]]
    assert other.build(Path("/context"), "base:1", "there:2") == expected
    assert other.rebuild(Path("/context"), "base:1", "there:2") == expected
    assert (other.help(), other.warm_again("base:1")) == ([], [])
    assert other.missing() == ""


def test_a_builder_that_is_not_installed_is_told(tmp_path: Path) -> None:
    description = tmp_path / "other.toml"
    description.write_text('name = "other"\nbuild = [["no-such-builder", "{context}"]]\n')
    assert peers.peer(str(description), tmp_path).missing() == "not installed: no-such-builder"


@pytest.mark.parametrize("text", ["", "name = ", 'name = "without a build"'])
def test_a_file_that_describes_no_builder_is_told(tmp_path: Path, text: str) -> None:
    description = tmp_path / "none.toml"
    description.write_text(text)
    with pytest.raises(ValueError, match=r"none\.toml does not describe a builder"):
        peers.peer(str(description), tmp_path)


# --- costs --------------------------------------------------------------------------------


def test_what_a_command_uses_is_counted_with_its_children(tmp_path: Path) -> None:
    work = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"
    cost = measure(
        [["sh", "-c", f"sh -c '{work}'"], ["true"]],
        env={"PATH": os.environ["PATH"]},
        log=tmp_path / "log",
        aside=frozenset(),
    )
    assert cost.cpu > 0
    assert cost.seconds > 0


def test_a_failing_command_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="ended with 7:\nwhat was wrong"):
        measure(
            [["sh", "-c", "echo what was wrong >&2; exit 7"]],
            env={"PATH": os.environ["PATH"]},
            log=tmp_path / "log",
            aside=frozenset(),
        )


_LEAVES_A_CHILD = """
import os, sys
from pathlib import Path
from benchmarks.measure import CommandError, adopt_orphans, measure
adopt_orphans()
try:
    script = "sleep 600 & echo begun; exit 3"
    measure([["sh", "-c", script]], env=dict(os.environ), log=Path(sys.argv[1]), aside=frozenset())
except CommandError:
    print("left:", Path(f"/proc/self/task/{os.getpid()}/children").read_text())
"""


def test_what_a_failed_command_left_running_is_ended(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEAVES_A_CHILD, str(tmp_path / "log")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout.split() == ["left:"]
