"""Base images as directories: from the store that builds share, or from one of this build only.

A cache directory is there to make builds quicker; that it is full is no reason to fail one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from kaniko_core.errors import DiskError
from kaniko_core.oci.image import Layer
from kaniko_core.progress import Progress, Warned, silent
from kaniko_core.rootfs.store import LayerStore


class UnpackedLayers:
    """The unpacked layers of a build; safe to use from several threads.

    Args:
        shared: opens the store of all builds; raises DiskError where there cannot be one.
        own: opens the store of this build; called once at most, and only when needed.
        progress: warned when the shared store cannot be used.
    """

    def __init__(
        self,
        shared: Callable[[], LayerStore] | None,
        own: Callable[[], LayerStore],
        progress: Progress,
    ) -> None:
        self._open_shared = shared
        self._open_own = own
        self._progress = progress
        self._guard = threading.Lock()
        self._shared: LayerStore | None = None
        self._own: LayerStore | None = None

    def directories(
        self, layers: Sequence[Layer], *, progress: Progress = silent, name: str = ""
    ) -> tuple[Path, ...]:
        """Return the directories of *layers*; see LayerStore, which this stands for."""
        try:
            store = self._shared_store()
            if store is not None:
                return store.directories(layers, progress=progress, name=name)
        except DiskError as error:
            self._give_up(error)
        return self._own_store().directories(layers, progress=progress, name=name)

    def _shared_store(self) -> LayerStore | None:
        with self._guard:
            if self._shared is None and self._open_shared is not None:
                self._shared = self._open_shared()
            return self._shared

    def _own_store(self) -> LayerStore:
        with self._guard:
            if self._own is None:
                self._own = self._open_own()
            return self._own

    def _give_up(self, error: DiskError) -> None:
        with self._guard:
            # Stages that run at once find out at once, and one warning will do.
            first = self._open_shared is not None
            self._open_shared = self._shared = None
        if first:
            message = f"unpacked layers are not kept for later builds: {error}"
            self._progress(Warned(message, hint=error.hint))
