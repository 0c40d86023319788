"""What --explain says of two builds, one after the other, with the keys that builds really have.

To renew a golden file after a change that is meant: delete it, run this test twice, and read
the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kaniko_core.builder.cached.explain import Outcome, explain, record
from kaniko_core.builder.cached.keys import StageKeys, graph_keys
from kaniko_core.builder.plan import ImageBase, LayoutBase, Plan
from kaniko_core.builder.planner import make_plan
from kaniko_core.builder.remote import RemoteSources
from kaniko_core.builder.source import CopySource
from kaniko_core.context.ignore import IgnorePatterns
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.oci.image import Image
from kaniko_core.options import BuildOptions
from kaniko_core.rootfs.tree import Rootfs
from kaniko_core.steps.step import Missing
from tests.samples import AMD64, image, layer

GOLDEN = Path(__file__).parents[2] / "golden" / "explain"

DOCKERFILE = """\
FROM golang:1.22 AS build
ARG VERSION=1
ARG TOKEN
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -o /app -ldflags "-X main.version=$VERSION" .

FROM debian:12
ENV LANG=C.UTF-8
RUN apt-get update && apt-get install --yes ca-certificates
COPY --from=build /app /usr/bin/app
ADD --chown=1:1 config/app-$MODE.ini /etc/app.ini
"""


@dataclass
class Project:
    """A Dockerfile with its context; each change of it is another build."""

    context: Path
    dockerfile: str = DOCKERFILE
    build_args: dict[str, str] = field(default_factory=lambda: {"TOKEN": "hunter2"})
    base_files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("go.mod", "go.sum", "main.go", "lib/a.go", "lib/b.go", "run.sh"):
            self.write(name, f"the first {name}")
        self.write("config/app-.ini", "plain")
        self.write("config/app-fast.ini", "plain")
        self.write(".dockerignore", "*.log\n")
        self.write("build.log", "")

    def write(self, name: str, content: str = "another content") -> None:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o644)

    def replace(self, old: str, new: str) -> None:
        assert old in self.dockerfile
        self.dockerfile = self.dockerfile.replace(old, new)

    def image(self, wanted: ImageBase | LayoutBase) -> Image:
        content = self.base_files.get(wanted.name, "")
        return image(layer({wanted.name.replace(":", "-"): content.encode()}))

    def keys(self) -> tuple[Plan, Mapping[int, StageKeys]]:
        plan = make_plan(
            parse_dockerfile(self.dockerfile.encode(), "Dockerfile"),
            build_args=self.build_args,
            build_platform=AMD64,
            target_platform=AMD64,
        )
        ignore = IgnorePatterns(("*.log",))
        with Rootfs(self.context) as root, RemoteSources(lambda _: self.context) as remote:
            context = CopySource(root, "the build context", ignore, keep_owners=False)
            keys = graph_keys(
                plan,
                escape="\\",
                build_args=self.build_args,
                images=self.image,
                context=context,
                files=lambda _: context,
                remote=remote,
                epoch=None,
                options=BuildOptions(),
            )
        return plan, keys


def nothing(project: Project) -> None:
    """Change nothing that matters."""
    project.write("build.log")
    project.replace("ARG VERSION=1", "# Which one.\n\nARG  VERSION=1")
    (project.context / "main.go").touch()


def a_file(project: Project) -> None:
    project.write("main.go")


def files(project: Project) -> None:
    project.write("lib/new/c.go")
    project.write("lib/new/d.go")
    (project.context / "lib/a.go").unlink()
    (project.context / "lib/b.go").unlink()
    (project.context / "lib/b.go").symlink_to("c.go")
    (project.context / "run.sh").chmod(0o755)
    project.write("go.mod")
    project.write("main.go")


def many_files(project: Project) -> None:
    for number in range(30):
        project.write(f"data/{number:02}")


def an_argument(project: Project) -> None:
    project.build_args["VERSION"] = "2"


def a_secret_argument(project: Project) -> None:
    project.build_args["TOKEN"] = "correct-horse"


def a_variable(project: Project) -> None:
    project.replace("LANG=C.UTF-8", "LANG=C MODE=fast")


def an_instruction(project: Project) -> None:
    project.replace("go build", "go build -v")


def an_inserted_instruction(project: Project) -> None:
    project.replace("RUN apt-get", "RUN useradd app\nRUN apt-get")


def a_removed_instruction(project: Project) -> None:
    project.replace("RUN go mod download\n", "")


def a_base(project: Project) -> None:
    project.base_files["debian:12"] = "a newer one"


def a_base_of_another_name(project: Project) -> None:
    project.replace("FROM debian:12", "FROM debian:13")


def a_stage(project: Project) -> None:
    project.replace(
        "FROM debian:12",
        "FROM node AS web\nRUN npm run build\n\nFROM debian:12\nCOPY --from=web / /www",
    )


def a_shell_and_a_user(project: Project) -> None:
    project.replace("ENV LANG", 'SHELL ["/bin/bash", "-c"]\nUSER app\nENV LANG')


SCENARIOS: list[Callable[[Project], None]] = [
    nothing,
    a_file,
    files,
    many_files,
    an_argument,
    a_secret_argument,
    a_variable,
    an_instruction,
    an_inserted_instruction,
    a_removed_instruction,
    a_base,
    a_base_of_another_name,
    a_stage,
    a_shell_and_a_user,
]


@pytest.mark.parametrize("change", SCENARIOS, ids=lambda change: change.__name__)
def test_change_is_explained_as_in_the_golden_file(
    change: Callable[[Project], None], tmp_path: Path
) -> None:
    project = Project(tmp_path)
    old_plan, old = project.keys()
    previous = record(old_plan, old)
    known = {step.key for stage in old.values() for step in stage.steps.values()}
    change(project)
    plan, keys = project.keys()
    outcomes = {
        (number, position): Outcome(None if step.key in known else Missing.ABSENT)
        for number, stage in keys.items()
        for position, step in stage.steps.items()
    }
    text = explain(plan, keys, outcomes, previous)
    assert "hunter2" not in text
    assert "correct-horse" not in text
    golden = GOLDEN / f"{change.__name__}.txt"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
        pytest.fail(f"{golden} was not there; it is now: read it")
    assert text == golden.read_text()


def test_there_is_no_golden_file_that_nobody_reads() -> None:
    names = {f"{change.__name__}.txt" for change in SCENARIOS}
    assert {path.name for path in GOLDEN.iterdir()} == names
