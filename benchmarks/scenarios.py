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


@dataclass(frozen=True, slots=True)
class Scenario:
    """A build to be timed.

    Attributes:
        base: makes the base image's layout.
        fill: writes the build context, whose Dockerfile begins with ``ARG BASE``.
    """

    name: str
    title: str
    base: Callable[[], Path]
    fill: Callable[[Path], None]
    start: Start = Start.COLD


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


_MANY_FILES = """\
RUN mkdir /made && cd /made && i=0 && while [ $i -lt 300 ]; do mkdir $i; j=0; \
while [ $j -lt 100 ]; do echo "file $i $j" > $i/$j; j=$((j+1)); done; i=$((i+1)); done"""

SCENARIOS = (
    Scenario(
        "large-base",
        "large base (about 50,000 entries, 300 MB), cold, one RUN",
        images.large_layout,
        _dockerfile("RUN echo one > /one"),
    ),
    Scenario(
        "ten-runs",
        "large base, cold, ten RUNs",
        images.large_layout,
        _dockerfile(*(f"RUN echo {number} > /{number}" for number in range(10))),
    ),
    Scenario("small-files", "COPY of 20,000 small files", images.busybox_layout, _small_files),
    Scenario("large-file", "COPY of one 400 MiB file", images.busybox_layout, _large_file),
    Scenario(
        "many-files",
        "a RUN that makes 30,000 files",
        images.busybox_layout,
        _dockerfile(_MANY_FILES),
    ),
    Scenario(
        "warmed",
        "large base, warmed: a tarball in a directory, one RUN",
        images.large_layout,
        _dockerfile("RUN echo one > /one"),
        Start.WARMED,
    ),
    Scenario(
        "unpacked",
        "large base, fetched and unpacked before, one RUN",
        images.large_layout,
        _dockerfile("RUN echo one > /one"),
        Start.PULLED,
    ),
    Scenario(
        "rebuild",
        "large base, the same build again: every step is cached; another repository",
        images.large_layout,
        _dockerfile(
            "RUN echo one > /one",
            "WORKDIR /app",
            "COPY Dockerfile .",
            "RUN mkdir many && cd many && touch $(seq 1000)",
        ),
        Start.BUILT,
    ),
)
