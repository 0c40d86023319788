"""What the tests of COPY, ADD and WORKDIR share: an image, a context, and the layer they give."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kaniko_core.builder.configure import StageState, scratch, start_stage
from kaniko_core.builder.copy import copy_entries
from kaniko_core.builder.source import CopySource, SourceItem
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.instructions import Add, Copy, Source
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.dockerfile.scope import Scope
from kaniko_core.oci.entry import Entry, Kind
from kaniko_core.oci.platform import Platform
from kaniko_core.rootfs.tree import Rootfs

NOW = 1_700_000_000 * 10**9
OLD = 1_500_000_000 * 10**9
AMD64 = Platform("linux", "amd64")


def state(*, workdir: str = "/", user: str = "", env: dict[str, str] | None = None) -> StageState:
    config = scratch(AMD64)
    runtime = replace(
        config.config,
        working_dir=workdir,
        user=user,
        env=tuple(f"{name}={value}" for name, value in (env or {}).items()),
    )
    return start_stage(replace(config, config=runtime), Scope())


def source(text: str) -> Source:
    return Source("Dockerfile", 3, 3, text)


@dataclass
class Kitchen:
    """Directories for a context and an image, and what a COPY between them gives."""

    path: Path
    state: StageState = field(default_factory=state)
    ignore: tuple[str, ...] | None = ()
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.context = self.path / "context"
        self.image = self.path / "image"
        self.context.mkdir()
        self.image.mkdir()

    def add_file(self, name: str, content: str = "x", mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def put(
        self,
        instruction: Copy | Add,
        *,
        stage: bool = False,
        sources: Sequence[SourceItem] | None = None,
        epoch: int | None = None,
    ) -> dict[str, Entry]:
        """Return the layer by name, sorted as it came."""
        with Rootfs(self.context) as origin, Rootfs(self.image) as image:
            if stage:
                copied = CopySource(origin, "stage builder")
            else:
                ignore = IgnorePatterns(self.ignore) if self.ignore else None
                copied = CopySource(origin, "the build context", ignore, keep_owners=False)
            entries = copy_entries(
                instruction,
                self.state,
                copied,
                image,
                spool=lambda: self.path / f"spool-{next(self._numbers)}",
                sources=sources,
                epoch=epoch,
            )
        names = [entry.name for entry in entries]
        assert names == sorted(set(names))
        return {os.fsdecode(entry.name): entry for entry in entries}

    def copy(
        self, *words: str, stage: bool = False, epoch: int | None = None, **flags: object
    ) -> dict[str, Entry]:
        text = f"COPY {' '.join(words)}"
        instruction = Copy(source(text), tuple(words[:-1]), words[-1])
        changed = replace(instruction, **flags)  # type: ignore[arg-type]
        return self.put(changed, stage=stage, epoch=epoch)

    def add(self, *words: str, **flags: object) -> dict[str, Entry]:
        instruction = Add(source(f"ADD {' '.join(words)}"), tuple(words[:-1]), words[-1])
        return self.put(replace(instruction, **flags))  # type: ignore[arg-type]


def parsed(text: str) -> Copy | Add:
    """Return the COPY or ADD that *text*, here-documents included, is."""
    stage = parse_dockerfile(f"FROM scratch\n\n{text}\n".encode(), "Dockerfile").stages[0]
    instruction = stage.instructions[0]
    assert isinstance(instruction, Copy | Add)
    return instruction


def content(entry: Entry) -> bytes:
    if entry.content is None:
        assert not entry.size
        return b""
    if isinstance(entry.content, bytes):
        return Path(os.fsdecode(entry.content)).read_bytes()
    with entry.content() as stream:
        return stream.read()


def kinds(entries: dict[str, Entry]) -> dict[str, Kind]:
    return {name: entry.kind for name, entry in entries.items()}
