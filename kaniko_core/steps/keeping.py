"""What a build made, on its way into the cache while the build goes on.

    layer packed ──▶ remembered ──▶ pushed
                     found again in this build, should it start over

Whatever goes wrong here is a warning: the build does not need its cache to succeed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from kaniko_core.errors import KanikoError, RegistryError
from kaniko_core.oci.layer import FileLayer
from kaniko_core.progress import BytesMoved, Event, Progress
from kaniko_core.steps.complaints import Complaints
from kaniko_core.steps.images import step_image
from kaniko_core.steps.step import CachedStep, MadeStep
from kaniko_core.steps.store import StepStore

_AT_ONCE = 4
# Seconds without a byte after which a place counts as silent: the image is done, and waits.
SILENCE = 30.0
_POLL = 0.5  # seconds


class Pulse:
    """A Progress that passes events on, and knows when a byte last moved."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.last = time.monotonic()

    def __call__(self, event: Event, /) -> None:
        """Pass *event* on."""
        if isinstance(event, BytesMoved):
            self.beat()
        self._progress(event)

    def beat(self) -> None:
        """Note that something happened now."""
        self.last = time.monotonic()


class Keeper:
    """Keeps steps and records in *store*, or, without one, only until the build ends.

    Args:
        store: where to; None where nothing is to be pushed.
        complaints: told what fails.
        pulse: knows whether anything moves.
        stop: ends what *store* is doing, now.
        silence: seconds without a byte to the store after which :meth:`finish` waits no longer.
    """

    def __init__(
        self,
        store: StepStore | None,
        complaints: Complaints,
        pulse: Pulse,
        *,
        stop: Callable[[], None],
        silence: float = SILENCE,
    ) -> None:
        self._store = store
        self._complaints = complaints
        self._pulse = pulse
        self._stop = stop
        self._silence = silence
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cache")
        self._lock = threading.Lock()
        # None where the build made nothing of it after all.
        self._steps: dict[str, Future[CachedStep | None]] = {}
        self._pending: set[Future[None]] = set()
        self._pushing = 0
        self._closed = False

    def keep(self, made: MadeStep) -> None:
        """Remember *made* as soon as its layer is packed, and push it; return at once."""
        step: Future[CachedStep | None] = Future()
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                return
            self._steps[made.key] = step
            self._pending.add(done)
        made.layer.add_done_callback(lambda _: self._begin(made, step, done))

    def write_record(self, name: str, make: Callable[[], bytes]) -> None:
        """Write the record that *make* returns, if there is a store; return at once."""
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                return
            self._pending.add(done)
        self._submit(
            done, lambda: self._push(lambda store: store.write_record(name, make()), layer=False)
        )

    def step(self, key: str) -> CachedStep | None:
        """Return what was kept under *key*, if its layer is packed by now."""
        step = self._steps.get(key)
        return step.result() if step is not None and step.done() else None

    def settle(self, keys: Iterable[str]) -> None:
        """Wait until it is known of each of *keys* what was made of it."""
        with self._lock:
            steps = [step for key in keys if (step := self._steps.get(key)) is not None]
        wait(steps)

    def forget(self, key: str) -> None:
        """Remember nothing of *key* any more."""
        with self._lock:
            self._steps.pop(key, None)

    def finish(self) -> None:
        """Wait for everything that is on its way, as long as it moves."""
        self._pulse.beat()
        while not self._closed:
            with self._lock:
                pending = set(self._pending)
            if not pending:
                return
            finished, _ = wait(pending, timeout=_POLL, return_when="FIRST_COMPLETED")
            with self._lock:
                self._pending -= finished
            if finished or not self._pushing:
                self._pulse.beat()  # what is still being packed is not the store's fault
            elif time.monotonic() - self._pulse.last > self._silence:
                self._give_up()
                return
            for future in finished:
                future.result()  # what it raises is a bug, not a failure of the cache

    def cancel(self) -> None:
        """Give up what is on its way."""
        with self._lock:
            self._closed = True
            steps = list(self._steps.values())
        self._complaints.hush()
        self._stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for step in steps:
            self._settle(step, None)

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False)

    def _begin(self, made: MadeStep, step: Future[CachedStep | None], done: Future[None]) -> None:
        if made.layer.cancelled() or made.layer.exception() is not None:
            # The build has failed, and says why.
            self._settle(step, None)
            done.set_result(None)
            return
        self._submit(done, lambda: self._keep(made, made.layer.result(), step))

    def _submit(self, done: Future[None], action: Callable[[], None]) -> None:
        def run() -> None:
            try:
                action()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        try:
            self._pool.submit(run)
        except RuntimeError:
            done.set_result(None)  # given up meanwhile

    def _keep(self, made: MadeStep, layer: FileLayer, step: Future[CachedStep | None]) -> None:
        try:
            made_on = made.made_on()
        except BaseException:
            # What it was made on has failed; the build, which waits for the same, says why.
            self._settle(step, None)
            return
        kept = CachedStep(made.key, layer, made.created, str(layer.contents), made_on)
        self._settle(step, kept)
        if self._store is None:
            return
        image = step_image(kept, text=made.text, platform=made.platform)
        # Not while it is pushed: this waits for other places, whose silence is not the store's.
        known_in = made.known_in()
        self._push(lambda store: store.put(made.key, image, known_in=known_in))

    def _settle(self, step: Future[CachedStep | None], result: CachedStep | None) -> None:
        with self._lock:
            if not step.done():
                step.set_result(result)

    def _push(self, action: Callable[[StepStore], None], *, layer: bool = True) -> None:
        store = self._store
        if store is None or self._closed or not self._complaints.writable(store.name):
            return
        with self._lock:
            self._pushing += 1
        try:
            action(store)
        except KanikoError as error:
            if layer:
                self._complaints.not_written(store.name, error)
            else:
                self._complaints.record_not_written(store.name, error)
        finally:
            with self._lock:
                self._pushing -= 1

    def _give_up(self) -> None:
        if self._store is not None:
            silence = RegistryError(f"nothing has moved for {self._silence:.0f} seconds")
            self._complaints.not_written_any_more(self._store.name, silence)
        self.cancel()
