"""One build's view of the layer cache: all keys looked up at once, layers kept in the background.

    look_up ─▶ every place, every key, in parallel ─▶ found: a step, or why there is none
    keep    ─▶ keeping.py

A place that fails, or keeps us waiting, is not asked again: a cache saves time, and must not cost
any. No layer is read here; one that turns out to be damaged raises LostLayer when it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial

from kaniko_core.errors import ContentError, KanikoError, RegistryError
from kaniko_core.lean import dataclass
from kaniko_core.progress import Noted, Progress, Warned, silent
from kaniko_core.steps.complaints import Complaints
from kaniko_core.steps.keeping import SILENCE, Keeper, Pulse
from kaniko_core.steps.step import CachedStep, LostLayer, MadeStep, Missing
from kaniko_core.steps.store import StepSource, StepStore
from kaniko_core.steps.watched import watched

_AT_ONCE = 16
# Seconds that a build waits in all for what is looked up.
_PATIENCE = 10.0


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How old layers may be, and how long one waits for a cache.

    Attributes:
        ttl: the age at which a layer is not used any more.
        patience: seconds that all look-ups of a build may take.
        silence: seconds without a byte after which pushes are given up.
    """

    ttl: timedelta
    patience: float = _PATIENCE
    silence: float = SILENCE


class _Silent(Enum):
    """The one value that stands for no answer."""

    SILENT = "silent"


