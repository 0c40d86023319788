"""What the tests of keys share: a context, images, and the keys of a Dockerfile between them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from kaniko_core.builder.cached.keys import StageKeys, StepKey, graph_keys
from kaniko_core.builder.plan import ContextBase, ImageBase, LayoutBase, Plan
from kaniko_core.builder.planner import make_plan
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.source import CopySource
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.context.named import LocalContext, NamedContexts
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.oci.image import Image, compose
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.spec import History, ImageConfig, RuntimeConfig
from kaniko_core.options import BuildOptions
from kaniko_core.rootfs.tree import Rootfs
from tests.samples import layer

AMD64 = Platform("linux", "amd64")
OLD = 1_500_000_000


def base(text: str = "base", *, created: str = "2024-01-01T00:00:00Z", **runtime: object) -> Image:
    """Return an image whose files are told by *text*, with these fields in its config."""
    found = replace(RuntimeConfig(), **runtime)  # type: ignore[arg-type]
    history = (History(created_by="made", created=created),)
    config = ImageConfig(AMD64, found, created=created, history=history)
    return compose(config, (layer({"etc/motd": text.encode()}),), docker=False)


@dataclass
class Keyring:
    """A context, a second one by the name of ``docs``, and images by their names."""

    path: Path
    ignore: tuple[str, ...] = ()
    images: dict[str, Image] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.context = self.path / "context"
        self.docs = self.path / "docs"
        self.context.mkdir()
        self.docs.mkdir()

    def add_file(self, name: str, content: str = "x", mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def image(self, wanted: ImageBase | LayoutBase) -> Image:
        return self.images.setdefault(wanted.name, base(wanted.name))

    def plan(
        self,
        text: str,
        *,
        args: Mapping[str, str] | None = None,
        platform: Platform = AMD64,
        contexts: tuple[tuple[str, str], ...] = (),
    ) -> Plan:
        return make_plan(
            parse_dockerfile(text.encode("utf-8", "surrogateescape"), "Dockerfile"),
            build_args=args or {},
            build_platform=AMD64,
            target_platform=platform,
            contexts=NamedContexts.parse((("docs", str(self.docs)), *contexts)),
            triggers=lambda wanted: self.image(wanted).config.config.on_build,
        )

    def stages(
        self,
        text: str,
        *,
        args: Mapping[str, str] | None = None,
        epoch: int | None = None,
        options: BuildOptions | None = None,
        platform: Platform = AMD64,
    ) -> Mapping[int, StageKeys]:
        """Return the keys of the Dockerfile *text*, by the number of the stage."""
        ignore = IgnorePatterns(self.ignore) if self.ignore else None
        with (
            Rootfs(self.context) as root,
            ExitStack() as opened,
            RemoteSources(lambda kind: self.path / f"{kind}-{next(self._numbers)}") as remote,
        ):

            def files(wanted: ContextBase) -> CopySource:
                assert isinstance(wanted.context, LocalContext)
                tree = opened.enter_context(Rootfs(wanted.context.directory))
                return CopySource(tree, f"the context {wanted.name}", keep_owners=False)

            return graph_keys(
                self.plan(text, args=args, platform=platform),
                escape="\\",
                build_args=args or {},
                images=self.image,
                context=CopySource(root, "the build context", ignore, keep_owners=False),
                files=files,
                remote=remote,
                epoch=epoch,
                options=options or BuildOptions(),
            )

    def steps(self, text: str, **given: object) -> list[StepKey]:
        """Return the steps of the last stage of *text*, in their order."""
        stages = self.stages(text, **given)  # type: ignore[arg-type]
        return list(stages[max(stages)].steps.values())

    def key(self, instruction: str, **given: object) -> str:
        """Return the key of one instruction, the last of a stage from ``base``."""
        return self.steps(f"FROM base\n{instruction}\n", **given)[-1].key


def age(path: Path) -> None:
    """Give *path* another time than it has."""
    os.utime(path, (OLD, OLD), follow_symlinks=False)
