"""What is built: each scenario is a build context, a base image and a state to start from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from integration import images

_MEBIBYTE = 1 << 20
_SMALL_FILES = 20_000
_FILES_PER_DIRECTORY = 100
_WORDS = b"container image layer digest manifest registry instruction stage context ".split()


class Start(Enum):
    """What is already on the machine when the clock starts."""

    COLD = "nothing"
    WARMED = "the base image as a file"
    PULLED = "the base image, fetched and unpacked"
    BUILT = "all that a builder keeps of the same build"


class Work(Enum):
    """What is timed."""

    BUILD = "a build, and its push"
    WARM = "warming the base image"
    HELP = "the builder's help"
    VERSION = "the builder's version"


class Part(Enum):
    """A part of the work that C tools can do as well."""

    DOWNLOAD = "the layers of the base image, from the registry to nowhere"
    EXTRACT = "the layers of the base image, to a directory of files"
    LAYER = "the new files as a compressed tar, and both digests"
    PUSH = "the new layer, to the registry"
    MANIFESTS = "the base image's manifest, asked for, and a new one, sent"
    ASK = "the base image's manifest, asked for"
    INTERPRETER = "Python itself, started and ended"


PULL = (Part.DOWNLOAD, Part.EXTRACT)
NEW_LAYER = (Part.LAYER, Part.PUSH)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something to be timed.

    Attributes:
        base: makes the base image's layout.
        fill: writes the build context, whose Dockerfile begins with ``ARG BASE``.
        limit: the parts of it that nobody can avoid.
        made: the file or directory that makes the new layer: of the context, or, where there
            are commands, of the root that they ran in.
        commands: what the Dockerfile runs, for the shell; timed by itself, and no part of the
            limit. Where stages run the same, those of one stage.
    """

    name: str
    title: str
    base: Callable[[], Path]
    fill: Callable[[Path], None]
    start: Start = Start.COLD
    work: Work = Work.BUILD
    limit: tuple[Part, ...] = ()
    made: str = ""
    commands: str = ""

    @property
    def start_survives(self) -> bool:
        """Whether a run leaves the next one the same start."""
        return self.start in (Start.PULLED, Start.BUILT) or self.work is not Work.BUILD


def _dockerfile(*lines: str) -> Callable[[Path], None]:
    text = "\n".join(("ARG BASE", "FROM ${BASE}", *lines, ""))

    def fill(context: Path) -> None:
        (context / "Dockerfile").write_text(text)

    return fill


def _small_files(context: Path) -> None:
    """Write 20,000 files of 100 bytes to 8 kB, a hundred to a directory."""
    chance = random.Random(20_000)
    for number in range(_SMALL_FILES):
        name = f"tree/{number // _FILES_PER_DIRECTORY:03}/file-{number:05}.txt"
        path = context / name
        if number % _FILES_PER_DIRECTORY == 0:
            path.parent.mkdir(parents=True)
        words = chance.choices(_WORDS, k=chance.randrange(12, 1000))
        path.write_bytes(b" ".join(words))
    _dockerfile("COPY tree /tree")(context)


