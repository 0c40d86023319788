"""The corpus in ``integration/dockerfiles``: small Dockerfiles, and what is known about each.

One TOML file for each topic, one table for each case::

    [name-of-the-case]
    dockerfile = '''
    FROM registry.test/busybox
    COPY a /d/
    '''
    files = { "a" = "text" }          # the context: see File
    differs = { "/d" = "id" }         # what buildah makes otherwise; reasons.toml says why
    expect.tree = '''                 # everything that the tree has beyond its base
    drwxr-xr-x 0:0 /d
    -rw-r--r-- 0:0 /d/a "text"
    '''
    expect.config.Env = ["A=1"]       # keys that are not named may be anything

Other keys: ``path`` (of the Dockerfile, in the context), ``build-args``, ``target``, ``flags``
(for both builders), ``our-flags``, ``env``, ``buildah`` (why buildah is not asked: an id, too)
``fails`` (a part of our sentence; buildah has to fail as well) and ``in-place`` (what is otherwise
where nothing can be mounted, by path, and why; ``fails`` has a part of the sentence there).
The files of a table ``default`` are in the context of every case of its topic.
``registry.test`` and ``http.test`` stand for the servers of the run, and ``{context}`` in flags
for the directory of the context.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backports import zstd

from integration.compare import MOUNT_POINTS

HERE = Path(__file__).parent / "dockerfiles"
OLD = 1_500_000_000  # seconds: when every file of a context was changed

_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file of a context, or a member of an archive; a text alone is a plain file of 0644."""

    text: str | None = None
    hex: str | None = None
    mode: int | None = None
    owner: tuple[int, int] | None = None
    directory: bool = False
    symlink: str | None = None
    hardlink: str | None = None
    fifo: bool = False
    capability: str | None = None  # security.capability, in hexadecimal digits
    tar: str | None = None  # the compression, or "none"
    members: Mapping[str, File] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: str | Mapping[str, Any]) -> File:
        """Make it from what TOML has."""
        if isinstance(value, str):
            return cls(text=value)
        known = dict(value)
        if "owner" in known:
            known["owner"] = tuple(known["owner"])
        if "members" in known:
            known["members"] = {name: cls.parse(at) for name, at in known["members"].items()}
        return cls(**known)

    def make(self, path: Path, top: Path) -> None:
        """Make it at *path*; the targets of hard links begin at *top*."""
        if self.directory:
            path.mkdir(exist_ok=True)
        elif self.symlink is not None:
            path.symlink_to(self.symlink)
        elif self.hardlink is not None:
            path.hardlink_to(top / self.hardlink)
            return
        elif self.fifo:
            os.mkfifo(path)
        else:
            path.write_bytes(self.content)
        os.chown(path, *(self.owner or (0, 0)), follow_symlinks=False)
        if self.symlink is None:
            path.chmod(self.permissions)
        if self.capability is not None:
            os.setxattr(path, "security.capability", bytes.fromhex(self.capability))

    @property
    def permissions(self) -> int:
        """The mode, or what is usual."""
        return self.mode if self.mode is not None else 0o755 if self.directory else 0o644

    @property
    def content(self) -> bytes:
        """The bytes of a plain file."""
        if self.tar is not None:
            return _COMPRESS[self.tar](_packed(self.members))
        return bytes.fromhex(self.hex) if self.hex is not None else (self.text or "").encode()

    def member(self, name: str) -> tarfile.TarInfo:
        """Describe it as a member of an archive."""
        info = tarfile.TarInfo(name)
        info.mtime, info.mode = OLD, self.permissions
        info.uid, info.gid = self.owner or (0, 0)
        if self.directory:
            info.type = tarfile.DIRTYPE
        elif self.symlink is not None:
            info.type, info.linkname = tarfile.SYMTYPE, self.symlink
        elif self.hardlink is not None:
            info.type, info.linkname = tarfile.LNKTYPE, self.hardlink
        elif self.fifo:
            info.type = tarfile.FIFOTYPE
        else:
            info.size = len(self.content)
        return info


