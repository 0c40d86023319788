"""What a start imports: what it uses, because most of the time of a short run goes into imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry_server import RegistryServer
from tests.samples import image

REPOSITORY = Path(__file__).parents[1]

_STARTED = """
import sys
before = set(sys.modules)
from {program}.__main__ import main
sys.argv[1:] = {argv}
status = main()
print(status, *sorted(sys.modules.keys() - before), file=sys.stderr)
"""

# typer, and what it brings along in its versions.
TALKING = {"typer", "annotated_doc", "shellingham", "click"}
ASKING = TALKING | {"httpx", "httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "filelock"}
BUILDING = ASKING | {"oras", "dockerfile_parse", "isal", "typing_extensions"}


def imported(program: str, *argv: str) -> set[str]:
    """Run *program*, which succeeds, and return the names of all modules that it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", _STARTED.format(program=program, argv=list(argv))],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, *names = done.stderr.splitlines()[-1].split()
    assert status == "0", done.stderr
    return set(names)


def of_others(names: set[str]) -> set[str]:
    """Return the packages among *names* that are neither ours nor Python's."""
    tops = {name.partition(".")[0] for name in names}
    ours = {"kaniko_core", "kaniko_executor", "kaniko_warmer"}
    return {top for top in tops - ours - sys.stdlib_module_names if not top.startswith("_")}


def parts_of(names: set[str]) -> set[str]:
    """Return the parts of our library among *names*."""
    return {name.split(".")[1] for name in names if name.startswith("kaniko_core.")}


@pytest.mark.parametrize("program", ["kaniko_executor", "kaniko_warmer"])
@pytest.mark.parametrize("word", ["--help", "version"])
def test_a_program_that_only_talks_loads_what_it_talks_with(program: str, word: str) -> None:
    names = imported(program, word)
    assert of_others(names) <= TALKING
    assert not parts_of(names) & set("builder cache context dockerfile registry remote".split())


def test_a_warmer_that_finds_everything_warm_only_asks(
    server: RegistryServer, tmp_path: Path
) -> None:
    reference = server.add_image("base", "1", image())
    argv = (f"--cache-dir={tmp_path}", f"--image={reference}", "--insecure-pull")
    imported("kaniko_warmer", *argv)
    names = imported("kaniko_warmer", *argv)
    assert of_others(names) <= ASKING
    assert not parts_of(names) & set("builder context dockerfile rootfs sandbox steps".split())


def test_a_build_that_fetches_nothing_loads_nothing_to_fetch_with(
    server: RegistryServer, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    argv = (
        f"--context={tmp_path}",
        f"--cache-dir={tmp_path / 'cache'}",
        f"--destination={server.address}/app:1",
        "--cache",
        "--cache-copy-layers",
        "--insecure",
        "--insecure-pull",
    )
    for first in (True, False):
        names = imported("kaniko_executor", *argv)
        assert of_others(names) <= BUILDING
        fetching = {name for name in names if name.startswith("kaniko_core.remote.")}
        assert fetching <= {"kaniko_core.remote.environment"}
        assert first or "kaniko_core.builder.inplace" not in names
        # Of its commands, the program knows the one that is called.
        assert "kaniko_executor.push" not in names