def _large_file(context: Path) -> None:
    """Write 400 MiB, in turns a mebibyte of noise and a mebibyte of text."""
    chance = random.Random(400)
    with (context / "large.bin").open("wb") as file:
        for _ in range(200):
            file.write(chance.randbytes(_MEBIBYTE))
            text = b" ".join(chance.choices(_WORDS, k=_MEBIBYTE // 7))
            file.write(text[:_MEBIBYTE].ljust(_MEBIBYTE))
    _dockerfile("COPY large.bin /large.bin")(context)


def _nothing(_: Path) -> None:
    """Leave the context empty."""


_ONE = "echo one > /one"
_ONE_RUN = _dockerfile(f"RUN {_ONE}")
_MANY_FILES = """\
mkdir /made && cd /made && i=0 && while [ $i -lt 300 ]; do mkdir $i; j=0; \
while [ $j -lt 100 ]; do echo "file $i $j" > $i/$j; j=$((j+1)); done; i=$((i+1)); done"""
_STAGES = 4
_SLEEP = "sleep 3 && echo done > /done"


def _stages(context: Path) -> None:
    """Write stages that need nothing of each other, and one that needs something of all."""
    stages = (f"FROM ${{BASE}} AS stage-{n}\nRUN {_SLEEP}\n" for n in range(_STAGES))
    copies = (f"COPY --from=stage-{n} /done /done-{n}\n" for n in range(_STAGES))
    text = "".join(("ARG BASE\n", *stages, "FROM ${BASE}\n", *copies))
    (context / "Dockerfile").write_text(text)


SCENARIOS = (
    Scenario(
        "large-base",
        "large base (about 50,000 entries, 300 MB), cold, one RUN",
        images.large_layout,
        _ONE_RUN,
        limit=PULL,
    ),
    Scenario(
        "ten-runs",
        "large base, cold, ten RUNs",
        images.large_layout,
        _dockerfile(*(f"RUN echo {number} > /{number}" for number in range(10))),
        limit=PULL,
    ),
    Scenario(
        "small-files",
        "COPY of 20,000 small files",
        images.busybox_layout,
        _small_files,
        limit=PULL + NEW_LAYER,
        made="tree",
    ),
    Scenario(
        "large-file",
        "COPY of one 400 MiB file",
        images.busybox_layout,
        _large_file,
        limit=PULL + NEW_LAYER,
        made="large.bin",
    ),
    Scenario(
        "many-files",
        "a RUN that makes 30,000 files",
        images.busybox_layout,
        _dockerfile(f"RUN {_MANY_FILES}"),
        limit=PULL + NEW_LAYER,
        made="made",
        commands=_MANY_FILES,
    ),
    Scenario(
        "stages",
        "four stages of three seconds each that need nothing of each other",
        images.busybox_layout,
        _stages,
        limit=PULL,
        commands=_SLEEP,
    ),
    Scenario(
        "warmed",
        "large base, warmed: a tarball in a directory, one RUN",
        images.large_layout,
        _ONE_RUN,
        Start.WARMED,
        limit=(Part.EXTRACT,),
    ),
    Scenario(
        "unpacked",
        "large base, fetched and unpacked before, one RUN",
        images.large_layout,
        _ONE_RUN,
        Start.PULLED,
        limit=(*NEW_LAYER, Part.MANIFESTS),
        made="one",
        commands=_ONE,
    ),
    Scenario(
        "rebuild",
        "large base, the same build again: five steps, all cached; another repository",
        images.large_layout,
        _dockerfile(
            f"RUN {_ONE}",
            "WORKDIR /app",
            "COPY Dockerfile .",
            "RUN mkdir many && cd many && touch $(seq 1000)",
            "RUN echo two > /two",
        ),
        Start.BUILT,
        limit=(Part.MANIFESTS,),
    ),
    Scenario(
        "rebuild-50",
        "large base, the same build again: fifty steps, all cached; another repository",
        images.large_layout,
        _dockerfile("COPY Dockerfile /", *(f"RUN echo {n} > /step-{n}" for n in range(1, 50))),
        Start.BUILT,
        limit=(Part.MANIFESTS,),
    ),
    Scenario(
        "warm-again",
        "the warmer, where the large base is warm already",
        images.large_layout,
        _nothing,
        Start.WARMED,
        Work.WARM,
        limit=(Part.INTERPRETER, Part.ASK),
    ),
    Scenario(
        "help",
        "the builder's --help",
        images.busybox_layout,
        _nothing,
        work=Work.HELP,
        limit=(Part.INTERPRETER,),
    ),
    Scenario(
        "version",
        "the builder's version",
        images.busybox_layout,
        _nothing,
        work=Work.VERSION,
        limit=(Part.INTERPRETER,),
    ),
)
