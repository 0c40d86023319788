from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from kaniko_core.oci.reference import Reference
from kaniko_core.options import RegistryOptions
from kaniko_core.registry.client import Registry
from kaniko_core.registry.crowd import Crowd
from kaniko_core.registry.pacing import Pacing
from tests.registry_server import RegistryServer
from tests.samples import image, layer

LONG = 60.0


def test_all_are_let_in_until_one_is_refused() -> None:
    crowd, together = Crowd(LONG), threading.Barrier(16)

    def ask() -> None:
        with crowd.joined():
            together.wait(LONG)

    with ThreadPoolExecutor(16) as pool:
        for asked in [pool.submit(ask) for _ in range(16)]:
            asked.result()


def test_afterwards_there_are_never_more_than_beside_the_refused_one() -> None:
    crowd, together = Crowd(LONG), threading.Barrier(3)
    inside, most, lock = 0, 0, threading.Lock()

    def be_refused() -> None:
        with crowd.joined():
            together.wait(LONG)
            crowd.shrink()
            together.wait(LONG)

    def ask() -> None:
        nonlocal inside, most
        with crowd.joined():
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        for refused in [pool.submit(be_refused) for _ in range(3)]:
            refused.result()
        for asked in [pool.submit(ask) for _ in range(100)]:
            asked.result()
    assert 1 <= most <= 2


def test_what_is_asked_on_the_way_does_not_wait_for_itself() -> None:
    """Bytes that are sent to a registry may come from the same one."""
    crowd = Crowd(LONG)
    with crowd.joined():
        crowd.shrink()
        with crowd.joined():
            pass
    with crowd.joined():
        pass


def test_nobody_waits_any_more_when_everything_is_given_up() -> None:
    crowd, let_in = Crowd(LONG), threading.Event()

    def ask() -> None:
        with crowd.joined():
            let_in.set()

    with crowd.joined():
        crowd.shrink()
        waiting = threading.Thread(target=ask)
        waiting.start()
        crowd.open()
        assert let_in.wait(LONG)
    waiting.join()


def test_nobody_waits_for_longer_than_is_allowed() -> None:
    crowd = Crowd(0.01)
    with crowd.joined():
        crowd.shrink()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: crowd.joined().__enter__()).result(LONG)


def test_registry_that_takes_few_requests_at_once_is_sent_no_more(server: RegistryServer) -> None:
    server.room = threading.Semaphore(2)
    layers = [layer({f"file{number}": b"x"}) for number in range(24)]
    options, pacing = RegistryOptions(insecure=True), Pacing(first=0.01)
    with Registry(options, push=True, pacing=pacing) as registry:
        registry.put(Reference.parse(f"{server.address}/app:1"), image(*layers))
    assert len(server.blobs["app"]) == 25
