"""Images as values that can be compared: every path of the tree, and what the config says.

Trees are read with umoci, which is neither ours nor buildah's; both images go the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from integration.readers import Buildah, output_of

# Times before this are those of sources, which COPY keeps; later ones are those of the build.
_BUILT_SINCE = 1_700_000_000
_SHORT = 100  # bytes of content that are shown; of longer ones, a digest
_PLAIN = re.compile(r"[\w./+,:@%~^#=!-]+", re.ASCII)
_XATTRS = ("security.capability",)

# Of the config, what a Dockerfile decides; "author" and the platform stand beside it.
_KEYS = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell"),
    *("StopSignal", "User", "Volumes", "WorkingDir"),
)
_BESIDE = ("architecture", "author", "os", "variant")

# What buildah's RUN leaves in an image, beside what the command did; see docs/BUILDAH.md.
MOUNT_POINTS = ("/run", "/run/secrets", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Node:
    """One path of an image; *content* is as it is shown: text, a digest, a link's target."""

    kind_and_mode: str
    uid: int
    gid: int
    path: str
    content: str
    time: int | None = None

    def __str__(self) -> str:
        words = [self.kind_and_mode, f"{self.uid}:{self.gid}", _quoted(self.path), self.content]
        if self.time is not None:
            words.append(f"@{self.time}")
        return " ".join(word for word in words if word)

    @property
    def timeless(self) -> Node:
        """The same, whenever it was changed."""
        return replace(self, time=None)


@dataclass(frozen=True, slots=True)
class Image:
    """Every path below ``/``, by name, and the config without what is empty."""

    tree: Mapping[str, Node]
    config: Mapping[str, Any]

    def changes(self, base: Mapping[str, Node]) -> list[str]:
        """List what the tree has beyond *base*, one line a path; ``gone`` is what it lacks."""
        lines = {
            path: str(node.timeless)
            for path, node in self.tree.items()
            if path not in base or base[path].timeless != node.timeless
        }
        lines |= {path: f"gone {_quoted(path)}" for path in base if path not in self.tree}
        return [lines[path] for path in sorted(lines)]


def image_of_layout(layout: Path) -> Image:
    """Read the one image of an OCI image layout."""
    index = json.loads((layout / "index.json").read_text())
    manifest = _blob(layout, index["manifests"][0]["digest"])
    return Image(_tree(layout), _config(_blob(layout, manifest["config"]["digest"])))


def image_of_buildah(buildah: Buildah, name: str) -> Image:
    """Read an image of buildah's storage; its config as it is, for OCI's lacks HEALTHCHECK."""
    with tempfile.TemporaryDirectory() as scratch:
        layout = Path(scratch) / "layout"
        buildah("push", "--quiet", name, f"oci:{layout}:latest")
        tree = _tree(layout)
    raw = buildah("inspect", "--type=image", "--format={{.Config}}", name)
    config = _config(json.loads(raw))
    labels = {key: at for key, at in config.get("Labels", {}).items() if key != _BUILDAHS_LABEL}
    kept = {**config, "Labels": labels}
    return Image(tree, {key: value for key, value in kept.items() if value})


_BUILDAHS_LABEL = "io.buildah.version"


def differences(ours: Image, theirs: Image) -> dict[str, str]:
    """Say what differs, by path or as ``config.KEY``: first ours, then theirs."""
    found: dict[str, str] = {}
    for path in sorted(ours.tree.keys() | theirs.tree.keys()):
        mine, other = ours.tree.get(path), theirs.tree.get(path)
        if mine is None and path in MOUNT_POINTS:
            continue
        if mine != other and (told := _told(mine, other)):
            found[path] = told
    for key in (*_KEYS, *_BESIDE):
        if ours.config.get(key) != theirs.config.get(key):
            found[f"config.{key}"] = (
                f"ours {json.dumps(ours.config.get(key))}"
                f" / theirs {json.dumps(theirs.config.get(key))}"
            )
    return found


def _told(mine: Node | None, other: Node | None) -> str:
    """Put a difference into words; times of directories are no difference."""
    if mine and other and mine.kind_and_mode[0] == "d" and mine.timeless == other.timeless:
        return ""
    return f"ours {mine or 'has none'} / theirs {other or 'has none'}"


def tree_lines(text: str) -> list[str]:
    """Return the lines of an expected tree, ordered as :meth:`Image.changes` orders them."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return sorted(lines, key=_path_in)


def _path_in(line: str) -> str:
    found = re.match(r'(?:gone|\S+ \d+:\d+) ("(?:[^"\\]|\\.)*"|\S+)', line)
    if found is None:
        raise ValueError(f"not a line of a tree: {line!r}")
    return str(json.loads(found[1])) if found[1].startswith('"') else found[1]


# --- reading ------------------------------------------------------------------------------


def _blob(layout: Path, digest: str) -> dict[str, Any]:
    value = json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())
    assert isinstance(value, dict)
    return value


def _config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Take what a Dockerfile decides; what is empty is as good as absent, and ``/`` is nowhere."""
    config = raw.get("config") or {}
    found = {key: config.get(key) for key in _KEYS} | {key: raw.get(key) for key in _BESIDE}
    for key in ("ExposedPorts", "Volumes"):
        found[key] = sorted(found[key] or {})
    if found["WorkingDir"] == "/":
        found["WorkingDir"] = ""
    return {key: value for key, value in found.items() if value}


def _tree(layout: Path) -> dict[str, Node]:
    with _unpacked(layout) as root:
        names: dict[tuple[int, int], str] = {}
        paths = sorted(_below(os.fsencode(root)))
        return {
            path: _node(os.fsencode(root) + os.fsencode(path), path, names) for path in paths
        } | {"/": _node(os.fsencode(root), "/", names)}


@contextmanager
def _unpacked(layout: Path) -> Iterator[Path]:
    """Unpack the image that is tagged ``latest``."""
    scratch = Path(tempfile.mkdtemp(prefix="compare-"))
    try:
        output_of("umoci", "unpack", "--image", f"{layout}:latest", scratch / "bundle")
        yield scratch / "bundle" / "rootfs"
    finally:
        shutil.rmtree(scratch)


def _below(root: bytes) -> Iterator[str]:
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            yield os.fsdecode(os.path.join(directory, name)[len(root) :])  # noqa: PTH118


def _node(at: bytes, path: str, names: dict[tuple[int, int], str]) -> Node:
    status = os.lstat(at)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = f"-> {_quoted(str(Path(os.fsdecode(at)).readlink()))}"
    elif stat.S_ISREG(status.st_mode):
        content = _content(Path(os.fsdecode(at)))
        first = names.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            content = f"= {_quoted(first)}"
    elif stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        content = f"{os.major(status.st_rdev)},{os.minor(status.st_rdev)}"
    if not stat.S_ISLNK(status.st_mode):
        for name in set(os.listxattr(at)) & set(_XATTRS):
            content += f" {name}={os.getxattr(at, name).hex()}"
    time = int(status.st_mtime)
    return Node(
        stat.filemode(status.st_mode),
        status.st_uid,
        status.st_gid,
        path,
        content,
        time if time < _BUILT_SINCE else None,
    )


def _content(path: Path) -> str:
    size = path.stat().st_size
    if size <= _SHORT:
        try:
            return json.dumps(path.read_bytes().decode(), ensure_ascii=False)
        except UnicodeDecodeError:
            pass
    with path.open("rb") as stream:
        return f"{size} bytes {hashlib.file_digest(stream, 'sha256').hexdigest()[:16]}"


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name)
