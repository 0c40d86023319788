"""Every key stays what it was: another one empties the caches of everybody who updates.

To renew a golden file after a change that is meant: delete it, run this test twice, read the
difference, and count up the version in ``cache/key.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaniko_core.builder.cached.keys import StageKeys
from kaniko_core.options import BuildOptions
from tests.builder.cached.keying import Keyring, base

GOLDEN = Path(__file__).parents[2] / "golden" / "keys"
DOCKERFILES = sorted(path.name for path in GOLDEN.glob("*.Dockerfile"))
ARGS = {"VERSION": "1.2", "BUILDKIT_SANDBOX_HOSTNAME": "builder"}


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path, ignore=("*.log", "!keep.log"))
    ring.add_file("README.md", "read me\n")
    ring.add_file("build.log", "never\n")
    ring.add_file("keep.log", "always\n")
    ring.add_file("src/main.c", "int main() {}\n", 0o600)
    ring.add_file("src/lib/empty.h", "")
    ring.add_file("run.sh", "#!/bin/sh\n", 0o755)
    (ring.context / "src/link").symlink_to("../run.sh")
    (ring.context / "src/also.c").hardlink_to(ring.context / "src/main.c")
    (ring.context / "src/nothing").mkdir()
    for directory in (ring.context / "src", ring.context / "src/lib", ring.context / "src/nothing"):
        directory.chmod(0o755)
    (ring.docs / "page").write_text("page\n")
    (ring.docs / "page").chmod(0o644)
    ring.images["debian:12"] = base("debian", env=("PATH=/usr/bin:/bin", "LANG=C"))
    ring.images["tools"] = base("tools", on_build=("COPY run.sh /trigger", "RUN /trigger"))
    return ring


def described(stage: StageKeys) -> dict[str, object]:
    """Return the keys of a stage with the kinds of what they are made of, for who reads them."""
    return {
        "start": stage.start,
        "steps": {
            str(position): {
                "key": step.key,
                "parts": [" ".join(filter(None, (part.kind, part.name))) for part in step.parts],
            }
            for position, step in stage.steps.items()
        },
        "final": stage.final,
    }


@pytest.mark.parametrize("name", DOCKERFILES)
def test_keys_are_those_of_the_golden_file(name: str, ring: Keyring) -> None:
    text = (GOLDEN / name).read_text()
    options = BuildOptions(ignore_path=("/scratch",)) if name.startswith("options") else None
    epoch = 1_700_000_000 if name.startswith("options") else None
    stages = ring.stages(text, args=ARGS, epoch=epoch, options=options)
    found = {str(number): described(stages[number]) for number in sorted(stages)}
    golden = GOLDEN / f"{name.removesuffix('.Dockerfile')}.json"
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if not golden.exists():
        golden.write_text(text)
        pytest.fail(f"{golden} was not there; it is now: read it")
    assert text == golden.read_text()


def test_there_are_dockerfiles() -> None:
    assert DOCKERFILES
