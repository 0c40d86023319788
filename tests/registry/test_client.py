"""The registry as a whole; what its parts do is tested beside them."""

from __future__ import annotations

from kaniko_core.registry.client import Registry


def test_cancelling_can_be_seen() -> None:
    with Registry() as registry:
        assert not registry.cancelled
        registry.cancel()
        assert registry.cancelled