_SILENT = _Silent.SILENT
# Which source is asked, by number, and for what.
_Question = tuple[int, str]
_Answer = CachedStep | bytes | ContentError | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A step, where it is from, and its layer as the store returned it."""

    step: CachedStep
    source: StepSource
    raw: CachedStep


class LayerCache:
    """What earlier builds left, and what this one leaves; safe to use from several threads.

    Args:
        store: where steps are looked up and kept; None where they are only remembered.
        others: where they are looked up besides, when *store* has none.
        limits: of age and time.
        pulse: what the stores tell of bytes that move, where they do.
        push: whether steps are added to *store*.
        stop: ends what the stores are doing, now.
        now: the clock for the age of layers.
    """

    def __init__(
        self,
        store: StepStore | None,
        others: Sequence[StepSource] = (),
        *,
        limits: Limits,
        progress: Progress = silent,
        pulse: Pulse | None = None,
        push: bool = True,
        stop: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._sources: tuple[StepSource, ...] = (*([] if store is None else [store]), *others)
        self._limits = limits
        self._progress = progress
        self._stop = stop
        self._now = now
        self._patience = limits.patience
        self._complaints = Complaints(progress)
        self._keeper = Keeper(
            store if push else None,
            self._complaints,
            pulse or Pulse(progress),
            stop=stop,
            silence=limits.silence,
        )
        self._lock = threading.Lock()
        self._found: dict[str, _Found] = {}
        self._missing: dict[str, Missing] = {}
        self._given_up = False

    def look_up(self, keys: Iterable[str]) -> None:
        """Ask for all of *keys* at once; those that were looked up before cost nothing.

        What was kept in this build is found too. Never raises for what a place does.
        """
        keys = tuple(dict.fromkeys(keys))
        self._keeper.settle(keys)
        with self._lock:
            known = self._found.keys() | self._missing.keys()
        new = [key for key in keys if key not in known and self._keeper.step(key) is None]
        if new:
            self._look_up(new)

    def found(self, key: str) -> CachedStep | None:
        """Return the step of *key*: what this build kept, else what was looked up."""
        kept = self._keeper.step(key)
        if kept is not None:
            return kept
        with self._lock:
            found = self._found.get(key)
        return None if found is None else found.step

    def why(self, key: str) -> Missing:
        """Say why *key*, which was looked up, was not found."""
        with self._lock:
            return self._missing.get(key, Missing.ABSENT)

    def keep(self, made: MadeStep) -> None:
        """Keep *made* when its layer is packed, in the background; return at once."""
        self._keeper.keep(made)

    def lose(self, lost: LostLayer) -> None:
        """Forget the step whose layer cannot be read: from now on it is a miss."""
        with self._lock:
            found = self._found.pop(lost.key, None)
            self._missing[lost.key] = Missing.LOST
        self._keeper.forget(lost.key)
        if found is None:
            return
        self._progress(Warned(f"{lost}; the step is built again", lost.hint))
        # Of a disk that failed nobody knows whether the bytes are bad.
        if found.source is self._store and isinstance(lost.__cause__, ContentError):
            self._store.discard(lost.key, found.raw)

    def read_record(self, name: str) -> bytes | None:
        """Return a small document that an earlier build kept, or None."""
        store = self._store
        if store is None:
            return None
        answer = self._asked({(0, name): (store, lambda: store.read_record(name))}).get((0, name))
        return answer if isinstance(answer, bytes) else None

    def write_record(self, name: str, make: Callable[[], bytes]) -> None:
        """Keep the small document that *make* returns, in the background; return at once.

        Where nothing is kept, *make* is not called.
        """
        self._keeper.write_record(name, make)

    def finish(self) -> None:
        """Wait until everything is kept; what cannot be kept is a warning."""
        self._keeper.finish()
        self._complaints.finish()

    def cancel(self) -> None:
        """Give up what is on its way, now."""
        self._given_up = True
        self._keeper.cancel()

    def close(self) -> None:
        """Keep nothing more."""
        self._keeper.close()

    def _look_up(self, keys: Sequence[str]) -> None:
        answers = self._asked(
            {
                (number, key): (source, partial(source.get, key))
                for number, source in enumerate(self._sources)
                for key in keys
            }
        )
        outcomes = {
            key: [
                self._outcome(source, answers.get((number, key), _SILENT))
                for number, source in enumerate(self._sources)
            ]
            for key in keys
        }
        for key, outcome in outcomes.items():
            best = _best(outcome)
            with self._lock:
                if isinstance(best, _Found):
                    self._found[key] = best
                else:
                    self._missing[key] = best
        self._report(answers, outcomes)

    def _outcome(self, source: StepSource, answer: _Answer | _Silent) -> _Found | Missing:
        match answer:
            case CachedStep():
                # An image that carries its cache is as old as its own tag.
                if source is self._store and answer.created + self._limits.ttl < self._now():
                    return Missing.EXPIRED
                layer = watched(answer.key, answer.layer, source.name, lambda: self._given_up)
                return _Found(replace(answer, layer=layer), source, answer)
            case ContentError():
                return Missing.LOST
            case _Silent():
                return Missing.UNREACHABLE
            case _:
                return Missing.ABSENT

    def _report(
        self,
        answers: Mapping[_Question, _Answer],
        outcomes: Mapping[str, Sequence[_Found | Missing]],
    ) -> None:
        """Say what is wrong with what is there, in one sentence for each place."""
        for number, source in enumerate(self._sources):
            errors = [
                answer
                for (asked, _), answer in answers.items()
                if asked == number and isinstance(answer, ContentError)
            ]
            if errors:
                self._progress(Warned(_damaged(source.name, errors), errors[0].hint))
            expired = sum(outcome[number] is Missing.EXPIRED for outcome in outcomes.values())
            if expired:
                self._progress(Noted(_expired(source.name, expired)))

    def _asked(
        self, questions: Mapping[_Question, tuple[StepSource, Callable[[], _Answer]]]
    ) -> dict[_Question, _Answer]:
        """Ask all at once, and return the answers that come in time and are no failures."""
        began = time.monotonic()
        # A place that is slow must not keep others from answering.
        pools = {
            name: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look up")
            for name in {source.name for source, _ in questions.values()}
        }
        futures = {
            pools[source.name].submit(self._ask, source, action): question
            for question, (source, action) in questions.items()
        }
        done, late = wait(futures, timeout=max(0.0, self._patience))
        # What is late may be late for long: nobody waits for it.
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._patience -= time.monotonic() - began
        for name in {questions[futures[future]][0].name for future in late}:
            self._complaints.not_read(name, RegistryError(_slow(self._limits.patience)))
        answers = {
            futures[future]: answer
            for future in done
            if not isinstance(answer := future.result(), _Silent)
        }
        if late and not self._useful(answers.values()):
            self._stop()
        return answers

    def _useful(self, answers: Iterable[_Answer]) -> bool:
        """Whether any place is of use to this build, or has been."""
        return (
            bool(self._found)
            or any(isinstance(answer, CachedStep) for answer in answers)
            or any(self._complaints.readable(source.name) for source in self._sources)
        )

    def _ask(self, source: StepSource, action: Callable[[], _Answer]) -> _Answer | _Silent:
        if not self._complaints.readable(source.name):
            return _SILENT
        try:
            return action()
        except ContentError as error:
            return error
        except KanikoError as error:
            self._complaints.not_read(source.name, error)
            return _SILENT


def _best(outcomes: Sequence[_Found | Missing]) -> _Found | Missing:
    """Return the first step that was found; else what is most worth knowing."""
    for outcome in outcomes:
        if isinstance(outcome, _Found):
            return outcome
    reasons = (Missing.LOST, Missing.EXPIRED, Missing.UNREACHABLE)
    return next((reason for reason in reasons if reason in outcomes), Missing.ABSENT)


def _damaged(place: str, errors: Sequence[ContentError]) -> str:
    if len(errors) == 1:
        return f"a cached layer in {place} cannot be used, its step is built again: {errors[0]}"
    return (
        f"{len(errors)} cached layers in {place} cannot be used, their steps are built again; "
        f"the first: {errors[0]}"
    )


def _expired(place: str, count: int) -> str:
    what = "a cached layer" if count == 1 else f"{count} cached layers"
    verb = "is" if count == 1 else "are"
    return f"{what} in {place} {verb} older than --cache-ttl allows, and not used"


def _slow(patience: float) -> str:
    return f"it does not answer within {patience:.0f} seconds"
