"""Stages side by side: what becomes of the others when one cannot be built."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kaniko_core.builder.attempt import build_stages
from kaniko_core.builder.plan import Plan
from kaniko_core.builder.planner import make_plan
from kaniko_core.builder.stage import StageBuilder
from kaniko_core.dockerfile.parser import parse_dockerfile
from kaniko_core.steps.step import LostLayer

# Two stages that need nothing, and one that needs both.
TEXT = b"FROM scratch AS lost\nFROM scratch AS slow\nFROM scratch\nCOPY --from=lost /a /\n"
PLAN = make_plan(parse_dockerfile(TEXT + b"COPY --from=slow /b /\n", "Dockerfile"))
PATIENCE = 20.0  # seconds
LOST = LostLayer("5eed", "it is gone")


@dataclass
class Stages:
    """In the place of a StageBuilder: the first stage is lost while the second one is built."""

    lost: Callable[[], None] = lambda: None
    plan: Plan = PLAN
    concurrent: bool = True
    ended: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    built: list[int] = field(default_factory=list)

    @property
    def origins(self) -> Any:
        return self

    @property
    def trees(self) -> Any:
        return self

    def build(self, number: int, built: object) -> Any:
        if number == 0:
            assert self.begun.wait(PATIENCE)
            raise LOST
        self.begun.set()
        self.lost()
        self.built.append(number)
        return None


def test_a_lost_layer_waits_for_what_others_make() -> None:
    stages = Stages()

    with pytest.raises(LostLayer):
        build_stages(cast(StageBuilder, stages), [stages.ended.set])

    assert stages.built == [1]
    assert not stages.ended.is_set(), "nobody's work is thrown away"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A signal raises, even where whoever started the tests ignores it, as nohup does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_who_is_asked_to_end_while_others_finish_ends_them() -> None:
    """The build is going to start over; a signal comes before the others are done."""

    def wait() -> None:
        time.sleep(0.2)  # the other has failed by now, and is known to have
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        stages.ended.wait(PATIENCE)

    stages = Stages(wait)
    with pytest.raises(KeyboardInterrupt):
        build_stages(cast(StageBuilder, stages), [stages.ended.set])

    assert stages.ended.is_set()