def _packed(members: Mapping[str, File]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in members.items():
            archive.addfile(file.member(name), io.BytesIO(file.content))
    return data.getvalue()


def fill(top: Path, files: Mapping[str, File]) -> None:
    """Make *files* below *top*, all of them old, directories too."""
    for name, file in files.items():
        for parent in reversed((top / name).relative_to(top).parents[:-1]):
            if not (top / parent).exists():
                (top / parent).mkdir()
                (top / parent).chmod(0o755)  # whatever the umask
        file.make(top / name, top)
    for path in (*sorted(top.rglob("*"), reverse=True), top):
        os.utime(path, (OLD, OLD), follow_symlinks=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A Dockerfile, its context, and what has to come of it."""

    name: str
    topic: str
    dockerfile: str
    files: Mapping[str, File]
    path: str = "Dockerfile"
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    flags: tuple[str, ...] = ()
    our_flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    fails: str | None = None
    in_place: Mapping[str, str] = field(default_factory=dict)
    buildah: str | None = None
    differs: Mapping[str, str] = field(default_factory=dict)
    tree: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(
        cls, topic: str, name: str, table: Mapping[str, Any], default: Mapping[str, Any]
    ) -> Case:
        """Make it from a table, and check that it can fail."""
        known = {key.replace("-", "_"): value for key, value in table.items()}
        expect = known.pop("expect", {})
        if unknown := expect.keys() - {"tree", "config"}:
            raise ValueError(f"{topic}/{name}: expect has {sorted(unknown)}")
        files = {**default, **known.pop("files", {})}
        for key in ("flags", "our_flags"):
            known[key] = tuple(known.get(key, ()))
        case = cls(
            name=name,
            topic=topic,
            files={path: File.parse(value) for path, value in files.items()},
            tree=expect.get("tree"),
            config=expect.get("config", {}),
            **known,
        )
        case._check()
        return case

    def _check(self) -> None:
        """What buildah does not judge has to be said by the case itself."""
        if self.buildah and not (self.fails or self.tree is not None or self.config):
            raise ValueError(f"{self}: without buildah, nothing is expected")
        for key in self.differs:
            said = key.removeprefix("config.") in self.config
            if not (said if key.startswith("config.") else self.tree is not None):
                raise ValueError(f"{self}: {key} differs, but what is right is not said")

    def __str__(self) -> str:
        return f"{self.topic}/{self.name}"

    @property
    def reasons(self) -> set[str]:
        """The ids of why buildah is no judge, or not of everything."""
        return {*self.differs.values(), *([self.buildah] if self.buildah else [])}

    def arguments(self, context: Path) -> list[str]:
        """Give the flags that both builders understand."""
        given = [f"--build-arg={name}={value}" for name, value in self.build_args.items()]
        if self.target is not None:
            given.append(f"--target={self.target}")
        return [*given, *(flag.replace("{context}", str(context)) for flag in self.flags)]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an image of ours is not buildah's: BuildKit's rule, and what buildah does instead."""

    rule: str
    buildah: str


def cases() -> list[Case]:
    """Read the whole corpus."""
    found = []
    for file in sorted(HERE.glob("*.toml")):
        if file.stem == "reasons":
            continue
        tables = tomllib.loads(file.read_text())
        default = tables.pop("default", {}).get("files", {})
        found += [Case.parse(file.stem, name, table, default) for name, table in tables.items()]
    return found


def reasons() -> dict[str, Reason]:
    """Read why images may differ, by id."""
    tables = tomllib.loads((HERE / "reasons.toml").read_text())
    return {name: Reason(**table) for name, table in tables.items()}


PAGE = HERE.parents[1] / "docs" / "BUILDAH.md"

_HEAD = """\
# Where our images are not buildah's

`integration/dockerfiles` has {cases} small Dockerfiles.
Each is built by us and by Debian's buildah 1.28, and the two images are compared: every path
with its type, mode, owner, content, links and capabilities, its time where a source's has to be
kept, and the config.

- {equal} images are equal, or both builders refuse the Dockerfile;
- in {differing}, something differs;
- {unjudged} Dockerfiles buildah cannot judge: it does not know them, or takes what is wrong.

Wherever buildah is not followed, the case says word for word what is right.
BuildKit decides that; this page, made by `python -m integration.corpus`, says where and why.

Three things are never compared: buildah's own label `io.buildah.version`; empty mount points that
its RUN leaves in an image ({marks});
and whether an image without working directory says so, or says `/` as BuildKit and we do.
Times of directories are not compared, for that of a directory which nobody copied is the build's.
"""


def page() -> str:
    """Write docs/BUILDAH.md."""
    found = cases()
    differing = [case for case in found if case.differs]
    unjudged = [case for case in found if case.buildah]
    lines = [
        _HEAD.format(
            cases=len(found),
            equal=len(found) - len(differing) - len(unjudged),
            differing=len(differing),
            unjudged=len(unjudged),
            marks=", ".join(f"`{path}`" for path in MOUNT_POINTS),
        )
    ]
    for name, reason in sorted(reasons().items()):
        lines += [f"## {name}\n", f"BuildKit, and we: {reason.rule}\n"]
        lines += [f"buildah 1.28: {reason.buildah}\n"]
        lines += [f"- `{case}`{_where(case, name)}" for case in found if name in case.reasons]
        lines.append("")
    return "\n".join(lines)


def _where(case: Case, reason: str) -> str:
    keys = [f"`{key}`" for key, at in case.differs.items() if at == reason]
    return f": {', '.join(keys)}" if keys else ""


if __name__ == "__main__":
    PAGE.write_text(page())
