"""Mounts without mounting, in a root as a container has it: an overlay with things from below."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROJECT = Path(__file__).parents[1]

# Runs in a mount namespace of its own.
_PROGRAM = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {project!r})
from kaniko_core.builder.swap import swapped_in
from kaniko_core.rootfs.ignore import IgnoreRules
from kaniko_core.rootfs.scan import Scanner
from kaniko_core.sandbox.runner import BindMount, FileMount, TmpfsMount

place, aside, script = Path({place!r}), Path({aside!r}), {script!r}
root = place / "root"
options = ",".join(f"{{name}}dir={{place / name}}" for name in ("lower", "upper", "work"))
subprocess.run(["mount", "-t", "overlay", "-o", options, "x", root], check=True)
aside.mkdir(parents=True)
cache = root / "kaniko/cache"
cache.mkdir(parents=True)
scanner = Scanner(root, IgnoreRules(frozenset({{b"kaniko"}})))
scanner.remember()
scanner.settle()
mounts = (
    TmpfsMount("/opt/below"),
    FileMount("/opt/file", b"secret"),
    FileMount("/new/deep/token", b"t"),
    BindMount("/opt/cache", cache, writable=True, lasting=True),
)
with swapped_in(root, mounts, aside, IgnoreRules(frozenset({{b"kaniko"}}))) as touched:
    print(sorted(os.listdir(root / "opt/below")), (root / "opt/file").read_text())
    subprocess.run(["sh", "-ec", script], check=True, cwd=root)
for entry in scanner.changes(touched):
    print(entry.kind.name, os.fsdecode(entry.name))
print(sorted(str(p.relative_to(root)) for p in root.rglob("*") if "kaniko" not in p.parts))
print(os.listdir(aside))
"""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "volume"])
@pytest.mark.parametrize(
    ("script", "changes", "more"),
    [
        ("true", [], []),
        ("echo x > opt/file; echo x > opt/below/x; echo x > opt/cache/x", [], []),
        (
            "echo x > opt/news; rm -r opt/below",
            ["DIRECTORY opt", "FILE opt/news"],
            ["opt/news"],
        ),
        (
            "echo x > new/deep/x",
            ["DIRECTORY new", "DIRECTORY new/deep", "FILE new/deep/x"],
            ["new", "new/deep", "new/deep/x"],
        ),
        ("rm -r opt new", ["WHITEOUT opt"], None),
    ],
)
def test_nothing_of_a_mount_is_in_the_layer(
    tmp_path: Path, elsewhere: bool, script: str, changes: list[str], more: list[str] | None
) -> None:
    for name in ("lower", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    below = tmp_path / "lower/opt/below"
    (below / "sub").mkdir(parents=True)
    (below / "sub/file").write_text("from below")
    (below / "one").write_text("one")
    (below / "link").symlink_to("one")
    (tmp_path / "lower/opt/file").write_text("file from below")
    (tmp_path / "lower/opt/cache").mkdir()
    aside = tmp_path / ("aside" if elsewhere else "root/kaniko/aside")
    program = _PROGRAM.format(
        project=str(_PROJECT), place=str(tmp_path), aside=str(aside), script=script
    )

    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    first, *told, there, aside_names = done.stdout.splitlines() or [done.stderr, "", ""]
    kept = ["opt", "opt/cache", "opt/file"]
    kept += [f"opt/below{name}" for name in ("", "/link", "/one", "/sub", "/sub/file")]
    assert first == "[] secret", done.stderr
    assert told == changes
    assert there == str([] if more is None else sorted([*kept, *more]))
    assert aside_names == "[]"
