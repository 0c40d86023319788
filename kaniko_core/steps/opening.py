"""The layer cache of one build, by its options: which places it consists of, and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from kaniko_core.cache.contents import Kind
from kaniko_core.cache.removal import make_room as make_room_in
from kaniko_core.cache.uses import Uses
from kaniko_core.cacheplaces import CacheImport
from kaniko_core.errors import UsageError
from kaniko_core.lean import dataclass
from kaniko_core.oci.platform import Platform
from kaniko_core.oci.reference import Repository
from kaniko_core.options import CacheOptions, LayerCacheOptions, OutputOptions, RegistryOptions
from kaniko_core.progress import Noted, Progress
from kaniko_core.registry.client import Registry
from kaniko_core.registry.pacing import Pacing
from kaniko_core.steps.cache import LayerCache, Limits, utc_now
from kaniko_core.steps.inline import InlineStore
from kaniko_core.steps.keeping import Pulse
from kaniko_core.steps.place import LocalPlace, PlaceKind, cache_place
from kaniko_core.steps.repository import RepositorySteps
from kaniko_core.steps.store import StepSource, StepStore

if TYPE_CHECKING:
    from kaniko_core.steps.directory import DirectorySteps

# A cache that has a bad day must not make it the build's: it is tried again once.
_RETRIES = 1


@contextmanager
def open_layer_cache(
    options: LayerCacheOptions,
    cache: CacheOptions,
    registry: RegistryOptions,
    output: OutputOptions,
    *,
    platforms: Sequence[Platform],
    shared: Path | None,
    progress: Progress,
    keep: bool = True,
    remember: bool = False,
    hold: Callable[[str], None] = lambda _: None,
    make_room: Callable[[int], bool] = lambda _: False,
    now: Callable[[], datetime] = utc_now,
) -> Iterator[LayerCache | None]:
    """Yield the layer cache; None where there is no place for one.

    When the block ends everything is kept; when it raises, what is on its way is given up.

    Args:
        options: which place, and whether to add to it.
        cache: how old layers may be.
        registry: how registries are talked to.
        output: whose first destination says which place, where the options do not.
        platforms: what is built for: of images to import from.
        shared: the cache directory that builds share, where it is in use.
        progress: told of warnings and of bytes that move.
        keep: whether there is to be a store; else layers are only imported and exported.
        remember: whether steps are at least remembered until the block ends, without any place.
        hold: called with a path below *shared*, before that is looked at: nobody removes it then
            until the build ends.
        make_room: called with a number of bytes when the disk of *shared* is full; says whether
            it is worth trying again.
        now: the clock for the age of layers.

    Raises:
        UsageError: --cache-repo names no place.
    """
    place = cache_place(options.cache_repo, output, shared) if keep else None
    pulse = Pulse(progress)
    with (
        Registry(registry, push=True, progress=pulse, pacing=Pacing(_RETRIES)) as talk,
        ExitStack() as stack,
    ):
        places = _Places(talk, shared, hold, make_room, progress, stack)
        store = None if place is None else places.store(place)
        others = _imported(options.import_cache, output, platforms, talk)
        if store is None and keep:
            progress(Noted(_NOWHERE))
        if store is None and not (others or options.export_cache or remember):
            yield None
            return
        layers = LayerCache(
            store,
            others,
            limits=_limits(cache, place),
            progress=progress,
            pulse=pulse,
            push=not options.no_push_cache,
            stop=talk.cancel,
            now=now,
        )
        try:
            yield layers
            layers.finish()
        except BaseException:
            layers.cancel()
            raise
        finally:
            layers.close()


def _limits(cache: CacheOptions, place: LocalPlace | Repository | None) -> Limits:
    if isinstance(place, LocalPlace):
        # Nobody counts the bytes that go to a disk; a slow one is not silent.
        return Limits(ttl=cache.cache_ttl, silence=inf)
    return Limits(ttl=cache.cache_ttl)


_NOWHERE = (
    "layers are not cached: there is no destination to keep them beside, and no cache directory; "
    "name a place with --cache-repo"
)


@dataclass(frozen=True, slots=True)
class _Places:
    """Makes stores of places."""

    registry: Registry
    shared: Path | None
    hold: Callable[[str], None]
    make_room: Callable[[int], bool]
    progress: Progress
    stack: ExitStack

    def store(self, place: LocalPlace | Repository) -> StepStore:
        match place:
            case Repository():
                return RepositorySteps(place, self.registry)
            case LocalPlace(kind=PlaceKind.LAYOUT):
                from kaniko_core.steps.layout import LayoutSteps

                return LayoutSteps(place.path)
            case LocalPlace():
                return self._directory(place.path)

    def _directory(self, path: Path) -> DirectorySteps:
        """Return the store in *path*; what is used of it is held while a build runs."""
        from kaniko_core.steps.directory import DirectorySteps

        if self.shared is None or not path.is_relative_to(self.shared.absolute()):
            uses = self.stack.enter_context(Uses(path))
            room = partial(make_room_in, path, kinds=(Kind.BUILT,), progress=self.progress)
            return DirectorySteps(path, hold=uses.hold, make_room=room)
        below = path.relative_to(self.shared.absolute())
        return DirectorySteps(
            path, hold=lambda key: self.hold(str(below / key)), make_room=self.make_room
        )


def _imported(
    imports: Sequence[CacheImport],
    output: OutputOptions,
    platforms: Sequence[Platform],
    registry: Registry,
) -> list[StepSource]:
    """Return the images that --import-cache names, the first destination where it names none."""
    first = output.destination[0].reference if output.destination else None
    references = [wanted.reference or first for wanted in imports]
    if None in references:
        raise UsageError(
            "--import-cache names no image, and there is no destination to take for it",
            hint="write --import-cache type=registry,ref=IMAGE",
        )
    named = dict.fromkeys(reference for reference in references if reference is not None)
    return [
        InlineStore(registry, reference, platform) for reference in named for platform in platforms
    ]
