"""The parts of growth, pictures and profiles that need neither a clock nor a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks import growth, plots, profiling, sizes
from benchmarks.growth import Point
from integration.images import write_layout

REPOSITORY = Path(__file__).resolve().parents[1]


def points(*pairs: tuple[int, float]) -> list[Point]:
    return [Point(size, seconds, seconds, 60_000_000) for size, seconds in pairs]


# --- growth -------------------------------------------------------------------------------------


def test_a_constant_and_a_price_for_each_is_linear_growth() -> None:
    measured = points(*((size, 0.5 + size * 0.0001) for size in (1_000, 10_000, 100_000)))
    assert growth.exponent(measured) == pytest.approx(1)
    assert growth.price(measured[2], measured[0]) == pytest.approx(0.0001)


def test_quadratic_growth_is_told() -> None:
    measured = points(*((size, 0.5 + size**2 / 1e6) for size in (0, 1_000, 10_000)))
    assert growth.exponent(measured) == pytest.approx(2)


@pytest.mark.parametrize("middle", [0.5, 0.4, 0.51])
def test_no_exponent_is_made_of_noise(middle: float) -> None:
    assert growth.exponent(points((1, 0.5), (10, middle), (100, 3))) is None


def test_the_smallest_has_no_price() -> None:
    smallest = points((1, 0.5))[0]
    assert growth.price(smallest, smallest) is None


def test_a_table_has_a_line_for_each_size_and_one_about_growth() -> None:
    scenario = growth.SCENARIOS[0]
    measured = points((1_000, 1), (10_000, 1.2), (100_000, 3.2))
    lines = growth.table(scenario, measured).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["1,000", "10,000", "100,000"]
    assert lines[3].split()[3:5] == ["22.2", "µs"]
    assert lines[5].strip().startswith("grows with the power 1.0")


def test_a_table_of_some_sizes_says_nothing_of_growth() -> None:
    text = growth.table(growth.SCENARIOS[0], points((1_000, 1), (10_000, 1.2)))
    assert "power" not in text


def test_names_of_scenarios_are_told_apart() -> None:
    names = [scenario.name for scenario in growth.SCENARIOS]
    assert len(set(names)) == len(names)
    assert {scenario.axis for scenario in growth.SCENARIOS} == set(growth.AXES)


# --- inputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_500_000])
def test_content_has_the_size_that_was_asked_for(size: int) -> None:
    content = sizes.Content(size)
    pieces = iter(lambda: content.read(700_001), b"")
    assert sum(map(len, pieces)) == size


def test_content_is_the_same_every_time_and_compresses_to_about_half() -> None:
    data = sizes.Content(2 << 20).read(2 << 20)
    assert data == sizes.Content(2 << 20).read(2 << 20)
    assert 0.4 < len(gzip.compress(data, 1)) / len(data) < 0.7


def test_a_layer_is_what_its_digests_say(tmp_path: Path) -> None:
    descriptor, diff_id = sizes.layer(sizes.many_files(250), tmp_path)
    (blob,) = tmp_path.iterdir()
    packed = blob.read_bytes()
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert descriptor["size"] == len(packed)
    tar = gzip.decompress(packed)
    assert diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        kinds = [member.type for member in archive]
    assert kinds.count(tarfile.REGTYPE) == 250
    assert kinds.count(tarfile.DIRTYPE) == 3


def test_an_image_has_the_layers_of_the_one_below_and_its_own(tmp_path: Path) -> None:
    tar = io.BytesIO(bytes(10_240))
    write_layout(tmp_path / "below", tar, {"Env": ["A=b"]})
    layers = [sizes.numbered_file(number) for number in range(3)]
    made = sizes.image(tmp_path / "below", layers, tmp_path / "made")

    def blob(digest: str) -> bytes:
        data = (made / "blobs" / digest.replace(":", "/")).read_bytes()
        assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        return data

    index = json.loads((made / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))
    tars = [gzip.decompress(blob(descriptor["digest"])) for descriptor in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(t).hexdigest()}" for t in tars]
    assert config["config"] == {"Env": ["A=b"]}
    assert len(tars) == len(config["history"]) == 4


def test_a_context_has_as_many_files_as_the_layer(tmp_path: Path) -> None:
    sizes.copied_files(tmp_path, 250)
    found = sorted(path.name for path in (tmp_path / "tree").rglob("*.txt"))
    assert len(found) == 250
    assert found == sorted(name.rpartition("/")[2] for name, _ in sizes.texts(250))


@pytest.mark.parametrize("count", [1, 7])
def test_each_stage_is_copied_from(tmp_path: Path, count: int) -> None:
    sizes.stages(tmp_path, count)
    text = (tmp_path / "Dockerfile").read_text()
    assert text.count(" AS stage-") == text.count("--from=stage-") == count


def test_all_cached_steps_make_layers(tmp_path: Path) -> None:
    sizes.mixed_steps(tmp_path, 50)
    words = [line.split()[0] for line in (tmp_path / "Dockerfile").read_text().splitlines()]
    assert (words.count("RUN"), words.count("COPY")) == (10, 40)


# --- pictures -----------------------------------------------------------------------------------

COST = {"seconds": 2.0, "cpu": 2.5, "memory": 70_000_000, "largest": 60_000_000}
RUN = {
    "scenarios": {
        "large-base": {
            "ours": {"costs": [COST, COST | {"seconds": 4.0}, COST | {"seconds": 3.0}]},
            "buildah": {"costs": [COST | {"seconds": 9.0}]},
        },
        "help": {"ours": {"costs": [COST | {"seconds": 0.1}]}},
    },
    "limits": {"large-base": [{"curl": 0.5, "tar x": 1.0}, {"curl": 0.7, "tar x": 1.0}]},
    "commands": {"large-base": [0.25]},
}
GROWN = {
    "growth": {
        "pull-files": {
            "axis": "files",
            "points": [
                {"size": size, "seconds": 1 + size / 1e4, "cpu": 1, "memory": 60_000_000}
                for size in (1_000, 10_000, 100_000)
            ],
        }
    }
}


def test_medians_are_drawn_and_the_limit_has_the_commands_of_the_dockerfile() -> None:
    times = plots.seconds(RUN)
    assert times["large-base"] == pytest.approx({"ours": 3.0, "buildah": 9.0, "limit": 1.85})
    assert times["help"] == {"ours": 0.1}


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5"), (1_000, "1k"), (10_000_000, "10M"), (2_000_000_000, "2G")]
)
def test_counts_are_written_short(count: int, text: str) -> None:
    assert plots.rounded(count) == text


@pytest.mark.parametrize(("values", "name"), [(RUN, "performance"), (GROWN, "performance-growth")])
def test_the_same_numbers_make_the_same_small_picture(
    tmp_path: Path, values: object, name: str
) -> None:
    pytest.importorskip("matplotlib")
    numbers = tmp_path / "numbers.json"
    numbers.write_text(json.dumps(values))
    (one,), (two,) = (plots.draw(numbers, tmp_path / number) for number in ("one", "two"))
    assert one.name == f"{name}.svg"
    assert one.read_bytes() == two.read_bytes()
    assert len(one.read_bytes()) < 100_000


def test_files_of_growth_become_one_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "files.json", tmp_path / "layers.json"]
    paths[0].write_text(json.dumps(GROWN))
    layers = GROWN["growth"]["pull-files"] | {"axis": "layers"}
    paths[1].write_text(json.dumps({"growth": {"pull-layers": layers}}))
    (picture,) = plots.draw(paths[0], tmp_path, paths[1])
    assert "pull-files" in picture.read_text()
    assert "pull-layers" in picture.read_text()


# --- profiles -----------------------------------------------------------------------------------


def stack(thread: str, *frames: str, cpu: float = 0.0, wall: float = 0.0) -> dict[str, object]:
    found = [tuple(frame.split()) for frame in frames]
    return {"thread": thread, "frames": found, "cpu": cpu, "wall": wall}


PACKS = stack(
    "pack_0",
    "/lib/python3.11/threading.py run",
    "/x/kaniko_core/builder/packing.py Packer.pack",
    "/x/kaniko_core/oci/archive.py add_file",
    cpu=0.6,
    wall=1.0,
)
WAITS = stack(
    "MainThread",
    "/x/kaniko_core/builder/run.py run",
    "/lib/python3.11/threading.py Condition.wait",
    wall=2.0,
)
COMMANDS = stack("stage_0", "/x/kaniko_core/sandbox/wire.py receive", wall=1.0)
SEEN = {
    "began": 1.0,
    "ended": 3.0,
    "cpu": 0.7,
    "children": 0.0,
    "stacks": [PACKS, WAITS, COMMANDS],
    "moments": [
        {"busy": [0], "idle": [1], "wall": 1.0},
        {"busy": [], "idle": [1, 2], "wall": 0.75},
        {"busy": [], "idle": [1], "wall": 0.25},
    ],
}


def test_the_innermost_function_of_ours_tells_the_phase() -> None:
    assert profiling.phase_of(PACKS["frames"]) == "pack"  # type: ignore[arg-type]
    fetching = [("/x/kaniko_core/rootfs/unpack.py", "f"), ("/x/kaniko_core/registry/light.py", "g")]
    assert profiling.phase_of(fetching) == "pull: fetch"
    assert profiling.phase_of([("/lib/python3.11/json/decoder.py", "decode")]) == "other"
    imports = [("/x/kaniko_core/oci/layer.py", "f"), ("<frozen importlib._bootstrap>", "_find")]
    assert profiling.phase_of(imports) == "start-up and imports"


@pytest.mark.parametrize(
    ("caller", "phase"),
    [
        ("/x/kaniko_core/registry/upload.py", "push"),
        ("/x/kaniko_core/steps/repository.py", "layer cache"),
        ("/x/kaniko_core/builder/base.py", "pull: fetch"),
    ],
)
def test_a_request_belongs_to_what_it_is_for(caller: str, phase: str) -> None:
    frames = [(caller, "f"), ("/x/kaniko_core/registry/session.py", "ask"), ("/x/ssl.py", "read")]
    assert profiling.phase_of(frames) == phase


def test_of_functions_that_only_call_each_other_the_innermost_is_listed() -> None:
    listed = profiling.functions(SEEN).partition("with what they called")[2]
    assert "add_file" in listed
    assert "Packer.pack" not in listed


def test_shares_add_up_to_the_wall_clock() -> None:
    wall, cpu = profiling.shares(SEEN)
    assert wall == {
        "pack": 1.0,
        "commands, and the sandbox": 0.75,
        "waiting for other threads": 0.25,
    }
    assert cpu["pack"] == 0.6


def test_functions_are_ranked_by_processor_time_for_each_role_of_threads() -> None:
    lines = profiling.functions(SEEN).splitlines()
    assert lines[1].split() == ["0.600", "0.400", "pack", "kaniko_core/oci/archive.py", "add_file"]


@pytest.mark.parametrize(
    ("thread", "role"),
    [
        ("pack_0", "pack"),
        ("ahead", "ahead"),
        ("MainThread", "MainThread"),
        ("Thread-3 (run)", "Thread"),
    ],
)
def test_threads_of_a_pool_have_one_role(thread: str, role: str) -> None:
    assert profiling.role_of(thread) == role


def test_steps_are_told_in_the_executors_words() -> None:
    event = {
        "time": "2026-01-01T10:00:01.250Z",
        "event": "step_finished",
        "msg": "[stage-0 1] done in 4.5s",
    }
    other = event | {"event": "output"}
    log = f"{json.dumps(event)}\nsomething else\n{json.dumps(other)}\n"
    assert profiling.steps(log).splitlines()[1:] == ["10:00:01.250  [stage-0 1] done in 4.5s"]


def test_only_commands_of_ours_can_be_profiled() -> None:
    with pytest.raises(ValueError, match="not a command of ours: buildah"):
        profiling.profile(["buildah", "bud"], env={})


def test_a_sampled_program_is_the_same_program(tmp_path: Path) -> None:
    program = tmp_path / "counting.py"
    program.write_text(
        "import sys\n"
        "def count():\n"
        "    return sum([number % 7 for number in range(2_000_000)])\n"
        "print(count(), sys.argv[1:], __name__)\n"
        "sys.exit(3)\n"
    )
    out = tmp_path / "seen.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sampled", out, "counting", "a", "--b"],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
    )
    assert (done.returncode, done.stdout) == (3, "5999995 ['a', '--b'] __main__\n"), done.stderr
    seen = json.loads(out.read_text())
    functions = {function for each in seen["stacks"] for _, function in each["frames"]}
    assert "count" in functions
    assert seen["cpu"] > 0
